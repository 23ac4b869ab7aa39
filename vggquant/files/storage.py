"""Regular files ↔ bytes: reads whole, writes atomically; knows nothing of what the bytes mean."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vggquant.errors import StorageError, printable

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

Bytes = npt.NDArray[np.uint8]
Chunk = bytes | Bytes
PathLike = str | os.PathLike[str]

HEAD_BYTES = 2**16  # more than a packed file's header
_PREFIX, _SUFFIX = ".vggquant-", ".tmp"  # of temporary files
_STALE = 60.0  # seconds
MAX_FILE_BYTES = 5 * 2**28  # a full VGG-19 with its classifier in float64 takes 1.15 GB


def read_file(path: PathLike, needed: Callable[[Bytes], int] | None = None) -> Bytes:
    """Read a regular file.

    Opened once and never mapped, so that a file replaced meanwhile is read as it was, and a FIFO or
    device cannot block.

    Args:
        path: Which file.
        needed: Given the file with its first `HEAD_BYTES` filled in, tells how many bytes must be;
            all if not given. The rest is of the right length, but not filled in.

    Returns:
        uint8, 1-D, as long as the file.

    Raises:
        StorageError: Missing, not permitted, not a regular file, over 1.25 GiB, or changed while read.
    """
    with _reported(path, "a readable file"):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            before = os.fstat(descriptor)
            _require_regular(path, before)
            if before.st_size > MAX_FILE_BYTES:
                cure = "save its convolutions alone"
                raise StorageError(f"at most {MAX_FILE_BYTES} bytes", before.st_size, cure, path=path)
            data = np.empty(before.st_size, np.uint8)
            with open(descriptor, "rb", buffering=0, closefd=False) as file:
                complete = _fill(file, data[:HEAD_BYTES])
                end = data.size if needed is None or not complete else needed(data)
                complete = complete and _fill(file, data[HEAD_BYTES:end])
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    if not complete or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise StorageError("a file that holds still", "one that changed while being read", "try again", path=path)
    return data


def _fill(file: io.FileIO, part: Bytes) -> bool:
    """Read a whole part; whether the file was long enough."""
    view = part.data
    while len(view) and (count := file.readinto(view)):
        view = view[count:]
    return not len(view)


def check_output(path: PathLike, *, force: bool, sources: Iterable[PathLike] = ()) -> None:
    """Refuse an output early, before any work is done for it.

    Args:
        path: Where the output will go.
        force: Whether an existing file may be replaced.
        sources: Files being read, none of which the output may be.

    Raises:
        StorageError: The folder is missing, the file exists without `force`, is not a regular file,
            or is a source.
    """
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
            raise StorageError("a new file", "one that exists", "choose another name or pass --force", path=path)


def write_file(path: PathLike, chunks: Iterable[Chunk], *, force: bool = False) -> int:
    """Write a file so that it is either the old one or the whole new one.

    A temporary file in the same folder is written, flushed to disk and renamed; then the folder is
    flushed. The mode of an existing file is kept, and a symbolic link is followed, not replaced.
    Temporary files that killed writers left there are swept away.

    Returns:
        Bytes written.

    Raises:
        StorageError: As `check_output`; or the system refused a write, with the old file intact.
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
                if fcntl is not None:  # renamed while locked, lest it be swept
                    _put_in_place(temporary, target, force=force)
            if fcntl is None:  # where an open file cannot be renamed
                _put_in_place(temporary, target, force=force)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    return size


def _lock(file: io.FileIO) -> bool:
    """Hold a temporary file, as long as it is open; false if somebody else does."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the temporary files of writers that were killed, never one that a live writer holds."""
    for stale in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = stale.lstat()
            # a new one may not be locked yet
            if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < _STALE:
                continue
            with open(stale, "rb", buffering=0) as file:
                if _lock(file):
                    stale.unlink()


def _put_in_place(temporary: Path, target: Path, *, force: bool) -> None:
    if not force:  # a file that came up meanwhile is not ours to replace, which a link cannot do
        try:
            os.link(temporary, target)
        except FileExistsError:
            cure = "choose another name or pass --force"
            raise StorageError("a new file", "one that came up meanwhile", cure, path=target) from None
        except OSError:  # a file system without links
            pass
        else:
            temporary.unlink()
            return
    os.replace(temporary, target)


def make_folder(path: PathLike) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        StorageError: A file is in the way, or the system refuses.
    """
    with _reported(path, "a folder, or a place for one"):
        os.makedirs(path, exist_ok=True)


def sha256(*chunks: Chunk) -> str:
    """SHA-256 of bytes, one chunk after the other, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.data if isinstance(chunk, np.ndarray) else chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # where a folder cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP):
            raise  # but the file is in place where a folder may not be read, or does not flush


def _require_regular(path: PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, device or socket"
        raise StorageError("a regular file", kind, "name a file", path=path)


@contextlib.contextmanager
def _reported(path: PathLike, expected: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageError(expected, reason, "check the path and its permissions", path=path) from None
