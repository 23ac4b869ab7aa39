from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import natural_picture
from vggquant import VGG, load_quantized_state_dict, load_quantized_vgg
from vggquant.errors import OptionError, PictureError


def photograph(size: int = 96) -> torch.Tensor:
    """(1, 3, size, size), RGB in [0, 1]."""
    picture = torch.from_numpy(natural_picture()[100 : 100 + size, 150 : 150 + size])
    return picture.permute(2, 0, 1)[None].float() / 255


def test_parameters_are_frozen_and_gradients_reach_the_image() -> None:
    vgg = load_quantized_vgg(upto="relu2_1")
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    assert not vgg.training
    image = photograph(32).requires_grad_()
    vgg(image, ["relu2_1"])["relu2_1"].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_upto_builds_nothing_deeper() -> None:
    vgg = load_quantized_vgg(upto="relu2_1")
    assert list(vgg.state_dict()) == [
        f"{name}.{part}" for name in ("conv1_1", "conv1_2", "conv2_1") for part in ("weight", "bias")
    ]
    assert list(vgg(photograph(16))) == ["relu1_1", "relu1_2", "relu2_1"]
    with pytest.raises(OptionError, match="relu2_2"):
        vgg(photograph(16), ["relu2_2"])


def test_upto_may_be_a_pool_or_a_convolution() -> None:
    assert load_quantized_vgg(upto="pool1")(photograph(16), ["pool1"])["pool1"].shape == (1, 64, 8, 8)
    assert float(load_quantized_vgg(upto="conv1_2")(photograph(16), ["conv1_2"])["conv1_2"].min()) < 0


def test_layers_come_in_the_order_asked_for() -> None:
    vgg = load_quantized_vgg(upto="relu2_1")
    found = vgg(photograph(16), ("relu2_1", "pool1", "conv1_1"))
    assert list(found) == ["relu2_1", "pool1", "conv1_1"]
    assert vgg(photograph(16), ()) == {}


def test_pooling_floors_and_averages() -> None:
    image = photograph(17)
    largest = load_quantized_vgg(upto="pool1")(image, ["relu1_2", "pool1"])
    mean = load_quantized_vgg(upto="pool1", pooling="avg")(image, ["pool1"])["pool1"]
    assert largest["pool1"].shape == mean.shape == (1, 64, 8, 8)
    blocks = largest["relu1_2"][:, :, :16, :16].unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.equal(largest["pool1"], blocks.amax((-1, -2)))
    assert torch.allclose(mean, blocks.mean((-1, -2)), atol=1e-3)


def test_a_batch_equals_its_pictures() -> None:
    vgg = load_quantized_vgg(upto="relu3_1")
    images = torch.cat([photograph(32), photograph(32).flip(3)])
    together = vgg(images, ["relu3_1"])["relu3_1"]
    assert torch.allclose(together[1:], vgg(images[1:], ["relu3_1"])["relu3_1"], rtol=1e-4, atol=1e-2)


def test_one_layer_may_be_named_alone_and_types_are_converted() -> None:
    vgg = load_quantized_vgg(upto="relu1_1")
    image = photograph(16)
    assert torch.equal(vgg(image.double(), "relu1_1")["relu1_1"], vgg(image)["relu1_1"])


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 16, 16, dtype=torch.uint8), np.zeros((1, 3, 16, 16), np.float32)])
def test_integers_and_arrays_are_refused(images: Any) -> None:
    with pytest.raises(PictureError, match="a floating tensor"):
        load_quantized_vgg(upto="relu1_1")(images)


@pytest.mark.parametrize("options", [{"dtype": torch.float8_e4m3fn}, {"dtype": "float32"}, {"device": "nonsense"}])
def test_unusable_types_and_devices_are_refused(options: Any) -> None:
    with pytest.raises(OptionError, match=f"^{next(iter(options))}: "):
        load_quantized_vgg(**options)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"\(N, 3, H, W\)"):
        load_quantized_vgg(upto="relu1_1")(torch.zeros(shape))


def test_pictures_too_small_for_the_pools_are_refused() -> None:
    vgg = load_quantized_vgg()
    with pytest.raises(PictureError, match="sides of at least 16 pixels for relu5_1"):
        vgg(torch.zeros(1, 3, 15, 100), ["relu5_1"])
    assert vgg(torch.zeros(1, 3, 16, 100), ["relu5_1"])["relu5_1"].shape == (1, 512, 1, 6)
    assert vgg(torch.zeros(1, 3, 1, 1), ["relu1_1"])["relu1_1"].shape == (1, 64, 1, 1)


@pytest.mark.parametrize("options", [{"architecture": "x"}, {"preprocessing": "x"}, {"pooling": "x"}, {"upto": "x"}])
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        VGG({}, **options)  # type: ignore[arg-type]


def test_an_incomplete_state_is_refused() -> None:
    state = load_quantized_state_dict(layout="vggquant")
    del state["conv2_1.bias"]
    with pytest.raises(OptionError, match=r"conv2_1\.bias"):
        VGG(state)
    with pytest.raises(OptionError, match=r"conv1_1\.weight"):
        VGG({})


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    vgg = load_quantized_vgg(upto="relu1_1", dtype=dtype)
    found = vgg(photograph(16).to(dtype))["relu1_1"]
    assert found.dtype == dtype
    with pytest.raises(OptionError, match="dtype: expected one of"):
        load_quantized_vgg(dtype=torch.int32)


def test_nothing_is_initialised_at_random() -> None:
    before = torch.get_rng_state()
    load_quantized_vgg()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_is_split_over_devices() -> None:
    """With the device that holds nothing as the other one."""
    vgg = load_quantized_vgg(upto="relu4_1")
    vgg.place({"relu2_2": "meta", "conv3_2": "meta"})
    found = vgg(torch.rand(1, 3, 32, 32))
    assert [tensor.device.type for tensor in found.values()] == ["cpu"] * 3 + ["meta"] * 6
    assert found["relu4_1"].shape == (1, 512, 4, 4)
    vgg = load_quantized_vgg(upto="relu2_1")
    expected = vgg(torch.ones(1, 3, 16, 16))
    vgg.place({"relu1_2": "cpu"})
    assert all(torch.equal(found, expected[name]) for name, found in vgg(torch.ones(1, 3, 16, 16)).items())
    with pytest.raises(OptionError, match="layers of conv1_1"):
        vgg.place({"relu5_1": "cpu"})
