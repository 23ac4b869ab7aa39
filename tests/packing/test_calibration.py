"""Weights calibrated on pictures: what is gained, what is kept, and what is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import random_arrays, run
from vggquant import load_quantized_vgg, pack
from vggquant.codec.bitstream import Coding
from vggquant.errors import OptionError, PictureError
from vggquant.files.container import read
from vggquant.files.sources import read_source
from vggquant.models.features import relative_error
from vggquant.networks.vgg import ARCHITECTURES, Preprocessing
from vggquant.packing import calibration, calibration_pictures, goals
from vggquant.packing.calibration import calibrate, calibrated_widths
from vggquant.packing.goals import ToWidths
from vggquant.packing.inspection import info, verify
from vggquant.packing.moments import Problem
from vggquant.packing.rounding import Rounded
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.progress import Progress


def pictures(seed: int, count: int = 6, side: int = 64) -> list[Tensor]:
    made = torch.from_numpy(generated_pictures(count, side, side, seed)).permute(0, 3, 1, 2).float() / 255
    return [picture[None] for picture in made]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few small pictures, so that a test takes seconds."""
    monkeypatch.setattr(calibration_pictures, "MOST", 8)
    monkeypatch.setattr(calibration_pictures, "GENERATED", 8)
    monkeypatch.setattr(calibration_pictures, "PIXELS", 64 * 64)
    monkeypatch.setattr(calibration, "LEAST_POSITIONS", 5_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of a folder, and what has to be passed over."""
    found = tmp_path_factory.mktemp("pictures")
    for index, picture in enumerate(generated_pictures(6, 64, 64, 7)):
        Image.fromarray(picture).save(found / f"{index}.png")
    (found / "broken.png").write_bytes((found / "0.png").read_bytes()[:200])
    Image.new("RGB", (4000, 1)).save(found / "thin.png")
    return found


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_features_of_other_pictures_are_nearer_than_with_plain_k_means(few: None, bits: int, tmp_path: Path) -> None:
    plain, calibrated = tmp_path / "plain", tmp_path / "calibrated"
    rules = f"conv1_*=8,*={bits}"
    pack("vgg19", plain, bits=rules, upto="relu2_2")
    pack("vgg19", calibrated, bits=bits, upto="relu2_2", calibrate=True)
    (picture,) = pictures(seed=99, count=1)
    expected = load_quantized_vgg(upto="relu2_2")(picture, ("relu2_2",))["relu2_2"]
    errors = [
        relative_error(load_quantized_vgg(path)(picture, ("relu2_2",))["relu2_2"], expected)
        for path in (plain, calibrated)
    ]
    assert errors[1] < 0.6 * errors[0]
    assert calibrated.stat().st_size < 1.03 * plain.stat().st_size + 2_000  # scales


def test_the_same_pictures_give_the_same_bytes(few: None, folder: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    for path, jobs in zip(files, (1, 2), strict=True):
        pack("vgg19", path, max_size="60kB", upto="relu2_1", calibrate=True, images=folder, jobs=jobs)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_file_and_the_report_say_what_it_was_calibrated_on(few: None, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = pack("vgg19", out, bits=3, upto="relu2_1", calibrate=True, images=folder)
    assert report.info.changes is not None
    assert re.search(
        r"palettized to 3 bits \(calibrated, biases too, on 6 pictures \(SHA-256 .*[0-9a-f]{64}\)\)",
        report.info.changes,
    )
    assert [note.split(":")[0].rpartition("/")[2] for note in report.notes[:2]] == ["broken.png", "thin.png"]
    assert info(out).changes == report.info.changes
    assert [layer.bits for layer in report.info.layers] == [8, 8, 3]
    assert [layer.scaled for layer in report.info.layers] == [False, False, True]
    checks = verify(out, against="vgg19").against
    assert [check.lossless for check in checks] == [True, True, False]
    assert [check.bias_equal for check in checks] == [True, True, False]


def test_another_process_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = "import sys; from vggquant import pack; pack('vgg19', sys.argv[1], bits='*=3', upto='relu1_2', "
    code += "calibrate=True, images=sys.argv[2])"
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name, folder], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# black, white, and a grey that activates nearly nothing: it is one of seven, and each counts alike
@pytest.mark.parametrize(("level", "harm"), [(0, 1.1), (255, 1.1), (115, 1.25)])
def test_pictures_of_one_colour_do_little_harm(few: None, level: int, harm: float, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("without", "with", "alone")}
    for name, path in folders.items():
        path.mkdir()
        for index, picture in enumerate(generated_pictures(6, 64, 64, 7) if name != "alone" else ()):
            Image.fromarray(picture).save(path / f"{index}.png")
        if name != "without":
            Image.new("RGB", (64, 64), (level,) * 3).save(path / "even.png")
    (picture,) = pictures(seed=99, count=1)
    expected = load_quantized_vgg(upto="relu2_1")(picture, ("relu2_1",))["relu2_1"]
    errors = {}
    for name, path in folders.items():
        pack("vgg19", tmp_path / "out", bits=3, upto="relu2_1", calibrate=True, images=path, force=True)
        errors[name] = relative_error(
            load_quantized_vgg(tmp_path / "out", upto="relu2_1")(picture, ("relu2_1",))["relu2_1"], expected
        )
    assert errors["with"] < harm * errors["without"]
    assert errors["alone"] < 1  # finite, and no catastrophe


def test_layers_that_lose_nothing_keep_their_own_codebook(few: None, tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "plain", upto="relu1_2")
    pack("vgg19", tmp_path / "calibrated", bits=8, upto="relu1_2", calibrate=True)
    ours, theirs = (read(tmp_path / name) for name in ("calibrated", "plain"))
    for name, tensor in theirs.palettized.items():
        assert np.array_equal(ours.array(name), theirs.array(name))
        assert ours.palettized[name].scale is None
        assert tensor.scale is None


def test_nothing_gets_worse_than_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = read_source("vgg19", upto="relu1_1").weights
    monkeypatch.setattr(goals, "solve", lambda problem, levels: (_zeros(problem), problem.reference_bias))
    found = calibrate(weights, ToWidths({"conv1_1": 4}), pictures(0, count=2)).weights
    assert found.palettized["conv1_1.weight"].scale is None
    assert np.array_equal(found.plain["conv1_1.bias"], weights.plain["conv1_1.bias"])


def _zeros(problem: Problem) -> Rounded:
    outputs, inputs = problem.reference.shape
    return Rounded(torch.zeros(outputs, inputs, dtype=torch.int64), torch.zeros(1), torch.ones(outputs))


def test_progress_and_what_would_have_helped() -> None:
    weights = read_source("vgg19", upto="relu2_1").weights
    seen: list[Progress] = []
    goal = ToWidths({"conv1_1": 8, "conv1_2": 8, "conv2_1": 2})
    found = calibrate(weights, goal, pictures(0, count=1, side=48), progress=seen.append)
    assert [(report.done, report.total) for report in seen] == [(1, 3), (2, 3), (3, 3)]
    assert re.fullmatch(r"conv2_1, 2 bits, error 0\.\d{3} → 0\.\d{3}", seen[-1].detail)
    assert seen[1].left is not None
    assert seen[1].left > 0
    assert seen[2].left == 0
    assert found.notes == ("conv2_1: calibrated on too few positions; 2 pictures of this size would give enough",)


def test_of_a_large_folder_the_pictures_taken_are_spread_evenly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_pictures, "MOST", 3)
    found = calibration_pictures.calibration_pictures(folder, 16)  # 0.png … 5.png, broken.png and thin.png
    expected = [read_picture(folder / f"{number}.png", pixels=calibration_pictures.PIXELS).pixels for number in (0, 4)]
    assert [torch.equal(*pair) for pair in zip(found.pictures, expected, strict=True)] == [True, True]
    assert found.description.startswith("2 pictures (SHA-256 of the list of")
    assert ["thin.png" in note for note in found.notes] == [True]


def test_widths() -> None:
    layers = ("conv1_1", "conv1_2", "conv2_1")
    assert calibrated_widths(3, layers) == calibrated_widths("3", layers) == {**dict.fromkeys(layers, 8), "conv2_1": 3}
    assert calibrated_widths("*=3", layers) == calibrated_widths({"*": 3}, layers) == dict.fromkeys(layers, 3)


@pytest.mark.parametrize("coding", ["planes", "huffman"])
def test_files_made_to_a_size_are_calibrated_too(few: None, coding: Coding, tmp_path: Path) -> None:
    plain, calibrated, size = tmp_path / "plain", tmp_path / "calibrated", 120_000
    pack("vgg19", plain, max_size=size, upto="relu2_2", coding=coding)
    pack("vgg19", calibrated, max_size=size, upto="relu2_2", coding=coding, calibrate=True)
    assert 0.8 * size < calibrated.stat().st_size <= size
    assert len({layer.bits for layer in info(calibrated).layers}) > 1
    (picture,) = pictures(seed=99, count=1)
    expected, before, after = (
        load_quantized_vgg(*file, upto="relu2_2")(picture, ("relu2_2",))["relu2_2"]
        for file in ((), (plain,), (calibrated,))
    )
    assert relative_error(after, expected) < 0.8 * relative_error(before, expected)


def test_the_least_size_that_a_refusal_names_is_enough(few: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionError, match="at 1 bit a weight, got 1000;") as refused:
        pack("vgg19", out, max_size=1000, upto="relu1_2", calibrate=True)
    (least,) = re.findall(r"at least (\d+) bytes", str(refused.value))
    pack("vgg19", out, max_size=least, upto="relu1_2", calibrate=True)
    assert 0.8 * int(least) < out.stat().st_size <= int(least)


def test_weights_of_their_width_are_copied_with_what_is_known_of_them(few: None, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pack("vgg19", first, bits="conv1_1=8,*=5", upto="relu2_1", calibrate=True)
    report = pack(first, second, bits="conv2_1=3,conv1_1=8,*=5", upto="relu2_1", calibrate=True)
    before, after = read(first), read(second)
    assert np.array_equal(after.array("conv1_2.weight"), before.array("conv1_2.weight"))
    assert after.sqnr_db["conv1_2.weight"] == before.sqnr_db["conv1_2.weight"]
    assert "conv1_1.weight" not in after.sqnr_db
    assert report.info.changes is not None
    assert "palettized to 5 bits (calibrated" in report.info.changes
    assert "palettized to 3 bits (calibrated" in report.info.changes


@pytest.mark.parametrize(("arch", "preprocessing"), [("vgg11", "caffe"), ("vgg13", "torch"), ("vgg16", "torch")])
def test_other_networks_in_float32_are_calibrated(
    few: None, arch: str, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    source, out, deepest = tmp_path / f"{arch}.pth", tmp_path / "out", "relu3_1"
    arrays = random_arrays(ARCHITECTURES[arch], upto=deepest)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, source)
    options: dict[str, Any] = {"arch": arch, "preprocessing": preprocessing, "upto": deepest}
    report = pack(source, out, bits=3, calibrate=True, **options)
    assert report.info.changes is not None
    assert "palettized to 3 to 8 bits" in report.info.changes
    assert not report.info.layers[0].lossless
    pack(source, tmp_path / "reference", **options)
    pack(source, tmp_path / "plain", bits="conv1_*=8,*=3", **options)
    (picture,) = pictures(seed=99, count=1)
    expected, before, after = (
        load_quantized_vgg(tmp_path / name)(picture, (deepest,))[deepest] for name in ("reference", "plain", "out")
    )
    assert relative_error(after, expected) < 0.8 * relative_error(before, expected)


def test_weights_whose_activations_overflow_are_refused_in_one_line(few: None, tmp_path: Path) -> None:
    source, out = tmp_path / "vgg11.pth", tmp_path / "out"
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1")
    arrays["conv1_1.weight"] *= 1e30
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, source)
    options = ("--bits", "3", "--arch", "vgg11", "--preprocessing", "caffe", "--upto", "relu2_1", "--calibrate")
    result = run("pack", source, out, *options)
    assert result.exit_code == 1
    assert f"{source}: conv1_1: expected weights with finite activations, got infinite ones; leave out" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not out.exists()


def test_what_cannot_be_calibrated_is_refused(few: None, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionError, match="images: expected `calibrate=True` beside it, got nothing; add that"):
        pack("vgg19", out, images=folder)
    with pytest.raises(OptionError, match="calibrate: expected widths, a rate or a size to calibrate for, got none"):
        pack("vgg19", out, calibrate=True, images=tmp_path / "missing")
    with pytest.raises(OptionError, match="bits: "):  # before any picture is looked at
        pack("vgg19", out, bits=9, calibrate=True, images=tmp_path / "missing")
    with pytest.raises(PictureError, match="expected a folder of pictures, got no such folder"):
        pack("vgg19", out, bits=3, calibrate=True, images=tmp_path / "missing")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"bad: expected pictures to calibrate on, got none that serve \(.*a\.png"):
        pack("vgg19", out, bits=3, calibrate=True, images=tmp_path / "bad")
    assert not out.exists()


def test_the_command(few: None, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = run("pack", "vgg19", out, "--bits", "3", "--calibrate", "--images", folder, "--upto", "relu2_1")
    assert result.exit_code == 0, result.output
    assert "passed over" in result.stderr
    assert run("verify", out).exit_code == 0
    refused = run("pack", "vgg19", out, "--images", folder)
    assert refused.exit_code == 2
    assert "Error: --images: expected --calibrate beside it, got nothing; add that or leave it out" in refused.stderr
