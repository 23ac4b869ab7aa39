"""Weights in memory: torch's and NumPy's alike, known by a checksum, read as those of a file are."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import Floats
from tests.files.conftest import UPTO, VGG11
from vggquant import VGG, load_stylizer, pack
from vggquant.errors import OptionError, SourceError
from vggquant.files.sources import Source, SourceLike, read_source
from vggquant.files.state_dicts import checksum, read_state_dict
from vggquant.files.tensors import WRAPPERS
from vggquant.models.adain import AdaIN
from vggquant.models.arbitrary import Arbitrary
from vggquant.models.johnson import Johnson
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.networks.vgg import require_vgg

State = dict[str, torch.Tensor]


def read(source: SourceLike, **options: Any) -> Source:
    return read_source(source, **{"preprocessing": "torch", "arch": "vgg11", "upto": UPTO} | options)


def holds(source: Source, arrays: dict[str, Floats]) -> bool:
    """Whether these very weights were read."""
    found = source.weights.plain
    return list(found) == list(arrays) and all(np.array_equal(found[name], array) for name, array in arrays.items())


def first_layers(depth: int = 7) -> nn.Sequential:
    """The beginning of torchvision's VGG-11, `model.features`."""
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1)]
    layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(128, 256, 3, padding=1)]
    return nn.Sequential(*layers[:depth])


# ---- what is read


def test_torch_and_numpy_are_read_alike(state: State, arrays: dict[str, Floats]) -> None:
    ours, theirs = read({name: tensor.numpy() for name, tensor in state.items()}), read(state)
    assert holds(ours, arrays)
    assert holds(theirs, arrays)
    assert ours.weights.provenance == theirs.weights.provenance
    assert ours.weights.provenance.layout == "torchvision"


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_checkpoints_are_unwrapped(wrapper: str, state: State, arrays: dict[str, Floats]) -> None:
    assert holds(read({"epoch": 3, wrapper: OrderedDict(state), "optimizer": {"lr": 0.1}}), arrays)
    assert holds(read({"model": {wrapper: state}}), arrays)


def test_modules_are_read_by_their_state_dict() -> None:
    model = nn.Module()
    model.features = first_layers()
    expected = {name: tensor.numpy() for name, tensor in model.features.state_dict().items()}
    for module in (model, model.features, nn.DataParallel(model)):
        weights = read(module, upto="conv3_1").weights
        assert np.array_equal(weights.plain["conv2_1.weight"], expected["3.weight"])
        assert np.array_equal(weights.plain["conv3_1.bias"], expected["6.bias"])


@pytest.mark.parametrize("preprocessing", ["torch", "caffe"])
def test_a_vgg_of_this_package_says_what_it_is(preprocessing: Any, arrays: dict[str, Floats]) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    vgg = VGG(tensors, architecture="vgg11", preprocessing=preprocessing, upto=UPTO)
    source = read_source(vgg)
    network = require_vgg(source.weights.network)
    assert (network.architecture, network.preprocessing, network.last) == (VGG11, preprocessing, "conv3_2")
    assert holds(source, arrays)
    with pytest.raises(SourceError, match=rf"^VGG: expected preprocessing {preprocessing}, which these weights"):
        read_source(vgg, preprocessing="caffe" if preprocessing == "torch" else "torch")


@pytest.mark.parametrize(
    "painter",
    [
        Johnson(JohnsonNetwork.stock("tiny", 0.125, 0)),
        AdaIN(AdaINNetwork((8,) * 9)),
        Arbitrary(ArbitraryNetwork((4, 6, 8), ("up2",), predictor=(8,) * 9)),
    ],
    ids=lambda painter: painter.network.family,
)
def test_a_painter_of_this_package_says_what_it_is(painter: Any, tmp_path: Path) -> None:
    pack(painter, tmp_path / "packed", bits=8)
    found = load_stylizer(tmp_path / "packed")
    assert found.network == painter.network
    assert [*found.state_dict()] == [*painter.state_dict()]
    with pytest.raises(OptionError, match="preprocessing: expected a VGG, which alone has preprocessing caffe"):
        read_source(painter, preprocessing="caffe")
    painter.extra = nn.Parameter(torch.zeros(1))
    with pytest.raises(SourceError, match="extra"):
        read_source(painter)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_of_torch(dtype: torch.dtype, state: State) -> None:
    weights = read({name: tensor.to(dtype) for name, tensor in state.items()}).weights
    expected = state["features.3.weight"].to(dtype).float()
    assert np.array_equal(weights.plain["conv2_1.weight"], expected.numpy())


def test_gradients_strides_and_byte_orders_do_not_matter(state: State, arrays: dict[str, Floats]) -> None:
    strided = {name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor for name, tensor in state.items()}
    parameters = {name: nn.Parameter(tensor) for name, tensor in state.items()}
    swapped = {name: tensor.numpy().astype(">f4") for name, tensor in state.items()}
    digests = {read(state).weights.provenance.sha256}
    for source in (strided, parameters, swapped):
        found = read(source)
        assert holds(found, arrays)
        digests.add(found.weights.provenance.sha256)
    assert len(digests) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_tensors_on_a_gpu(state: State, arrays: dict[str, Floats]) -> None:
    assert holds(read({name: tensor.cuda() for name, tensor in state.items()}), arrays)


def test_what_is_no_tensor_is_passed_over(state: State, arrays: dict[str, Floats]) -> None:
    assert holds(read({**state, "epoch": 3, "_extra_state": None, "names": ["a"]}), arrays)


# ---- the checksum


def test_the_checksum_is_as_documented() -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "né": np.array([1, -2], ">i2")}
    digest = hashlib.sha256()
    digest.update(b'["a.weight","float32",[2,3]]\n' + np.arange(6, dtype="<f4").tobytes())
    digest.update(json.dumps(["né", "int16", [2]], separators=(",", ":")).encode() + b"\n")
    digest.update(np.array([1, -2], "<i2").tobytes())
    assert checksum(read_state_dict(state).tensors) == digest.hexdigest()


def test_names_shapes_types_and_order_count() -> None:
    a, b = np.zeros(4, np.float32), np.ones(2, np.float32)
    states: list[dict[str, Any]] = [
        {"a": a, "b": b},
        {"b": b, "a": a},
        {"a": a, "c": b},
        {"a": a.reshape(2, 2), "b": b},
        {"a": a.astype(np.float16), "b": b},
        {"a": a, "b": b, "c": np.zeros(0, np.float32)},
        {"a": a, "b": -b},
    ]
    assert len({checksum(read_state_dict(state).tensors) for state in states}) == len(states)


# ---- what is refused


def test_the_state_dict_is_named(state: State) -> None:
    with pytest.raises(SourceError, match=r"^state dict: expected preprocessing caffe or torch, got unknown weights"):
        read(state, preprocessing=None)
    state["features.3.weight"][0] = torch.nan
    with pytest.raises(SourceError, match=r"^state dict: features\.3\.weight: expected finite values"):
        read(state)
    narrow = first_layers()
    narrow[3] = nn.Conv2d(64, 99, 3)
    with pytest.raises(SourceError, match=r"^Sequential: 3\.weight: expected shape"):
        read(narrow, upto="conv3_1")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(64, 3, 3, 3).to_sparse(),
        torch.zeros(64, 3, 3, 3, device="meta"),
        torch.zeros(64, 3, 3, 3).to(torch.float8_e4m3fn),
        np.full((64, 3, 3, 3), "x", object),
    ],
    ids=["sparse", "meta", "float8", "objects"],
)
def test_unusable_tensors_are_named(tensor: Any, state: State) -> None:
    with pytest.raises(SourceError, match=r"^state dict: features\.0\.weight: .*; convert it"):
        read({**state, "features.0.weight": tensor})


def test_names_are_texts(state: State) -> None:
    with pytest.raises(SourceError, match=r"^state dict: 7: expected names, got int; pass module.state_dict\(\)"):
        read({**state, 7: torch.zeros(1)})  # type: ignore[dict-item]


@pytest.mark.parametrize("source", [7, [1, 2], np.zeros(3, np.uint8)])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(OptionError, match="expected a path, bytes or an open binary file, got "):
        read_source(source)
