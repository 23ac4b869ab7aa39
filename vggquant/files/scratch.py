"""Folders for temporary files, which are removed when work ends and, where it was killed, by the next that begins.

Temporary files beside an output are left to `disk`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vggquant.errors import StorageError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

_PREFIX = "vggquant-"  # of the names of folders
_STALE = 60.0  # seconds after which a folder may be one that killed work left behind


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder, held for as long as the block runs.

    Raises:
        StorageError: There is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
    except OSError as error:
        raise StorageError("a folder for temporary files", error.strerror, "name one with room in TMPDIR") from None
    with folder as name, contextlib.ExitStack() as held:
        if fcntl is not None:
            _sweep(Path(name).parent)
            descriptor = os.open(name, os.O_RDONLY)
            held.callback(os.close, descriptor)
            _lock(descriptor)
        yield Path(name)


def _lock(descriptor: int) -> bool:
    """Lock a folder for as long as it is open; false if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(place: Path) -> None:
    """Remove folders of this user that killed work left behind, but never one that is held."""
    for stale in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = stale.lstat()
            # a young one may not be held yet
            young = time.time() - status.st_mtime < _STALE
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or young:
                continue
            descriptor = os.open(stale, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(descriptor):
                    shutil.rmtree(stale, ignore_errors=True)
            finally:
                os.close(descriptor)
