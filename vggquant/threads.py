"""Does the same with many things at once, in threads; what is done is left to the callers.

The calling thread always takes part. So work is done, only more slowly, where no thread can be started: at the system's
limit, or while the interpreter is ending.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(
    function: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    done: Callable[[T], object] | None = None,
) -> list[R]:
    """Call a function with each of some items, several at once; the first that fails ends the work.

    Args:
        function: Called once with each item.
        items: Taken in their order.
        threads: How many work, the calling one among them.
        done: Called with each item that is done, from any thread, but never twice at once.

    Returns:
        What the function returned, in the order of the items.

    Raises:
        BaseException: What the function or `done` raised, for the first item for which one did.
    """
    waiting = list(enumerate(items))[::-1]
    found: dict[int, R] = {}
    failures: dict[int, BaseException] = {}
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting or failures:
                    return
                index, item = waiting.pop()
            try:
                result = function(item)
                with lock:
                    found[index] = result
                    if done is not None:
                        done(item)
            except BaseException as error:
                failures[index] = error

    others: list[threading.Thread] = []
    try:
        with contextlib.suppress(RuntimeError):  # no more threads can be had
            for _ in range(min(threads, len(waiting)) - 1):
                thread = threading.Thread(target=work)
                thread.start()
                others.append(thread)
        work()
    finally:
        with lock:
            waiting.clear()
        for thread in others:
            thread.join()
    if failures:
        raise failures[min(failures)]
    return [found[index] for index in sorted(found)]
