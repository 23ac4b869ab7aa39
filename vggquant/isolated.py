"""Runs readers that need a native library in a child process with limits, and hands back plain values and arrays.

A library that loops, crashes or takes all memory then takes the child with it and nobody else. What is read, and how
much of the machine that may take, is decided by the callers. The child has the user's permissions: this is no defence
against a library that can be made to run code.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import json
import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vggquant.errors import PictureError, SourceError, StorageError, VggQuantError

try:
    import fcntl
    import resource
except ImportError:  # not POSIX: there, only the deadline holds
    fcntl = resource = None  # type: ignore[assignment]

Array = npt.NDArray[Any]

WALL = 4.0  # seconds on the clock for each second of processor time: the machine may have other things to do
START = 20.0  # seconds on the clock until a child is ready
_ERRORS: dict[str, type[VggQuantError]] = {kind.__name__: kind for kind in (PictureError, SourceError)}
_TYPES = frozenset({"|u1", "<f2", "<f4", "<f8", ">f2", ">f4", ">f8"})  # of arrays that are handed back
_PIPE = 2**20  # bytes that a pipe to a child holds
_PIECE = 2**16  # bytes of a file handed over at once, where it is read lazily
_NO_MEMORY = 97  # the exit code of a child that has none left
_LENGTH = struct.Struct("<Q")
_SCRIPT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from vggquant.isolated import serve; serve()"


@dataclass(frozen=True)
class Limits:
    """What one reading may take.

    Args:
        memory: Bytes, besides those that the child has before; also of all that is handed back.
        seconds: Of processor time.
    """

    memory: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Answer:
    """What a reader hands back.

    Args:
        values: Anything that JSON holds.
        arrays: By name.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


class OverrunError(Exception):
    """A reader crashed, or took more time or memory than it may; ``str()`` says which."""


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
        answer: Answer = _function(reader)(io.BytesIO(data) if lazily else bytes(data), **arguments)
        return answer
    return _CHILDREN.of_this_process().ask(reader, data, arguments, limits, lazily)


class _Child:
    """A child process and the pipes to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

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
                        _write(process.stdin, {**request, "memory": limits.memory, "seconds": limits.seconds})
                        process.stdin.write(view[:0] if lazily else view)
                        process.stdin.flush()
                        return _received(process, view, limits)
                    except (OSError, EOFError, KeyError, TypeError, ValueError):
                        self.close()
                        raise OverrunError(_reason(process, overdue())) from None
            except VggQuantError:
                raise
            except BaseException:
                self.close()
                raise

    def _started(self) -> subprocess.Popen[bytes]:
        """The child, started anew if there is none."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _SCRIPT, json.dumps(sys.path)],
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


class _Children:
    """The child of this process; after a fork there is another one for each."""

    def __init__(self) -> None:
        self.owner = 0
        self.child = _Child()

    def of_this_process(self) -> _Child:
        if self.owner != os.getpid():
            self.owner, self.child = os.getpid(), _Child()
            atexit.register(self.child.close)
        return self.child


_CHILDREN = _Children()


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
        return "one that takes far longer"
    if code == _NO_MEMORY:
        return "one that takes far more memory"
    return f"one that the library crashes on (exit {code})"


def _write(pipe: IO[bytes], values: Mapping[str, Any]) -> None:
    text = json.dumps(values).encode()
    pipe.write(_LENGTH.pack(len(text)) + text)


def _read(pipe: IO[bytes], limit: int) -> Any:
    (size,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size).data)
    if size > limit:
        raise EOFError
    return json.loads(bytes(_exactly(pipe, size)))


def _exactly(pipe: IO[bytes], size: int) -> Array:
    found = np.empty(size, np.uint8)
    view = found.data
    while len(view):
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return found


def _received(process: subprocess.Popen[bytes], data: memoryview, limits: Limits) -> Answer:
    """The answer of a child, of which nothing is believed that does not fit its form."""
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = process.stdout
    message = _read(pipe, limits.memory)
    while "wanted" in message:
        begin, end = message["wanted"]
        process.stdin.write(data[begin:end])
        process.stdin.flush()
        message = _read(pipe, limits.memory)
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
            raise ValueError(size)
        arrays[name] = _exactly(pipe, size).view(kind).reshape(shape)
    return Answer(message["values"], arrays)


# ---- in the child


def serve() -> None:
    """Answer requests until the parent is gone: the child's whole life."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nothing:  # what libraries print goes nowhere
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    answers.write(b"!")
    answers.flush()
    with contextlib.suppress(EOFError):
        while True:
            request = _read(requests, 2**20)
            if request["lazily"]:
                _answer(request, _Remote(requests, answers, request["size"]), answers)
                continue
            data = requests.read(request["size"])
            if len(data) < request["size"]:
                break
            _answer(request, data, answers)
            del data


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
        _write(self.answers, {"wanted": [begin, end]})
        self.answers.flush()
        piece = self.requests.read(end - begin)
        if len(piece) < end - begin:  # the parent is gone
            os._exit(0)
        return piece


def _answer(request: Mapping[str, Any], data: bytes | _Remote, pipe: IO[bytes]) -> None:
    try:
        function = _function(request["reader"])
        with _limited(Limits(request["memory"], request["seconds"])):
            found = function(data, **request["arguments"])
            arrays = {name: np.ascontiguousarray(array) for name, array in found.arrays.items()}
    except VggQuantError as error:
        fields = {"expected": error.expected, "got": str(error.got), "cure": error.cure, "tensor": error.tensor}
        _write(pipe, {"error": type(error).__name__, "fields": fields})
    except MemoryError:
        os._exit(_NO_MEMORY)
    else:
        shapes = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        _write(pipe, {"values": found.values, "arrays": shapes})
        for array in arrays.values():
            pipe.write(array.data.cast("B"))
    pipe.flush()


def _function(reader: str) -> Callable[..., Answer]:
    module, _, name = reader.partition(":")
    function: Callable[..., Answer] = getattr(importlib.import_module(module), name)
    return function


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
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def limit_anew(limits: Limits) -> None:
    """Set other limits for the reading that runs here, once it is known how much it may take.

    Memory counts from now on, and time from when the reading began. Outside of a child process there are no limits.
    """
    if _Reading.began is None:
        return
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + limits.memory, resource.RLIM_INFINITY))
    left = _Reading.began + limits.seconds - time.process_time()
    if left <= 0:
        signal.raise_signal(signal.SIGPROF)
    signal.setitimer(signal.ITIMER_PROF, left)
