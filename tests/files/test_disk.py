"""Reading whole files, wherever they are, and writing them so that no fault leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import POSIX
from vggquant.errors import OptionError, StorageError
from vggquant.files import disk
from vggquant.files.disk import Readable, check_output, name_of, read_file, write_file


def test_bytes_come_back(tmp_path: Path) -> None:
    assert write_file(tmp_path / "x", [b"ab", np.array([[99, 100]], np.uint8)]) == 4
    assert read_file(tmp_path / "x").tobytes() == b"abcd"
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@POSIX
def test_mode_and_umask_are_kept(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "new", [b"x"])
        (tmp_path / "old").write_bytes(b"y")
        (tmp_path / "old").chmod(0o604)
        write_file(tmp_path / "old", [b"x"], force=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o604


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "target")
    write_file(tmp_path / "link", [b"new"], force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "target").read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_file(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=r"x: expected a writable place, got No space left on device; free space or"):
        write_file(path, [b"new"], force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_comes_up_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    original = os.fsync

    def meanwhile(descriptor: int) -> None:
        path.write_bytes(b"theirs")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(StorageError, match="came up meanwhile"):
        write_file(path, [b"ours"])
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    write_file(tmp_path / "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize("name", ["new/", "missing/../x", "missing/x"])
def test_outputs_in_folders_that_are_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_file(f"{tmp_path}/{name}", [b"x"])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def chunks() -> Any:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(path, chunks(), force=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_everything_is_flushed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note(name: str, original: Any) -> Any:
        def call(*arguments: Any) -> Any:
            seen.append(name)
            return original(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, note(name, getattr(os, name)))
    write_file(tmp_path / "x", [b"x"], force=True)
    assert seen == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("name", ["missing", "no/x", "a\0b", "x" * 300])
def test_unreadable_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        read_file(tmp_path / name)
    assert "\0" not in str(caught.value)


@POSIX
def test_folders_and_pipes_are_refused_without_waiting(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="a folder"):
        read_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="a pipe"):
        read_file(tmp_path / "pipe")
    with pytest.raises(StorageError, match="a pipe"):
        check_output(tmp_path / "pipe", force=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev")
def test_devices_are_refused() -> None:
    with pytest.raises(StorageError, match="device"):
        read_file("/dev/zero")


def test_huge_files_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(disk.MAX_FILE_BYTES + 1)
    with pytest.raises(StorageError, match="at most 1342177280"):
        read_file(tmp_path / "x")


def test_a_file_that_shrinks_while_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(1000))
    original = os.fstat

    def shrink(descriptor: int) -> os.stat_result:
        found = original(descriptor)
        os.truncate(path, 10)
        return found

    monkeypatch.setattr(os, "fstat", shrink)
    with pytest.raises(StorageError, match="holds still"):
        read_file(path)


@POSIX
def test_looping_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for action in (read_file, lambda path: write_file(path, [b"x"])):
        with pytest.raises(StorageError, match="symbolic links"):
            action(tmp_path / "a")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere: run as another user")
def test_missing_permissions_are_reported(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "x").chmod(0)
    with pytest.raises(StorageError, match="Permission denied"):
        read_file(tmp_path / "x")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        write_file(tmp_path / "y", [b"x"])
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free space or choose another disk"),
        (errno.EDQUOT, "free space or choose another disk"),
        (errno.EFBIG, "free space or choose another disk"),
        (errno.EROFS, "choose a disk that can be written to"),
        (errno.ENAMETOOLONG, "choose a shorter name"),
        (errno.EMFILE, "close other files or raise the limit of open files"),
        (errno.EACCES, "check the path and its permissions"),
    ],
)
def test_the_cure_fits_the_fault(number: int, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=f"{os.strerror(number)}; {cure}$"):
        write_file(tmp_path / "x", [b"x"])


def test_a_dash_is_no_file_but_a_file_may_be_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"^-: expected a file name, got -, .*; name a file, or write \./- if"):
        write_file("-", [b"x"])
    assert not list(tmp_path.iterdir())
    write_file("./-", [b"x"])
    assert (tmp_path / "-").read_bytes() == b"x"


# ---- what has no path


class Raw:
    """Gives what it is told to, as connections do."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = iter(pieces)

    def read(self, size: int = -1, /) -> Any:
        piece = next(self.pieces, b"")
        if isinstance(piece, Exception):
            raise piece
        return piece


@pytest.mark.parametrize(
    "source",
    [
        b"abcdef",
        bytearray(b"abcdef"),
        memoryview(b"abcdef"),
        memoryview(b"a-b-c-d-e-f-")[::2],
        memoryview(b"abcdef").cast("H"),
        io.BytesIO(b"abcdef"),
        Raw(b"ab", b"cde", b"f"),
    ],
    ids=["bytes", "bytearray", "memoryview", "strided", "of numbers", "open", "in pieces"],
)
def test_bytes_and_open_files_are_read(source: Readable) -> None:
    assert read_file(source).tobytes() == b"abcdef"


def test_an_open_file_is_read_from_where_it_stands_and_left_open(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"headerdata")
    with (tmp_path / "x").open("rb") as file:
        file.seek(6)
        assert read_file(file).tobytes() == b"data"
        assert not file.closed
        assert file.tell() == 10
        assert read_file(file).size == 0
    with gzip.open(tmp_path / "y", "wb") as packed:
        packed.write(b"data" * 10**6)
    with gzip.open(tmp_path / "y") as file:
        assert read_file(file).size == 4 * 10**6


@pytest.mark.parametrize("pieces", [["text"], [b"a", None], [b"a", 7]])
def test_what_gives_no_bytes_is_refused(pieces: list[Any]) -> None:
    with pytest.raises(OptionError, match=r'^file object: expected a binary file, got .*; open it with mode "rb"'):
        read_file(Raw(*pieces))


def test_files_opened_as_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    with (
        (tmp_path / "x").open() as file,
        pytest.raises(OptionError, match=r"x: expected a binary file, got one opened as"),
    ):
        read_file(file)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ValueError("closed"), EOFError(), OSError(errno.EIO, "broken"), Exception("x")])
def test_whatever_an_open_file_raises_is_one_line(error: Exception) -> None:
    with pytest.raises(StorageError, match=r"^file object: expected a readable file, got \w+; check that it is there"):
        read_file(Raw(b"a", error))


def test_what_has_no_path_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MAX_FILE_BYTES", 5)
    for source in (b"123456", io.BytesIO(b"123456"), Raw(*[b"1"] * 100)):
        with pytest.raises(StorageError, match="expected at most 5 bytes"):
            read_file(source)


def test_names_of_what_has_no_path(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file, contextlib.closing(os.fdopen(os.dup(file.fileno()), "wb")) as numbered:
        names = [name_of(source) for source in (b"x", io.BytesIO(), file, numbered, tmp_path / "y", "z")]
    assert names == ["bytes", "file object", str(tmp_path / "x"), "file object", tmp_path / "y", "z"]
