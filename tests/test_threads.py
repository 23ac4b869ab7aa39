from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vggquant.threads import map_in_threads

ROOT = os.path.dirname(os.path.dirname(__file__))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_results_are_in_the_order_of_the_items(threads: int) -> None:
    seen: list[int] = []
    assert map_in_threads(lambda n: n * n, range(100), threads, seen.append) == [n * n for n in range(100)]
    assert sorted(seen) == list(range(100))
    assert map_in_threads(len, [], threads) == []


def test_threads_work_at_once() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert len(set(map_in_threads(lambda _: barrier.wait(), range(3), 3))) == 3


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_failure_is_raised_and_ends_the_work(threads: int) -> None:
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        if number >= 5:
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^5$"):
        map_in_threads(fail, range(1000), threads)
    assert len(begun) < 50
    with pytest.raises(KeyboardInterrupt):
        map_in_threads(lambda number: signal_here(number), range(8), threads)


def signal_here(number: int) -> None:
    if number == 3:
        raise KeyboardInterrupt


def test_without_threads_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert map_in_threads(str, range(3), 8) == ["0", "1", "2"]


def test_packing_and_loading_go_on_after_the_main_thread_has_ended(tmp_path: Path) -> None:
    out = os.fspath(tmp_path / "x")
    script = f"""
import threading
from vggquant import load_quantized_vgg, pack
def work():
    threading.main_thread().join()
    pack("vgg19", {out!r}, bits=1, upto="relu1_2")
    print(len(load_quantized_vgg({out!r}).state_dict()))
threading.Thread(target=work).start()
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (found.stdout, found.stderr) == ("4\n", "")
