"""Networks in float16: what is measured of their layers, and weights that mend what float16 spoils."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

from tests.conftest import run
from vggquant import load_quantized_vgg, load_stylizer
from vggquant.files.container import write
from vggquant.models.arbitrary import Arbitrary
from vggquant.models.half import FLOAT16_MAX
from vggquant.models.half_safe import SAFE_DB, Module, half_safe
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def arbitrary() -> Arbitrary:
    painter = load_stylizer("arbitrary")
    assert isinstance(painter, Arbitrary)
    return painter


def scaled(painter: Module, factors: dict[str, float]) -> Module:
    other = copy.deepcopy(painter)
    parameters = dict(other.named_parameters())
    with torch.no_grad():
        for name, factor in factors.items():
            parameters[name].mul_(factor)
    return other


@pytest.mark.parametrize("name", ["starry", "adain", "vgg"])
def test_embedded_networks_are_safe(name: str) -> None:
    network = load_quantized_vgg(upto="relu2_1") if name == "vgg" else load_stylizer(name)
    report = half_safe(network)
    assert report.safe
    assert report.snr_db > SAFE_DB + 20
    assert (report.exponents, report.mended, report.mended_db) == ({}, network, report.snr_db)
    for layer in report.layers:
        assert 0 < layer.typical < layer.largest
        assert layer.overflow_bits == pytest.approx(math.log2(FLOAT16_MAX / layer.largest))
        assert layer.underflow_bits > 0


def test_all_layers_with_weights_are_measured(arbitrary: Arbitrary) -> None:
    layers = {layer.name: layer for layer in half_safe(arbitrary).layers}
    assert list(layers) == [spec.layer for spec in arbitrary.network.tensors if spec.kind == "weight"]
    largest: list[float] = []
    arbitrary.transfer.get_submodule("down1.convolution").register_forward_hook(
        lambda module, taken, given: largest.append(float(given.abs().max()))
    )
    half_safe(arbitrary, [torch.rand(1, 3, 32, 32)])
    found = half_safe(arbitrary, [torch.rand(1, 3, 32, 32)]).layers
    assert next(layer for layer in found if layer.name == "transfer.down1.convolution").largest in largest


@pytest.mark.parametrize(
    "factors",
    [
        # weights that float16 cannot hold, as in the article's postscript, and the next ones that make up for it
        {"down1.convolution.weight": 2.0**-24, "down1.convolution.bias": 2.0**-24, "down2.convolution.weight": 2.0**24},
        {"down2.convolution.weight": 2.0**16, "down2.convolution.bias": 2.0**16, "down3.convolution.weight": 2.0**-16},
        {"block2_1.depthwise.weight": 2.0**-22, "block2_1.pointwise.weight": 2.0**22},
    ],
)
def test_weights_scaled_to_underflow_and_overflow_are_mended(arbitrary: Arbitrary, factors: dict[str, float]) -> None:
    spoilt = scaled(arbitrary, {f"transfer.{name}": factor for name, factor in factors.items()})
    report = half_safe(spoilt)
    assert not report.safe
    assert report.mended_db > SAFE_DB + 10
    names = {name.rpartition(".")[0] for name in factors}
    assert any(name.removeprefix("transfer.") in names for name in report.exponents)
    assert isinstance(report.mended, Arbitrary)
    torch.manual_seed(0)
    content, code = torch.rand(1, 3, 48, 64), arbitrary.predict(torch.rand(1, 3, 48, 64))
    torch.testing.assert_close(report.mended(content, code), arbitrary(content, code), atol=5e-3, rtol=0)
    assert half_safe(report.mended).safe


def test_what_overflows_in_float32_too_is_reported(arbitrary: Arbitrary) -> None:
    spoilt = scaled(arbitrary, {f"transfer.down{number}.convolution.weight": 1e25 for number in (1, 2)})
    report = half_safe(spoilt)
    assert (report.safe, report.snr_db) == (False, -math.inf)
    assert min(layer.overflow_bits for layer in report.layers) == -math.inf


def test_what_normalisation_takes_out_again_is_mended() -> None:
    torch.manual_seed(0)
    painter = Johnson(JohnsonNetwork.stock("tiny", 0.25, 1)).eval().requires_grad_(False)
    report = half_safe(scaled(painter, {"block1_1.weight": 2.0**18}))
    assert not report.safe
    assert report.mended_db > SAFE_DB + 10
    assert report.exponents["block1_1"] < -10


def test_what_no_scaling_mends_stays() -> None:
    painter = load_stylizer("starry")
    spoilt = scaled(painter, {"out.gain": 1e9})
    report = half_safe(spoilt)
    assert not report.safe
    assert (report.exponents, report.mended) == ({}, spoilt)


def test_the_command_says_it_of_each_layer(tmp_path: Path) -> None:
    result = run("verify", "starry", "--half")
    assert result.exit_code == 0
    assert "to overflow  to underflow" in result.stdout
    assert "float16 against float32: 6" in result.stdout
    painter = scaled(load_stylizer("starry"), {"block1_1.weight": 2.0**20})
    assert isinstance(painter, Johnson)
    write(tmp_path / "x", palettized(unquantized(painter, "for a test"), 8, None))
    refused = run("verify", tmp_path / "x", "--half")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"Error: {tmp_path / 'x'}: expected a network that float16 does not spoil, got ")
    assert "where block1_1" in refused.stderr
    assert run("verify", "starry", "--images", tmp_path).exit_code == 2
