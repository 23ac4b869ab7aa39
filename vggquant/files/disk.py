"""Reads whole files, wherever they are, and writes them atomically, so that no fault leaves half a file behind.

Of what has a path, only regular files are read or replaced. Bytes in memory, open files and resources of packages are
read alike. What the bytes mean is left to the other modules of `files`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vggquant.errors import OptionError, StorageError, VggQuantError, printable

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

Bytes = npt.NDArray[np.uint8]
Chunk = bytes | Bytes
PathLike = str | os.PathLike[str]


@runtime_checkable
class OpenFile(Protocol):
    """An open binary file, or whatever else gives bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes, and none at the end."""


@runtime_checkable
class Resource(Protocol):
    """What ``importlib.resources.files`` finds in a package, a ``Traversable``."""

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        """The open file."""


Readable = PathLike | bytes | bytearray | memoryview | OpenFile | Resource

HEAD_BYTES = 2**16  # longer than the header of a packed file
MAX_FILE_BYTES = 5 * 2**28  # a full VGG-19 with its classifier in float64 takes 1.15 GB
_PREFIX, _SUFFIX = ".vggquant-", ".tmp"  # of the names of temporary files
_LINE = 64  # bytes of the processor's cache that go together
_PIECE = 2**20  # bytes asked of an open file at once
_STALE = 60.0  # seconds after which a temporary file may be one that a killed writer left behind

_CURES: Mapping[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or choose another disk"),
    errno.EROFS: "choose a disk that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "close other files or raise the limit of open files",
}


def read_file(source: Readable, needed: Callable[[Bytes], int] | None = None, *, most: int | None = None) -> Bytes:
    """Read a file.

    One that has a path is opened once and never memory-mapped, so that a file that is replaced in the meantime is still
    read as it was. A FIFO or a device is refused without waiting for it. An open file is read from where it stands to
    its end, and left open.

    Args:
        source: Which file.
        needed: For a file with a path: receives the bytes after the first `HEAD_BYTES` are read, and returns how many
            must be read in all. By default, the whole file is read.
        most: Of a file with a path: how many bytes it may have, if not 1.25 GiB.

    Returns:
        uint8, 1-D, as long as the file. Bytes that were not needed are there, but hold anything. For bytes in memory,
        a view of them.

    Raises:
        StorageError: The file is missing, may not be read, is not a regular file, is larger than 1.25 GiB, or changed
            while it was read.
        OptionError: `source` is nothing that can be read, or a file that was opened as text.
    """
    if isinstance(source, (str, os.PathLike)):
        with open_regular(source, most) as regular:
            return regular.whole(needed)
    if isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source)
        _require_size(name_of(source), view.nbytes)
        return np.frombuffer(view if view.c_contiguous else view.tobytes(), np.uint8)
    if not isinstance(source, (OpenFile, Resource)):
        raise OptionError("a path, bytes or an open binary file", type(source).__name__, "pass one of these")
    try:
        if isinstance(source, OpenFile):
            return _read_open(source)
        with source.open("rb") as file:
            return _read_open(file)
    except VggQuantError:
        raise
    except Exception as error:  # whatever archives and connections raise
        cure = "check that it is there, whole and open"
        raise StorageError("a readable file", _reason(error), cure, path=name_of(source)) from error


def name_of(source: Readable) -> PathLike:
    """What errors call a file: its path or name if it has one."""
    if isinstance(source, (str, os.PathLike)):
        return source
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes"
    name = getattr(source, "name", None)  # of a file without a name it may be a number
    return name if isinstance(name, str) else "file object"


class RegularFile:
    """A regular file that is open to be read, from any thread. Made by `open_regular`."""

    def __init__(self, path: PathLike, file: io.FileIO, size: int) -> None:
        self.size = size
        self._path = path
        self._file = file
        self._lock = threading.Lock()

    def fill(self, begin: int, part: Bytes) -> None:
        """Read what the file holds from a place on, as much as there is room for."""
        view = part.data
        with self._lock, _reported(self._path, "a readable file"):
            self._file.seek(begin)
            while len(view) and (count := self._file.readinto(view)):
                view = view[count:]
        if len(view):
            raise _changed(self._path)

    def whole(self, needed: Callable[[Bytes], int] | None = None) -> Bytes:
        """All of the file, or what is needed of it, see `read_file`."""
        room = np.empty(self.size + _LINE, np.uint8)  # the system copies thrice as fast to a line's beginning
        begin = -room.ctypes.data % _LINE
        data = room[begin : begin + self.size]
        self.fill(0, data[:HEAD_BYTES])
        end = data.size if needed is None else needed(data)
        self.fill(HEAD_BYTES, data[HEAD_BYTES:end])
        return data


@contextlib.contextmanager
def open_regular(path: PathLike, most: int | None = None) -> Iterator[RegularFile]:
    """Open a file to be read as `read_file` does, and refuse it if it has changed when it is closed."""
    reported = functools.partial(_reported, path, "a readable file")
    with contextlib.ExitStack() as stack:
        with reported():
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            stack.callback(reported()(os.close), descriptor)
            before = os.fstat(descriptor)
            _require_regular(path, before)
            _require_size(path, before.st_size, most)
            file = stack.enter_context(open(descriptor, "rb", buffering=0, closefd=False))
        failure = None
        try:
            yield RegularFile(path, file, before.st_size)
        except Exception as error:  # of which a change may be the cause; Ctrl-C remains what it is
            failure = error
        after = reported()(os.fstat)(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _changed(path)
        if failure is not None:
            raise failure


def _changed(path: PathLike) -> StorageError:
    return StorageError("a file that holds still", "one that changed while being read", "try again", path=path)


def _read_open(file: OpenFile) -> Bytes:
    """The rest of an open file."""
    if isinstance(file, io.TextIOBase):
        raise _no_binary_file(file, "one opened as text")
    data = bytearray()
    while (piece := file.read(_PIECE)) != b"":
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise _no_binary_file(file, f"one that gives {type(piece).__name__}")
        data += piece
        _require_size(name_of(file), len(data))
    return np.frombuffer(data, np.uint8)


def _no_binary_file(file: OpenFile, got: str) -> OptionError:
    return OptionError("a binary file", got, 'open it with mode "rb"', path=name_of(file))


def _require_size(path: PathLike, size: int, most: int | None = None) -> None:
    most = MAX_FILE_BYTES if most is None else most
    if size > most:
        raise StorageError(f"at most {most} bytes", size, "save its convolutions alone", path=path)


def check_output(path: PathLike, *, force: bool, sources: Iterable[PathLike] = ()) -> None:
    """Check early that an output can be written, before any work is done for it.

    Args:
        path: Where the output will go.
        force: Whether an existing file may be replaced.
        sources: Files that are read; the output may be none of them.

    Raises:
        StorageError: The folder is missing or cannot be written to, or the output exists and `force` is false, is not
            a regular file, or is one of the sources; or the output is ``-``.
    """
    if os.fspath(path) == "-":
        cure = "name a file, or write ./- if it shall be called so"
        raise StorageError("a file name", "-, which means standard output elsewhere", cure, path=path)
    with _reported(path, "a writable place"):
        folder, name = os.path.split(os.fspath(path))
        if not os.path.isdir(folder or "."):
            raise StorageError("an existing folder", f"no folder {printable(folder)}", "create it first", path=path)
        if not name:
            raise StorageError("a file name", "a folder", "name a file", path=path)
        if not os.access(os.path.dirname(os.path.realpath(path)), os.W_OK):
            raise StorageError("a writable folder", f"{printable(folder) or '.'}", "choose another", path=path)
        try:
            existing = os.stat(os.path.realpath(path))
        except FileNotFoundError:
            return
        _require_regular(path, existing)
        if any(os.path.exists(source) and os.path.samestat(existing, os.stat(source)) for source in sources):
            raise StorageError("an output other than the source", "the same file", "choose another name", path=path)
        if not force:
            raise StorageError("a new file", "one that exists", "choose another name or pass `force=True`", path=path)


def write_file(
    path: PathLike,
    chunks: Iterable[Chunk],
    *,
    force: bool = False,
    reader: Callable[[Bytes], object] | None = None,
) -> int:
    """Write a file atomically: whatever happens, `path` holds either the old file or the whole new one.

    The bytes are written to a temporary file in the same folder, which is flushed to disk, read back and renamed. Then
    the folder is flushed. An existing file keeps its mode, and a symbolic link is followed rather than replaced.
    Temporary files that killed writers left in the folder are removed.

    Args:
        path: Where the file goes.
        chunks: The bytes, one chunk after the other.
        force: Whether an existing file may be replaced.
        reader: Reads what was written, and raises a `VggQuantError` if that is no sound file; by default, nothing is
            read back.

    Returns:
        Number of bytes written.

    Raises:
        StorageError: `check_output` refuses the path, the system refused a write, or `reader` refused what it read;
            then the old file is intact.
    """
    check_output(path, force=force)
    target = Path(os.path.realpath(path))
    temporary = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
    with _reported(path, "a writable place"):
        _sweep(target.parent)
        try:
            with open(temporary, "xb", buffering=0) as file:
                _lock(file)
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
                for chunk in chunks:
                    view = memoryview(chunk.data if isinstance(chunk, np.ndarray) else chunk).cast("B")
                    while len(view):
                        view = view[file.write(view) :]
                size = file.tell()
                os.fsync(file.fileno())
                if reader is not None:
                    _read_back(temporary, path, reader)
                if fcntl is not None:  # while the file is locked, so that no other writer removes it
                    _put_in_place(temporary, target, force=force)
            if fcntl is None:  # Windows cannot rename an open file
                _put_in_place(temporary, target, force=force)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    return size


def _read_back(temporary: Path, path: PathLike, reader: Callable[[Bytes], object]) -> None:
    """Refuse to put a file in place that its own reader refuses."""
    data = read_file(temporary)
    try:
        reader(data)
    except VggQuantError as error:
        expected = f"{error.expected} to be read back"
        cure = "check the disk and the memory of this machine, and try again"
        raise StorageError(expected, error.got, cure, path=path, tensor=error.tensor) from None


def _lock(file: io.FileIO) -> bool:
    """Lock a temporary file for as long as it is open; false if another process holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left behind, but never one that a live writer holds."""
    for stale in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = stale.lstat()
            # a young one may belong to a writer that has not locked it yet
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < _STALE:
                continue
            with open(stale, "rb", buffering=0) as file:
                if _lock(file):
                    stale.unlink()


def _put_in_place(temporary: Path, target: Path, *, force: bool) -> None:
    if not force:  # a link, unlike a rename, cannot replace a file that somebody else has made in the meantime
        try:
            os.link(temporary, target)
        except FileExistsError:
            cure = "choose another name or pass `force=True`"
            raise StorageError("a new file", "one that came up meanwhile", cure, path=target) from None
        except OSError:  # some file systems have no links
            pass
        else:
            temporary.unlink()
            return
    os.replace(temporary, target)


def make_folder(path: PathLike) -> None:
    """Make a folder, and those above it, if they are missing.

    Raises:
        StorageError: A file is in the way, or the system refuses.
    """
    with _reported(path, "a folder, or a place for one"):
        os.makedirs(path, exist_ok=True)


def sha256(*chunks: Chunk) -> str:
    """SHA-256 of some chunks, one after the other, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.data if isinstance(chunk, np.ndarray) else chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere, a folder cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise  # the others mean that this folder may not be read or cannot be flushed; the file is in place


def _require_regular(path: PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, device or socket"
        raise StorageError("a regular file", kind, "name a file", path=path)


@contextlib.contextmanager
def _reported(path: PathLike, expected: str) -> Iterator[None]:
    """Turn what the operating system raises into a `StorageError` about `path`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError if there is a NUL in the name, or an open file was closed
        number = error.errno if isinstance(error, OSError) else None
        cure = _CURES.get(number, "check the path and its permissions")
        raise StorageError(expected, _reason(error), cure, path=path) from None


def _reason(error: Exception) -> str:
    """What an exception says, without number and path."""
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__
