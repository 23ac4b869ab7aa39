from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import random_arrays, run
from vggquant import compare, pack
from vggquant.comparison.sample_pictures import named_pictures
from vggquant.files.tensors import write_safetensors
from vggquant.models.features import relative_error
from vggquant.models.load import load_quantized_vgg
from vggquant.networks.vgg import ARCHITECTURES


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


def test_errors_beyond_numbers_are_unknown(small: None, tmp_path: Path) -> None:
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu3_2")
    for name in ("conv2_1", "conv3_1", "conv3_2"):
        arrays[f"{name}.weight"] *= np.float32(1e30)
    (tmp_path / "x").write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    (file,) = compare(tmp_path / "x", widths=[2], arch="vgg11", upto="relu3_2").files
    assert file.feature_error["relu3_2"] is None
    assert file.feature_error["relu1_1"] is not None


def test_errors_are_relative() -> None:
    assert relative_error(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)


def test_equal_weights_and_noise_on_zeros_are_told_apart(small: None, tmp_path: Path) -> None:
    arrays = {name: array.round(1) for name, array in random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1").items()}
    zeros = {**arrays, "conv1_1.weight": arrays["conv1_1.weight"] * 0}
    for name, held in (("full", arrays), ("zeros", zeros)):
        (tmp_path / name).write_bytes(b"".join(map(bytes, write_safetensors(held, {"architecture": "vgg11"}))))
    pack(tmp_path / "full", tmp_path / "packed", bits=8, upto="relu2_1")
    (file,) = compare(tmp_path / "zeros", [tmp_path / "packed"], upto="relu2_1").files
    assert file.layer_sqnr_db == {"conv1_1": None, "conv2_1": None}
    assert file.lossless_layers == ("conv2_1",)
    assert file.sqnr_db is not None
    assert not file.lossless
    study = compare(tmp_path / "zeros", [tmp_path / "packed"], upto="relu1_1")
    (file,) = study.files
    assert (file.sqnr_db, file.lossless, file.lossless_layers) == (None, False, ())
    assert not file.equals_reference
    numbers = json.loads(json.dumps(study.numbers, allow_nan=False))
    assert numbers["reference"]["lossless_layers"] == ["conv1_1"]
    assert (numbers["files"][0]["sqnr_db"], numbers["files"][0]["lossless"]) == (None, False)
