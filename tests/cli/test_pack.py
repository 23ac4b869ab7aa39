from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import on_a_terminal
from tests.conftest import run


def test_pack_reports_and_info_and_verify_agree(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    result = run("pack", "vgg19", out, "--bits", "conv1_1=8,*=2", "--upto", "relu2_1")
    assert result.exit_code == 0, result.output
    assert "vgg19, 3 layers" in result.stdout
    table = run("info", out).stdout
    lines = table.splitlines()
    assert lines[0].split() == ["layer", "shape", "bits", "coding", "codebook", "bytes", "rate", "SQNR"]
    assert lines[1].split()[:5] == ["conv1_1", "64×3×3×3", "8", "planes", "256"]
    assert lines[2].split()[:5] == ["conv1_2", "64×64×3×3", "2", "planes", "4"]
    assert "vgg19 up to conv2_1" in table
    for text in ("Simonyan", "CC BY 4.0", "k-means", "caffe", "fits"):
        assert text in table
    assert "sound, 3 layers" in run("verify", out).stdout
    against = run("verify", out, "--against", "vgg19").stdout
    assert "lossless" in against.splitlines()[1]
    assert "SQNR over all weights:" in against


def test_a_size_instead_of_widths(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    result = run("pack", "vgg19", out, "--max-size", "100kB", "--upto", "relu2_2")
    assert result.exit_code == 0
    assert "left out conv3_1, conv3_2" in result.stderr
    assert 98_000 < out.stat().st_size <= 100_000  # one bit more anywhere is too much
    widths = [line.split()[2] for line in run("info", out).stdout.splitlines()[1:5]]
    assert len(set(widths)) > 1
    assert run("pack", "vgg19", out, "--max-size", "1kB", "--force").exit_code == 2
    assert out.stat().st_size > 98_000


@pytest.mark.parametrize(
    ("options", "shown_before"), [(("--max-size", "6MB"), b"packing"), (("--bits", "3", "--calibrate"), b"conv1_2")]
)
def test_an_interrupt_keeps_the_old_file(options: tuple[str, ...], shown_before: bytes, tmp_path: Path) -> None:
    """A real signal, in the midst of real work."""
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"old")
    code, _, shown = on_a_terminal("pack", "vgg19", out, *options, "--force", interrupt_at=shown_before)
    assert code == 130
    assert b"Interrupted; every file is the old one or a whole new one." in shown
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]
