from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import GOLDEN, random_arrays, run
from tests.packed import rebuilt
from vggquant.files.container import read
from vggquant.files.sources import embedded_path
from vggquant.files.tensors import write_safetensors
from vggquant.networks.vgg import ARCHITECTURES

SMALL = GOLDEN / "planes-4.safetensors"


def test_verify_measures_against_any_layout(tmp_path: Path) -> None:
    run("pack", "vgg19", tmp_path / "x.safetensors", "--bits", "3", "--upto", "relu2_1")
    for name in ("a.h5", "a.pth"):
        assert run("unpack", "vgg19", tmp_path / name).exit_code == 0
        found = json.loads(run("verify", tmp_path / "x.safetensors", "--against", tmp_path / name, "--json").stdout)
        recorded = read(tmp_path / "x.safetensors").sqnr_db["conv1_2.weight"]
        assert found["against"][1]["sqnr_db"] == pytest.approx(recorded, abs=0.006)
        expected = np.abs(
            read(tmp_path / "x.safetensors").array("conv1_2.weight") - read(embedded_path()).array("conv1_2.weight")
        ).max()
        assert found["against"][1]["largest_error"] == pytest.approx(float(expected))


def test_several_files_are_checked_though_one_is_damaged(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    data = bytearray(SMALL.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    result = run("verify", damaged, SMALL, "vgg19")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {damaged}: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == run("verify", SMALL).stdout + run("verify", "vgg19").stdout
    found = run("verify", "--json", damaged, SMALL)
    assert found.exit_code == 1
    assert [json.loads(line)["file"] for line in found.stdout.splitlines()] == [str(SMALL)]


def test_several_files_are_compared_with_one_source() -> None:
    result = run("verify", SMALL, GOLDEN / "planes-8.safetensors", "--against", SMALL)
    assert result.exit_code == 0
    assert result.stdout.count("SQNR over all weights: ") == 2
    assert "SQNR: signal-to-quantization-noise ratio" in result.stdout


def test_verify_refuses_another_architecture(tmp_path: Path) -> None:
    unpacked, cut = tmp_path / "vgg19.safetensors", tmp_path / "cut.safetensors"
    assert run("unpack", "vgg19", unpacked, "--layout", "caffe").exit_code == 0
    result = run("verify", SMALL, "--against", unpacked)
    assert result.exit_code == 1
    assert "name weights of vgg11 up to conv1_1" in result.stderr
    run("pack", "vgg19", cut, "--upto", "relu1_1")
    result = run("verify", "vgg19", "--against", cut)
    assert result.exit_code != 0
    assert "name weights of vgg19 up to conv5_4" in result.stderr


def test_verify_finds_unused_centroids_and_wrong_codes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(rebuilt(weight_codes=np.zeros(648, np.uint8)))
    assert "every centroid used, got 7 unused" in run("verify", path).stderr
    path.write_bytes(rebuilt(weight_codes=np.full(648, 255, np.uint8), weight_codebook=np.arange(7, dtype=np.float32)))
    assert "codes below 7" in run("verify", path).stderr


def test_infinite_and_missing_ratios_are_told_apart(tmp_path: Path) -> None:
    arrays = {name: array.round(1) for name, array in random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1").items()}
    zeros = {**arrays, "conv1_1.weight": arrays["conv1_1.weight"] * 0}
    for name, held in (("full", arrays), ("zeros", zeros)):
        data = b"".join(map(bytes, write_safetensors(held, {"architecture": "vgg11"})))
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    packed, source = tmp_path / "packed", tmp_path / "zeros.safetensors"
    assert run("pack", tmp_path / "full.safetensors", packed, "--upto", "relu2_1").exit_code == 0
    lines = run("verify", packed, "--against", source).stdout.splitlines()
    assert lines[1].split()[:3] == ["conv1_1", "-∞", "dB"]
    assert lines[2].split()[:2] == ["conv2_1", "lossless"]
    found = json.loads(run("verify", packed, "--against", source, "--json").stdout)
    assert [(check["sqnr_db"], check["lossless"]) for check in found["against"]] == [(None, False), (None, True)]
    assert found["lossless"] is False
