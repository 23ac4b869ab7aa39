from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from vggquant.errors import StorageError
from vggquant.files.scratch import temporary_folder


def test_a_folder_goes_when_its_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    with temporary_folder() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_work_are_removed_but_none_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    stale, young, other, file, link = (tmp_path / name for name in ("vggquant-a", "vggquant-b", "c", "vggquant-d", "e"))
    for folder in (stale, young, other):
        folder.mkdir()
        (folder / "x").write_bytes(b"x")
    file.write_bytes(b"x")
    link = tmp_path / "vggquant-link"
    link.symlink_to(other)
    with temporary_folder() as held:
        for path in (stale, other, file, held):
            os.utime(path, (1, 1))
        with temporary_folder():
            assert not stale.exists()
            assert all(path.exists() for path in (young, other / "x", file, held, link))


def test_without_room_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail)
    with (
        pytest.raises(StorageError, match="temporary files, got No usable temporary directory found"),
        temporary_folder(),
    ):
        pass
