"""A network that is no VGG on its way through everything: pack, info, verify, load, unpack, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.toy import ToyNetwork, predictions, toy_family, toy_weights
from vggquant import load_quantized_state_dict, load_quantized_vgg, pack, unpack
from vggquant.errors import NetworkError, OptionError, SourceError, VggQuantError
from vggquant.files.container import read
from vggquant.files.disk import read_file, write_file
from vggquant.files.sources import describe, read_source
from vggquant.files.tensors import write_safetensors
from vggquant.files.weights import Weights
from vggquant.networks.families import FAMILIES
from vggquant.networks.network import TensorSpec
from vggquant.packing.inspection import info, verify


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with toy_family():
        yield


def save(weights: Weights, path: Path) -> Path:
    """A float32 file such as `unpack` writes."""
    write_file(path, write_safetensors(weights.plain, describe(weights)))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(toy_weights(), tmp_path / "toy.safetensors")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A network whose first layer and last are large enough for codebooks of their own."""
    return save(toy_weights(512, 300), tmp_path / "large.safetensors")


@pytest.mark.parametrize("coding", ["planes", "huffman"])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width_is_packed_verified_and_loaded(bits: int, coding: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    report = pack(source, out, bits=bits, coding=coding)  # type: ignore[arg-type]
    assert report.info.bytes == out.stat().st_size
    assert verify(out).layers == 4
    checked = verify(out, against=source)
    assert checked.sqnr_db is not None
    assert checked.sqnr_db > 4 * bits - 2
    assert all(check.bias_equal for check in checked.against)
    state = load_quantized_state_dict(out, layout="vggquant")
    restored = read(out).restored().plain
    assert all(np.array_equal(tensor.numpy(), restored[name]) for name, tensor in state.items())
    assert predictions(state).shape == (2, 5)


def test_what_a_network_predicts_survives_eight_bits(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed", bits=8)
    expected = predictions({name: torch.from_numpy(array) for name, array in toy_weights().plain.items()})
    found = predictions(load_quantized_state_dict(tmp_path / "packed", layout="vggquant"))
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def test_info_tells_of_all_layers(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed", bits=4)
    found = info(tmp_path / "packed")
    assert (found.family, found.configuration) == ("toy", {"channels": 8, "classes": 5})
    assert (found.architecture, found.preprocessing, found.complete) == (None, None, True)
    assert [layer.name for layer in found.layers] == ["conv", "norm", "depthwise", "fc"]
    assert [layer.bits for layer in found.layers] == [4, None, 4, 4]
    assert found.layers[1].coding == "float32"
    assert found.weights == 8 * 27 + 8 * 9 + 40
    assert found.float32_bytes == 4 * (found.weights + 16 + 5)
    length = int.from_bytes(read_file(tmp_path / "packed")[:8].tobytes(), "little")
    assert sum(layer.bytes for layer in found.layers) == found.bytes - length - 8
    assert found.attribution == "Nobody's"
    assert found.changes == "weights palettized to 4 bits (k-means) by vggquant"


def test_small_weights_share_a_codebook_and_large_ones_have_their_own(large: Path, tmp_path: Path) -> None:
    pack(large, tmp_path / "packed", bits=6)
    weights = read(tmp_path / "packed")
    conv, depthwise, fc = (weights.palettized[f"{name}.weight"] for name in ("conv", "depthwise", "fc"))
    assert conv.codebook is not fc.codebook
    assert depthwise.codebook.size <= 64
    pack(large, tmp_path / "eight", bits="depthwise=8,conv=8,fc=5")
    again = read(tmp_path / "eight")
    assert again.palettized["depthwise.weight"].codebook is not again.palettized["conv.weight"].codebook
    pack(save(toy_weights(40, 10), tmp_path / "s.safetensors"), tmp_path / "small", bits=8)
    small = read(tmp_path / "small").palettized.values()
    assert len({id(tensor.codebook) for tensor in small}) == 1


def test_weights_of_few_values_are_kept_exactly(tmp_path: Path) -> None:
    weights = toy_weights()
    rounded = {name: (array * 8).round() / 8 for name, array in weights.plain.items()}
    source = save(replace(weights, plain=rounded), tmp_path / "x.safetensors")
    pack(source, tmp_path / "packed", bits=8)
    assert verify(tmp_path / "packed", against=source).sqnr_db == math.inf
    assert not read(tmp_path / "packed").sqnr_db


def test_packing_again_at_the_same_width_copies(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "once", bits=5)
    pack(tmp_path / "once", tmp_path / "twice", bits=5)
    once, twice = read(tmp_path / "once"), read(tmp_path / "twice")
    assert once.sqnr_db == twice.sqnr_db
    assert all(np.array_equal(once.array(spec.name), twice.array(spec.name)) for spec in once.network.tensors)
    assert once.provenance.changes == twice.provenance.changes


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
@pytest.mark.parametrize("factor", [0.0, 1e-3, 1e3])
def test_a_weight_of_another_magnitude_is_not_lost_beside_others(bits: int, factor: float, tmp_path: Path) -> None:
    weights = toy_weights()
    arrays = {**weights.plain, "depthwise.weight": weights.plain["depthwise.weight"] * np.float32(factor)}
    source = save(replace(weights, plain=arrays), tmp_path / "x.safetensors")
    pack(source, tmp_path / "packed", bits=bits)
    for check in verify(tmp_path / "packed", against=source).against:
        assert check.lossless is None if check.name == "norm" else (check.sqnr_db or 0) > 4 * bits - 2, check.name
    pack(source, tmp_path / "sized", max_size=2_000)
    assert info(tmp_path / "sized").bytes <= 2_000


def test_a_packed_file_that_fits_is_copied(source: Path, tmp_path: Path) -> None:
    size = pack(source, tmp_path / "packed", bits=4).info.bytes
    # what comes on top is reckoned with as at one bit, whose header says more of what was changed
    again = pack(tmp_path / "packed", tmp_path / "again", max_size=size + 128).info
    assert verify(tmp_path / "again", against=tmp_path / "packed").sqnr_db == math.inf
    assert again.bytes <= size


def test_the_tensors_of_a_layer_need_not_lie_together_nor_have_axes(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mixed:
        family: ClassVar[str] = "mixed"
        configuration: ClassVar[dict[str, object]] = {}
        tensors: ClassVar[tuple[TensorSpec, ...]] = (
            TensorSpec("a.weight", (30, 40), "weight"),
            TensorSpec("gain.value", (), "plain"),
            TensorSpec("b.kernel", (), "weight"),
            TensorSpec("a.bias", (30,), "plain"),
        )

    rng = np.random.default_rng(0)
    arrays = {spec.name: np.asarray(rng.normal(size=spec.shape), np.float32) for spec in Mixed.tensors}
    with mock.patch.dict(FAMILIES, {"mixed": lambda configuration: Mixed()}):
        source = save(Weights(Mixed(), {}, arrays, toy_weights().provenance), tmp_path / "x.safetensors")
        pack(source, tmp_path / "packed", bits="a=4,b=8")
        found = info(tmp_path / "packed").layers
        assert [(layer.name, layer.bits) for layer in found] == [("a", 4), ("gain", None), ("b", 8)]
        checks = {check.name: check for check in verify(tmp_path / "packed", against=source).against}
        assert 15 < (checks["a"].sqnr_db or 0) < 40
        assert (checks["a"].lossless, checks["b"].lossless, checks["gain"].lossless) == (False, True, None)
        assert (checks["b"].sqnr_db, checks["gain"].sqnr_db) == (math.inf, None)
        unpack(tmp_path / "packed", tmp_path / "y.safetensors")
        assert read_source(tmp_path / "y.safetensors").weights.plain["b.kernel"].shape == ()


def test_bytes_do_not_depend_on_jobs(large: Path, tmp_path: Path) -> None:
    for jobs in (1, 2, 8):
        pack(large, tmp_path / str(jobs), bits=5, jobs=jobs)
    assert len({(tmp_path / str(jobs)).read_bytes() for jobs in (1, 2, 8)}) == 1


@pytest.mark.parametrize("size", [1_100, 1_300, 1_800, 2_500])
def test_a_size_is_kept_and_used(size: int, source: Path, tmp_path: Path) -> None:
    report = pack(source, tmp_path / "packed", max_size=size)
    assert report.info.bytes <= size
    bits = next(layer.bits for layer in report.info.layers)
    assert bits is not None
    if bits < 8:  # the next width would not fit
        assert pack(source, tmp_path / "wider", bits=bits + 1).info.bytes > size


def test_a_size_gives_large_layers_widths_of_their_own(large: Path, tmp_path: Path) -> None:
    uniform = pack(large, tmp_path / "uniform", bits=4).info
    chosen = pack(large, tmp_path / "chosen", max_size=uniform.bytes).info
    assert chosen.bytes <= uniform.bytes
    losses = [
        sum(10 ** (-(layer.sqnr_db or math.inf) / 10) for layer in found.layers if layer.bits)
        for found in (chosen, uniform)
    ]
    assert losses[0] <= losses[1]


def test_a_size_below_the_smallest_tells_the_least(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"at least (\d+) bytes, .*got 500; raise `max_size`$") as caught:
        pack(source, tmp_path / "packed", max_size=500)
    least = int(str(caught.value).split("at least ")[1].split()[0])
    assert pack(source, tmp_path / "packed", max_size=least).info.bytes <= least


def test_unpack_writes_what_pack_reads_back(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed", bits=4)
    report = unpack(tmp_path / "packed", tmp_path / "float.safetensors")
    assert (report.layout, report.preprocessing, report.self_describing) == ("vggquant", None, True)
    packed, again = read(tmp_path / "packed"), read_source(tmp_path / "float.safetensors").weights
    assert again.network == packed.network
    assert again.sqnr_db == packed.sqnr_db
    assert again.provenance.attribution == "Nobody's"
    pack(tmp_path / "float.safetensors", tmp_path / "again", bits=4)
    found = read(tmp_path / "again")
    assert all(np.array_equal(found.array(spec.name), packed.array(spec.name)) for spec in packed.network.tensors)
    unpack(tmp_path / "packed", tmp_path / "float.pth", layout="vggquant")
    assert set(torch.load(tmp_path / "float.pth", weights_only=True)) == {spec.name for spec in packed.network.tensors}


@pytest.mark.parametrize(
    ("out", "layout", "match"),
    [
        ("x.h5", None, r"\.safetensors, \.pth, \.pt, \.onnx for a network of the family toy, got \.h5"),
        ("x.bin", None, r"\.safetensors, \.pth, \.pt, \.onnx for a network of the family toy, got \.bin"),
        ("x.pth", "torchvision", "layout vggquant for a network of the family toy, got torchvision"),
    ],
)
def test_layouts_of_vggs_are_refused(out: str, layout: str, match: str, source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    with pytest.raises(OptionError, match=match):
        unpack(tmp_path / "packed", tmp_path / out, layout=layout)  # type: ignore[arg-type]
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize("option", ["arch", "preprocessing", "upto", "layout"])
@pytest.mark.parametrize("packed", [False, True])
def test_options_of_vggs_are_refused(option: str, packed: bool, source: Path, tmp_path: Path) -> None:
    value = {"arch": "vgg19", "preprocessing": "caffe", "upto": "relu1_1", "layout": "keras"}[option]
    if packed:
        pack(source, tmp_path / "packed")
    with pytest.raises(OptionError, match=rf"{option}: expected a VGG, which alone has {option} .*, got a network of"):
        pack(tmp_path / "packed" if packed else source, tmp_path / "out", **{option: value})  # type: ignore[arg-type]


def test_a_vgg_is_wanted_where_only_a_vgg_will_do(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    with pytest.raises(NetworkError, match=r"packed: expected a VGG, got a network of the family toy; load it"):
        load_quantized_vgg(tmp_path / "packed")
    with pytest.raises(NetworkError, match=r"packed: expected a VGG"):
        load_quantized_state_dict(tmp_path / "packed", layout="keras")


def test_another_network_is_not_what_a_file_stands_for(source: Path, tmp_path: Path) -> None:
    pack(source, tmp_path / "packed")
    other = save(toy_weights(9, 5), tmp_path / "other.safetensors")
    with pytest.raises(SourceError, match=r"other.safetensors: expected the toy network of the file, got another"):
        verify(tmp_path / "packed", against=other)
    with pytest.raises(SourceError, match="expected the toy network of the file"):
        verify(tmp_path / "packed", against="vgg19")
    with pytest.raises(VggQuantError):
        verify("vgg19", against=source)


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ("7", "network: expected a JSON object"),
        (
            '{"configuration":{"architecture":"vgg11","convolutions":1,"preprocessing":"caffe"},"family":"vgg"}',
            "expected a record of a network that is no VGG, got a VGG's; leave the record out",
        ),
        ('{"family":"toy"}', "network: expected a record of family and configuration"),
        ('{"configuration":{"channels":8},"family":"toy"}', "network: expected a configuration of channels, classes"),
        ('{"configuration":{"channels":9,"classes":5},"family":"toy"}', r"conv.weight: expected shape \(9, 3, 3, 3\)"),
        ('{"configuration":{"channels":NaN,"classes":5},"family":"toy"}', "NaN, which JSON has not"),
    ],
)
def test_a_source_with_a_wrong_record_is_refused(record: str, match: str, tmp_path: Path) -> None:
    state = {name: torch.from_numpy(array) for name, array in toy_weights().plain.items()}
    safetensors.torch.save_file(state, tmp_path / "x.safetensors", {"vggquant.network": record})
    with pytest.raises(VggQuantError, match=match):
        pack(tmp_path / "x.safetensors", tmp_path / "out")


def test_tensors_missing_or_too_many_are_named(tmp_path: Path) -> None:
    weights = toy_weights()
    state = {name: torch.from_numpy(array) for name, array in weights.plain.items()}
    metadata = describe(weights)
    safetensors.torch.save_file({**state, "more": torch.zeros(1)}, tmp_path / "more.safetensors", metadata)
    with pytest.raises(
        SourceError, match=r"more: expected only tensors of the toy network, got 1 more; pass `ignore_extra=True`"
    ):
        pack(tmp_path / "more.safetensors", tmp_path / "out")
    pack(tmp_path / "more.safetensors", tmp_path / "out", ignore_extra=True)
    del state["fc.bias"]
    safetensors.torch.save_file(state, tmp_path / "less.safetensors", metadata)
    with pytest.raises(SourceError, match=r"fc.bias: expected a tensor of that name, got none; save all tensors"):
        pack(tmp_path / "less.safetensors", tmp_path / "none")


def test_the_record_of_a_network_makes_it_again() -> None:
    assert ToyNetwork.from_configuration(ToyNetwork(3, 4).configuration) == ToyNetwork(3, 4)
