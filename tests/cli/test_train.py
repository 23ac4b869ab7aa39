"""`vggquant train`: its report, its refusals, and Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import on_a_terminal
from tests.conftest import run
from vggquant.pictures.generated import generated_pictures

SMALL = ("--alpha", "0.125", "--blocks", "0", "--steps", "3", "--size", "32", "--batch", "1", "--style-pixels", "2500")


@pytest.fixture
def style(tmp_path: Path) -> Path:
    Image.fromarray(generated_pictures(1, 64, 72, 3)[0]).save(tmp_path / "style.png")
    (tmp_path / "photos").mkdir()
    Image.fromarray(generated_pictures(1, 64, 72, 4)[0]).save(tmp_path / "photos" / "a.png")
    return tmp_path / "style.png"


def test_the_report(style: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = run("train", style, "-o", out, "--images", tmp_path / "photos", *SMALL, "--bits", "5")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{out}: 2,566 parameters in {out.stat().st_size:,} bytes; content ")
    assert run("info", out).exit_code == 0
    again = run("train", style, "-o", out, "--images", tmp_path / "photos", *SMALL)
    assert again.exit_code == 1
    said = "expected a new file, got one that exists; choose another name or pass --force"
    assert again.stderr.splitlines()[-1].endswith(said)


def test_an_interrupt_leaves_a_checkpoint(style: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    options = (*SMALL[:4], "--steps", "500", *SMALL[6:])
    given = ("train", style, "-o", out, "--images", tmp_path / "photos", *options)
    code, _, shown = on_a_terminal(*given, interrupt_at=b"/500")
    assert code == 130
    assert f"{out}.checkpoint holds what was reached, to go on from with --resume".encode() in shown
    assert Path(f"{out}.checkpoint").exists()
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--size", "8"), "Error: --size: expected a whole number from 16"),
        (("--alpha", "0"), "Error: --alpha: expected a multiplier from"),
        (("--style-weight", "-1"), "Error: --style-weight: expected a finite number from 0 up"),
        (("--bits", "9"), "Error: --bits: "),
        (("--max-size", "10"), "Error: --max-size: expected at least"),
    ],
)
def test_options_without_a_meaning_are_refused_before_anything_is_computed(
    options: tuple[str, str], said: str, style: Path, tmp_path: Path
) -> None:
    given = (*SMALL[:4], "--steps", "1000000", *SMALL[6:], *options)
    result = run("train", style, "-o", tmp_path / "out", "--images", tmp_path / "photos", *given)
    assert result.exit_code == 2
    assert said in result.stderr
