from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.test_vgg import photograph
from vggquant import VGG, load_quantized_state_dict
from vggquant.models.preprocessing import Preparation
from vggquant.networks.vgg import CAFFE_MEAN, PREPROCESSINGS, TORCH_MEAN, TORCH_STD, Preprocessing


def by_hand(preprocessing: str, red: float, green: float, blue: float) -> list[float]:
    """What one RGB pixel becomes."""
    if preprocessing == "caffe":
        return [255 * blue - CAFFE_MEAN[0], 255 * green - CAFFE_MEAN[1], 255 * red - CAFFE_MEAN[2]]
    return [(v - mean) / std for v, mean, std in zip((red, green, blue), TORCH_MEAN, TORCH_STD, strict=True)]


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_prepared_as_by_hand(preprocessing: Preprocessing, dtype: torch.dtype) -> None:
    prepare = Preparation(preprocessing, torch.device("cpu"), dtype)
    pixel = (0.2, 0.5, 0.75)
    images = torch.tensor(pixel, dtype=torch.float64).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    found = prepare(images)
    assert (found.shape, found.dtype) == (images.shape, dtype)
    assert found[1, :, 3, 4].tolist() == pytest.approx(by_hand(preprocessing, *pixel), rel=1e-5)
    assert torch.equal(found, found[:1, :, :1, :1].expand_as(found))


def test_the_mean_becomes_zero() -> None:
    for preprocessing, mean in (("caffe", [value / 255 for value in reversed(CAFFE_MEAN)]), ("torch", TORCH_MEAN)):
        images = torch.tensor(mean).reshape(1, 3, 1, 1)
        prepared = Preparation(preprocessing, torch.device("cpu"), torch.float32)(images)  # type: ignore[arg-type]
        assert prepared.abs().max() < 1e-4


def test_a_preparation_holds_no_weights() -> None:
    prepare = Preparation("caffe", torch.device("cpu"), torch.float32)
    assert not list(prepare.parameters())
    assert prepare.state_dict() == {}


def test_torch_preprocessing_happens_inside() -> None:
    state = load_quantized_state_dict(layout="vggquant")
    image = photograph(32)
    vgg = VGG(state, preprocessing="torch", upto="conv1_1")
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (TORCH_MEAN, TORCH_STD))
    expected = nn.functional.conv2d(
        (image - mean) / deviation, state["conv1_1.weight"], state["conv1_1.bias"], padding=1
    )
    assert torch.allclose(vgg(image, ["conv1_1"])["conv1_1"], expected, atol=1e-5)
