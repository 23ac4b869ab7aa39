"""Sources in pieces: they tile the source, lie aligned, are read once, and a file that changes meanwhile is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vggquant.errors import SourceError, StorageError
from vggquant.files import contents, disk
from vggquant.files.contents import open_content
from vggquant.files.disk import Bytes, sha256
from vggquant.files.sources import read_source
from vggquant.files.torch_files import read_torch

DATA = np.random.default_rng(0).integers(0, 256, 10_000, np.uint8).tobytes()


@pytest.fixture(params=["a file", "in memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path | bytes:
    (tmp_path / "x").write_bytes(DATA)
    return tmp_path / "x" if request.param == "a file" else DATA


def test_pieces_are_the_source(source: Path | bytes) -> None:
    with open_content(source) as content:
        assert content.size == len(DATA)
        assert content.part(5, 9).tobytes() == DATA[5:9]
        assert content.part(9_990, 20_000).tobytes() == DATA[9_990:]
        found = content.in_pieces([0, 1, 4_097, 9_999], lambda number, piece: (number, piece.size))
    assert found == [(0, 1), (1, 4_096), (2, 5_902), (3, 1)]
    assert b"".join(piece.tobytes() for piece in content.pieces) == DATA
    assert sha256(*content.pieces) == sha256(DATA)


def test_what_is_aligned_in_a_file_is_aligned_in_memory(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    begins = [0, 1, 77, 128, 3_001]
    with open_content(tmp_path / "x") as content:
        content.in_pieces(begins, lambda number, piece: None)
    assert [piece.ctypes.data % 64 for piece in content.pieces] == [begin % 64 for begin in begins]


def test_errors_of_use_come_in_the_order_of_the_pieces(source: Path | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    later = threading.Event()

    def use(number: int, _: Bytes) -> None:
        if number == 0:
            assert later.wait(60)
        else:
            later.set()
        raise ValueError(number)

    monkeypatch.setattr(contents, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with open_content(source) as content, pytest.raises(ValueError, match="0"):
        content.in_pieces([0, 5_000], use)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [shorten, touch])
def test_a_torch_file_that_changes_while_it_is_read_is_refused(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(3.0)}, path)
    original = disk.RegularFile.fill

    def fill(file: disk.RegularFile, begin: int, part: Bytes) -> None:
        original(file, begin, part)
        change(path)

    monkeypatch.setattr(disk.RegularFile, "fill", fill)
    with pytest.raises(StorageError, match=r"x\.pth: expected a file that holds still"):
        read_source(path)


def test_what_is_hashed_is_what_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that is another when it is read for the second time, while the file's time is set back."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(3.0)}, path)
    sound, status = path.read_bytes(), path.stat()
    place = sound.rindex(b"PK\1\2") + 4  # the version that made the last member, which is not looked at
    original = disk.RegularFile.fill
    parts: list[int] = []

    def fill(file: disk.RegularFile, begin: int, part: Bytes) -> None:
        original(file, begin, part)
        parts.append(begin)
        if begin <= place < begin + part.size:  # changed as soon as it was read
            path.write_bytes(sound[:place] + b"\xff" + sound[place + 1 :])
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    monkeypatch.setattr(disk.RegularFile, "fill", fill)
    with open_content(path) as content, pytest.raises(SourceError, match="a directory that changes"):
        read_torch(content)


def test_tensors_keep_only_their_own_pieces(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000), "b": torch.zeros(500_000)}, tmp_path / "x.pth")
    with open_content(tmp_path / "x.pth") as content:
        array = read_torch(content).tensors["a"].read()
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert base.nbytes < 10_000


def test_ctrl_c_remains_ctrl_c_though_the_file_changes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)

    def use(*_: object) -> None:
        touch(tmp_path / "x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_content(tmp_path / "x") as content:
        content.in_pieces([0], use)
