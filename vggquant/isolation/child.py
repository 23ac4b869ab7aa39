"""The child process that reads files for another one: its whole life, and the limits that it keeps.

How it is started, fed and ended is left to `parent`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from vggquant.errors import VggQuantError
from vggquant.isolation.messages import NO_MEMORY, Limits, function_of, read, write

try:
    import resource
except ImportError:  # not POSIX: there, only the parent's deadline holds
    resource = None  # type: ignore[assignment]

_LOOK = 0.5  # seconds between looks at whether the parent is still there
_PIECE = 2**16  # bytes of a file asked for at once, where it is read lazily


def serve() -> None:
    """Answer requests until the parent is gone: the child's whole life."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # what libraries print goes nowhere
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    with contextlib.suppress(RuntimeError):  # no more threads: the end of the pipe, or of the time, ends it too
        threading.Thread(target=_leave_with, args=[os.getppid()], daemon=True).start()
    answers.write(b"!")
    answers.flush()
    with contextlib.suppress(EOFError):
        while True:
            request = read(requests, 2**20)
            if request["lazily"]:
                _answer(request, _Remote(requests, answers, request["size"]), answers)
                continue
            data = requests.read(request["size"])
            if len(data) < request["size"]:
                break
            _answer(request, data, answers)
            del data


def _leave_with(parent: int) -> None:
    """End this process soon after its parent: it may be busy, and others may hold the pipe open."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)


class _Remote(io.RawIOBase):
    """A file that the parent has; pieces of it are asked for when they are read."""

    def __init__(self, requests: IO[bytes], answers: IO[bytes], size: int) -> None:
        self.requests, self.answers, self.size = requests, answers, size
        self.place = 0
        self.pieces: dict[int, bytes] = {}  # by their numbers, all of them as they are needed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes."""
        view = memoryview(buffer).cast("B")
        begin, end = self.place, min(self.place + len(view), self.size)
        while self.place < end:
            number, within = divmod(self.place, _PIECE)
            if number not in self.pieces:
                self.pieces[number] = self._ask(number * _PIECE, min((number + 1) * _PIECE, self.size))
            part = self.pieces[number][within : within + end - self.place]
            view[self.place - begin : self.place - begin + len(part)] = part
            self.place += len(part)
        return max(0, self.place - begin)

    def _ask(self, begin: int, end: int) -> bytes:
        write(self.answers, {"wanted": [begin, end]})
        self.answers.flush()
        piece = self.requests.read(end - begin)
        if len(piece) < end - begin:  # the parent is gone
            os._exit(0)
        return piece


def _answer(request: Mapping[str, Any], data: bytes | _Remote, pipe: IO[bytes]) -> None:
    try:
        function = function_of(request["reader"])
        with _limited(Limits(request["memory"], request["seconds"])):
            found = function(data, **request["arguments"])
            arrays = {name: np.asarray(array, order="C") for name, array in found.arrays.items()}
    except VggQuantError as error:
        fields = {"expected": error.expected, "got": str(error.got), "cure": error.cure, "tensor": error.tensor}
        write(pipe, {"error": type(error).__name__, "fields": fields})
    except MemoryError:
        os._exit(NO_MEMORY)
    else:
        shapes = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        write(pipe, {"values": found.values, "arrays": shapes})
        for array in arrays.values():
            pipe.write(array.data.cast("B"))
    pipe.flush()


class _Reading:
    """The reading that runs here, if one does: the processor time at which it began."""

    began: float | None = None


@contextlib.contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """Keep what runs here within limits: beyond them, memory cannot be had, and the process ends."""
    if resource is None:
        yield
        return
    _Reading.began = time.process_time()
    limit_anew(limits)
    try:
        yield
    finally:
        _Reading.began = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(resource.RLIM_INFINITY)


def _limit_memory(size: int) -> None:
    """Limit the address space, within the hard limit that the user may have set, which stays as it is."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    found = hard if size == resource.RLIM_INFINITY else size if hard == resource.RLIM_INFINITY else min(size, hard)
    with contextlib.suppress(OSError, ValueError):  # not every system has such a limit
        resource.setrlimit(resource.RLIMIT_AS, (found, hard))


def limit_anew(limits: Limits) -> None:
    """Set other limits for the reading that runs here, once it is known how much it may take.

    Memory counts from now on, and time from when the reading began. Outside of a child process there are no limits.
    """
    if _Reading.began is None:
        return
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit_memory(used + limits.memory)
    left = _Reading.began + limits.seconds - time.process_time()
    if left <= 0:
        signal.raise_signal(signal.SIGPROF)
    signal.setitimer(signal.ITIMER_PROF, left)
