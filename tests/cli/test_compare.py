from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import run
from vggquant.comparison import sample_pictures, study
from vggquant.style.options import StyleOptions


def test_the_command_writes_all(packed_at: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_pictures, "PIXELS_PER_PICTURE", 64 * 64)
    monkeypatch.setattr(sample_pictures, "GENERATED", 2)
    monkeypatch.setattr(study, "TRANSFER", StyleOptions(steps=1))
    page, sheet = tmp_path / "report.html", tmp_path / "grid.png"
    given = ("compare", "vgg19", packed_at[4], "--widths", "1", "--transfer", "--report", page, "--figure", sheet)
    result = run(*given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    labels = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert labels == ["reference", "vgg19-4.safetensors", "1-bit", "SQNR:", f"{page}:", f"{sheet}:"]
    assert all(len(line) <= 80 for line in lines[:-2])
    assert "itself of 8 bits" in result.stderr
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    again = run(*given)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    found = run("compare", "vgg19", "vgg19", "--json")
    assert json.loads(found.stdout)["files"][0]["content_error"] == 0
    quiet = run("compare", "vgg19", "vgg19", "--quiet")
    assert quiet.stderr == ""
    assert "regret" not in quiet.stdout  # a column of nothing


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (("vgg19",), 2, "a file or a width to compare"),
        (("vgg19", "--widths", "9"), 2, "expected widths of 1 to 8 bits, got 9"),
        (("vgg19", "--widths", "a-b"), 2, "expected widths like 8-1 or 8,4,2"),
        (("vgg19", "--widths", "8", "--figure", "x.png"), 2, "add --transfer"),
        (("vgg19", "--widths", "9" * 5000), 2, "expected widths like"),
        (("vgg19", "--widths", "８"), 2, "expected widths like"),
        (("vgg19", "--widths", "8", "--transfer", "--figure", "./x.png", "--report", "x.png"), 2, "expected two files"),
        (("vgg19", "--widths", "8", "--transfer", "--figure", "x.jpg"), 2, "a name that ends in .png"),
        (("vgg19", "missing.safetensors"), 1, "missing.safetensors"),
        (("missing.safetensors", "vgg19"), 1, "missing.safetensors"),
        (("vgg19", "vgg19", "--images", "missing"), 1, "a folder of pictures"),
        (("vgg19", "vgg19", "--style", "x.png"), 2, "add --transfer"),
        (("vgg19", "vgg19", "--transfer", "--upto", "relu1_1"), 2, "leave --upto or --transfer out"),
        (
            ("vgg19", "vgg19", "--upto", "relu9_9"),
            2,
            "--upto: expected a layer, conv1_1 … pool5, got relu9_9",
        ),
        (("vgg19", "vgg19", "--report", "/no/such/folder/x.html"), 1, "/no/such/folder/x.html: expected an existing"),
        (("vgg19", "vgg19", "--report", "/"), 1, "/: expected a file name, got a folder"),
        (("missing.safetensors", "vgg19", "--json"), 1, "missing.safetensors: expected a readable file"),
    ],
)
def test_wrong_commands_are_refused(given: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    result = run("compare", *given)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_picture_that_is_measured_on_is_not_overwritten(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    given = ("--images", tmp_path, "--transfer", "--figure", tmp_path / "a.png", "--force")
    result = run("compare", "vgg19", "--widths", "8", *given)
    assert result.exit_code == 1
    assert "an output other than the source" in result.stderr
