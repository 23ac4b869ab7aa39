from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from tests.cli.conftest import on_a_terminal
from vggquant.cli.progress import _Bar, _Lines, progress_bar
from vggquant.progress import Progress


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


def lines_of(
    seconds: float, steps: int, capsys: pytest.CaptureFixture[str], estimated: bool = True, unknown: int = 0
) -> list[str]:
    """What is printed, where there is no terminal, of work that takes some time, unknown for the first few steps."""
    with progress_bar("stylizing") as show:
        assert show is not None
        for step in range(1, steps + 1):
            elapsed = seconds * step / steps
            left = seconds - elapsed if estimated else None
            left = left if step > unknown else None
            show(Progress("stylize", step, steps, elapsed, "8 × 6", {"loss": 3.0, "style": 2.0}, left))
    return capsys.readouterr().err.splitlines()


def test_short_work_is_done_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(9.5, 100, capsys) == []
    assert lines_of(9.5, 100, capsys, estimated=False) == []


def test_a_log_is_told_how_long_it_takes_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(30, 60, capsys) == [
        "stylizing: 58 more steps take about 29 seconds",
        "stylizing: 22 of 60, about 19 seconds left, 8 × 6, style 2",
        "stylizing: 42 of 60, about 9 seconds left, 8 × 6, style 2",
    ]
    assert lines_of(25, 50, capsys, estimated=False) == [
        "stylizing: 20 of 50, 8 × 6, style 2",
        "stylizing: 40 of 50, 8 × 6, style 2",
    ]


def test_a_log_is_told_how_long_it_takes_as_soon_as_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(40, 4, capsys, unknown=2) == [
        "stylizing: 1 of 4, 8 × 6, style 2",
        "stylizing: 2 of 4, 8 × 6, style 2",
        "stylizing: 1 more step takes about 10 seconds",
    ]


def test_a_log_stays_short_and_never_silent_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(3600, 3600, capsys)
    assert lines[0] == "stylizing: 3599 more steps take about 60 minutes"
    assert len(lines) == 20  # one every three minutes
    assert "about 57 minutes left" in lines[1]
    assert len(lines_of(36_000, 3600, capsys)) == 120  # one every five
    assert "take about 10 hours" in lines_of(36_000, 3600, capsys)[0]


def test_a_second_task_gets_a_bar_and_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.ExitStack() as stack:
        bar = _Bar("packing", stack)
        for progress in (
            Progress("pack", 1, 128, 1.0),
            Progress("pack", 128, 128, 9.0),
            Progress("calibrate", 1, 16, 2.0),
        ):
            bar.show(progress)
        assert (bar.bar.length, bar.bar.pos) == (16, 1)
    lines = _Lines("packing")
    for task, total in (("pack", 128), ("calibrate", 16)):
        lines.show(Progress(task, 1, total, 2.0, left=60.0))
    assert [line.split(" take")[0] for line in capsys.readouterr().err.splitlines()[-2:]] == [
        "packing: 127 more steps",
        "packing: 15 more steps",
    ]
