"""Weights packed to a rate or to a size, coded by rarity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.sensitivity import fine
from tests.conftest import random_arrays, run
from tests.packing.test_calibration import few, folder, pictures
from vggquant import load_quantized_vgg, pack
from vggquant.errors import OptionError
from vggquant.files.container import read
from vggquant.models.features import relative_error
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.inspection import info, verify
from vggquant.packing.rates import FINE, Curve, choose_steps

__all__ = ["few", "folder"]  # fixtures


def rate_of(path: Path) -> float:
    layers = info(path).layers
    sizes = [np.prod(layer.shape) for layer in layers]
    return float(np.average([layer.rate for layer in layers], weights=sizes))


@pytest.mark.parametrize("rate", [0.4, 1.4, 3.0])
def test_a_rate_is_kept_to(rate: float, tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "out", rate=rate, upto="relu3_2")
    assert 0.98 * rate < rate_of(tmp_path / "out") <= rate
    found = info(tmp_path / "out")
    assert all(layer.coding == "huffman" for layer in found.layers)
    assert found.changes is not None
    assert (
        f"palettized to {rate_of(tmp_path / 'out'):.2f} bits, once coded (entropy-constrained k-means)" in found.changes
    )


@pytest.mark.parametrize(("bits", "rate"), [(1, 0.6), (2, 1.4), (3, 2.2), (4, 3.05)])
def test_at_fewer_bits_less_is_lost_than_by_k_means(bits: int, rate: float, tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "plain", bits=bits, upto="relu4_1")
    pack("vgg19", tmp_path / "rated", rate=rate, upto="relu4_1")
    plain, rated = (verify(tmp_path / name, against="vgg19").sqnr_db for name in ("plain", "rated"))
    assert plain is not None
    assert rated is not None
    assert rated > plain
    assert (tmp_path / "rated").stat().st_size < (tmp_path / "plain").stat().st_size


@pytest.mark.parametrize("size", ["60kB", 150_000, "0.25MB"])
def test_a_size_is_kept_to(size: int | str, tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "out", max_size=size, coding="huffman", upto="relu2_2")
    most = {"60kB": 60_000, "0.25MB": 250_000}.get(str(size), 150_000)
    assert 0.98 * most < (tmp_path / "out").stat().st_size <= most


def test_more_than_there_is_to_say_loses_nothing(tmp_path: Path) -> None:
    report = pack("vgg19", tmp_path / "out", rate=8, upto="relu2_1")
    assert all(layer.lossless for layer in report.info.layers)
    assert (tmp_path / "out").stat().st_size < 120_000


def test_float32_weights_of_any_number_of_values(tmp_path: Path) -> None:
    arrays = random_arrays(ARCHITECTURES["vgg13"], upto="relu2_1")
    pack(arrays, tmp_path / "out", rate=2.5, preprocessing="torch", arch="vgg13", upto="conv2_1")
    assert 2.4 < rate_of(tmp_path / "out") <= 2.5
    error = arrays["conv2_1.weight"] - read(tmp_path / "out").array("conv2_1.weight")
    assert np.square(error).sum() < 0.1 * np.square(arrays["conv2_1.weight"]).sum()


def test_weights_of_zeros(tmp_path: Path) -> None:
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1")
    arrays["conv2_1.weight"][:] = 0
    pack(arrays, tmp_path / "out", rate=2, preprocessing="torch", arch="vgg11", upto="conv2_1")
    assert not read(tmp_path / "out").array("conv2_1.weight").any()


@pytest.mark.parametrize("budget", [{"rate": 1.6}, {"max_size": "36kB", "coding": "huffman"}])
def test_calibrated_features_are_nearer_at_the_same_size(
    few: None, folder: Path, budget: dict[str, Any], tmp_path: Path
) -> None:
    plain, calibrated = tmp_path / "plain", tmp_path / "calibrated"
    pack("vgg19", plain, upto="relu2_1", **budget)
    pack("vgg19", calibrated, upto="relu2_1", calibrate=True, images=folder, **budget)
    if "rate" in budget:
        assert 1.55 < rate_of(calibrated) <= 1.6
    else:
        assert 0.9 * 36_000 < calibrated.stat().st_size <= 36_000
    (picture,) = pictures(seed=99, count=1)
    expected = load_quantized_vgg(upto="relu2_1")(picture, ("relu2_1",))["relu2_1"]
    errors = [
        relative_error(load_quantized_vgg(path)(picture, ("relu2_1",))["relu2_1"], expected)
        for path in (plain, calibrated)
    ]
    assert errors[1] < 0.7 * errors[0]
    changes = info(calibrated).changes
    assert changes is not None
    assert "bits, once coded (calibrated, biases too, on 6 pictures (SHA-256 " in changes
    assert all(layer.coding == "huffman" and not layer.scaled for layer in info(calibrated).layers)


def test_the_same_pictures_give_the_same_bytes(few: None, folder: Path, tmp_path: Path) -> None:
    for name, jobs in (("one", 1), ("two", 2)):
        pack("vgg19", tmp_path / name, rate=1.5, upto="relu1_2", calibrate=True, images=folder, jobs=jobs)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rate": 0}, "rate: expected a number of bits above 0, at most 8, got 0"),
        ({"rate": -1.0}, "rate: expected a number of bits above 0"),
        ({"rate": 8.5}, "rate: expected a number of bits above 0"),
        ({"rate": "1.9"}, "rate: expected a number of bits above 0, at most 8, got '1.9'"),
        ({"rate": float("nan")}, "rate: expected a number of bits above 0"),
        ({"rate": 2, "coding": "planes"}, "coding: expected huffman beside a rate, got planes; leave out `coding` or"),
        ({"rate": 2, "bits": 3}, "rate: expected widths, a rate or a size, got 2 of them; leave out `bits` or `rate`"),
        ({"rate": 2, "max_size": "1MB"}, "max_size: expected widths, a rate or a size, got 2 of them"),
        ({"rate": 0.05}, r"rate: expected a rate of at least 0\.1\d\d bits a weight, got 0.05; raise it"),
        ({"max_size": 3000, "coding": "huffman"}, r"max_size: expected at least \d+ bytes, the size of the coarsest"),
        ({"rate": 0.05, "calibrate": True}, r"rate: expected a rate of at least 0\.1\d\d bits a weight"),
        ({"max_size": 3000, "coding": "huffman", "calibrate": True}, r"max_size: expected at least \d+ bytes"),
        ({"calibrate": True}, "calibrate: expected widths, a rate or a size to calibrate for, got none"),
    ],
)
def test_budgets_without_a_meaning_are_refused(few: None, options: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=match):
        pack("vgg19", tmp_path / "out", upto="relu2_1", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_a_rate(tmp_path: Path) -> None:
    done = run("pack", "vgg19", tmp_path / "out", "--rate", "2.2", "--upto", "relu3_1")
    assert done.exit_code == 0, done.output
    assert 2.1 < rate_of(tmp_path / "out") <= 2.2
    done = run("pack", "vgg19", tmp_path / "other", "--rate", "much")
    assert done.exit_code == 2
    done = run("pack", "vgg19", tmp_path / "other", "--rate", "9")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "expected a number of bits above 0, at most 8, got 9.0; choose a rate such as 1.9" in done.stderr


def test_the_table_is_that_of_the_committed_measurements() -> None:
    assert fine() == FINE


def test_steps_put_bits_where_they_gain_most() -> None:
    rng = np.random.default_rng(0)
    weights = {"loud": rng.normal(0, 1, 50_000), "quiet": rng.normal(0, 1, 50_000)}
    curves = {
        name: Curve.of(weight.astype(np.float32), "conv4_2" if name == "loud" else "conv5_4", calibrated=True)
        for name, weight in weights.items()
    }
    for budget in (8_000, 25_000, 60_000):
        steps = choose_steps(curves, budget)
        assert sum(curve.bytes_at(steps[name]) for name, curve in curves.items()) <= budget
        assert steps["loud"] < steps["quiet"] or budget == 60_000
    # where both are fine, a step's square is in inverse proportion to what it costs
    assert (steps["quiet"] / steps["loud"]) ** 2 == pytest.approx(0.01 / 0.00065, rel=0.2)


def test_what_is_restored_on_torch_is_what_the_file_says(tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "out", rate=1.2, upto="relu2_2")
    state = load_quantized_vgg(tmp_path / "out").state_dict()
    for name, array in read(tmp_path / "out").restored().plain.items():
        assert torch.equal(state[name], torch.from_numpy(array))
