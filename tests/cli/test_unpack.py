from __future__ import annotations

from pathlib import Path

from tests.conftest import GOLDEN, run

SMALL = GOLDEN / "planes-4.safetensors"


def test_unpack_says_what_the_file_cannot(tmp_path: Path) -> None:
    result = run("unpack", SMALL, tmp_path / "x.pth")
    assert result.exit_code == 0
    assert "preprocessing torch" in result.stderr
    assert "Drawn at random" in result.stderr
    assert run("unpack", SMALL, tmp_path / "x.safetensors").stderr == ""
