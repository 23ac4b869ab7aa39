"""Runs readers that need a native library in a child process with limits, and hands back plain values and arrays.

A library that loops, crashes or takes all memory then takes the child with it and nobody else. What is read, and how
much of the machine that may take, is decided by the callers. The child has the user's permissions: this is no defence
against a library that can be made to run code. What the child does is left to `child`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vggquant.errors import PictureError, SourceError, StorageError, VggQuantError
from vggquant.isolation.messages import NO_MEMORY, Answer, Array, Limits, exactly, function_of, read, write

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

WALL = 4.0  # seconds on the clock for each second of processor time: the machine may have other things to do
START = 20.0  # seconds on the clock until a child is ready
_ERRORS: dict[str, type[VggQuantError]] = {kind.__name__: kind for kind in (PictureError, SourceError)}
_TYPES = frozenset({"|u1", "<f2", "<f4", "<f8", ">f2", ">f4", ">f8"})  # of arrays that are handed back
_PIPE = 2**20  # bytes that a pipe to a child holds
_SCRIPT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from vggquant.isolation.child import serve; serve()"
_TOO_LARGE = "one that takes too much memory"
_STRANGE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)  # what answers of no known form lead to


class OverrunError(Exception):
    """A reader crashed, or took more time or memory than it may, or answered nonsense; ``str()`` says which."""


def read_isolated(
    reader: str, data: bytes | memoryview, arguments: Mapping[str, Any], limits: Limits, *, lazily: bool = False
) -> Answer:
    """Have a file read by a child process, which is kept for the next one.

    Args:
        reader: Module and function, ``vggquant.files.hdf5_files:read_here``. The function takes the bytes and the
            arguments, and returns an `Answer`.
        data: The file.
        arguments: Anything that JSON holds.
        limits: What the reading may take.
        lazily: Whether the function takes an open file instead of the bytes, of which only what it reads is handed
            over.

    Raises:
        VggQuantError: What the reader raised.
        StorageError: There can be no child process.
        OverrunError: The child died or overran its limits.
    """
    if not sys.executable or getattr(sys, "frozen", False):  # there is no interpreter to start
        answer: Answer = function_of(reader)(io.BytesIO(data) if lazily else bytes(data), **arguments)
        return answer
    return _child().ask(reader, data, arguments, limits, lazily)


class _Child:
    """A child process and the pipes to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def ask(
        self, reader: str, data: bytes | memoryview, arguments: Mapping[str, Any], limits: Limits, lazily: bool
    ) -> Answer:
        """Hand over a file and wait for the answer; whatever goes wrong ends the child."""
        view = memoryview(data).cast("B")
        request = {"reader": reader, "arguments": arguments, "size": len(view), "lazily": lazily}
        with self.lock:
            try:
                process = self._started()
                assert process.stdin is not None
                assert process.stdout is not None
                with _deadline(process, WALL * limits.seconds) as overdue:
                    try:
                        write(process.stdin, {**request, "memory": limits.memory, "seconds": limits.seconds})
                        process.stdin.write(view[:0] if lazily else view)
                        process.stdin.flush()
                        return _received(process, view, limits)
                    except (OSError, EOFError):
                        self.close()
                        raise OverrunError(_reason(process, overdue())) from None
                    except _STRANGE:
                        self.close()
                        raise OverrunError("one that makes its reader answer nonsense") from None
            except VggQuantError:
                raise
            except BaseException:
                self.close()
                raise

    def _started(self) -> subprocess.Popen[bytes]:
        """The child, started anew if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            places = json.dumps([place for place in sys.path if isinstance(place, str)])  # Python ignores all others
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _SCRIPT, places],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # where libraries print
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    start_new_session=True,  # so that Ctrl-C is left to this process
                )
            except OSError as error:  # of memory or processes there are no more
                raise _unready(error.strerror or "none") from None
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            with contextlib.suppress(OSError, AttributeError):  # Linux alone has larger pipes
                fcntl.fcntl(self.process.stdin, fcntl.F_SETPIPE_SZ, _PIPE)
            with _deadline(self.process, START):
                if not self.process.stdout.read(1):
                    self.close()
                    raise _unready("one that does not start")
        return self.process

    def close(self) -> None:
        """End the child, whatever it is doing."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


_CHILDREN: dict[int, _Child] = {}  # by process: after a fork there is another one


def _child() -> _Child:
    """The child of this process."""
    here = os.getpid()
    return _CHILDREN.get(here) or _CHILDREN.setdefault(here, _Child())  # which is one, whatever threads do


@contextlib.contextmanager
def _deadline(process: subprocess.Popen[bytes], seconds: float) -> Iterator[Callable[[], bool]]:
    """Kill a process that takes too long on the clock; gives whether that has happened."""
    over = threading.Event()

    def end() -> None:
        over.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads: only the limit on processor time holds
        timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


def _unready(got: str) -> StorageError:
    return StorageError("a child process to read in", got, "free memory, or raise the limit of processes")


def _reason(process: subprocess.Popen[bytes], overdue: bool) -> str:
    """Why a child died."""
    code = process.returncode
    if overdue or -code in (getattr(signal, "SIGPROF", 0), getattr(signal, "SIGXCPU", 0)):
        return "one that takes too long to read"
    if code == NO_MEMORY:
        return _TOO_LARGE
    return f"one that crashes its reader (exit {code})"


def _received(process: subprocess.Popen[bytes], data: memoryview, limits: Limits) -> Answer:
    """The answer of a child, of which nothing is believed that does not fit its form."""
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = process.stdout
    message = read(pipe, limits.memory)
    while "wanted" in message:
        begin, end = message["wanted"]
        process.stdin.write(data[begin:end])
        process.stdin.flush()
        message = read(pipe, limits.memory)
    if "error" in message:
        fields = message["fields"]
        raise _ERRORS[message["error"]](fields["expected"], fields["got"], fields["cure"], tensor=fields["tensor"])
    arrays: dict[str, Array] = {}
    left = limits.memory
    for name, kind, shape in message["arrays"]:
        if kind not in _TYPES or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(kind)
        size = np.dtype(kind).itemsize * math.prod(shape)
        left -= size
        if left < 0:
            raise OverrunError(_TOO_LARGE)
        arrays[name] = exactly(pipe, size).view(kind).reshape(shape)
    return Answer(message["values"], arrays)
