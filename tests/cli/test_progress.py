from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import on_a_terminal


def test_a_terminal_sees_a_progress_bar(tmp_path: Path) -> None:
    code, stdout, shown = on_a_terminal("pack", "vgg19", tmp_path / "x", "--bits", "1", "--upto", "relu2_1")
    assert code == 0
    for text in (b"packing", b"3/3", b"1 bits"):
        assert text in shown
    assert b"None" not in shown
    assert b"packing" not in stdout


def test_a_terminal_of_80_columns_sees_a_transfers_progress(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("--steps", "40", "--size", "100", "--style-size", "64")
    code, _, shown = on_a_terminal("stylize", content, style, "-o", out, *given)
    assert code == 0
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line) for line in shown.decode().split("\r")]
    last = next(line for line in reversed(lines) if "40/40" in line)
    assert re.search(r"0:00 [\d.]+/s 100 × \d+ content [\d.e+-]+ style [\d.e+-]+", last)
    assert all(len(line.strip()) <= 80 for line in lines if "/40" in line)
