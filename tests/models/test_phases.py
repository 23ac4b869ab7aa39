"""Convolutions over phases give what torch's give."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv2d, instance_norm, interpolate, pad

from vggquant.models import phases
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork


@pytest.mark.parametrize("channels", [(3, 9), (9, 3), (1, 1)])
@pytest.mark.parametrize("kernel", [9, 5])
def test_a_large_kernel(channels: tuple[int, int], kernel: int) -> None:
    x, weight = torch.randn(2, channels[0], 24, 32), torch.randn(channels[1], channels[0], kernel, kernel)
    assert torch.allclose(phases.convolution(x, weight), conv2d(x, weight), atol=1e-4)


BORDERS = pytest.mark.parametrize(("before", "behind"), [("replicate", "reflect"), ("constant", "constant")])


@BORDERS
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (6, 8)])
def test_doubled_images(size: tuple[int, int], before: str, behind: str) -> None:
    x, weight = torch.randn(2, 5, *size), torch.randn(7, 5, 3, 3)
    expected = conv2d(pad(interpolate(x, scale_factor=2), (1, 1, 1, 1), mode=behind), weight)
    found = phases.doubled_convolution(pad(x, (1, 1, 1, 1), mode=before), weight)
    assert torch.allclose(found, expected, atol=1e-4)


@BORDERS
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (6, 8)])
def test_doubled_images_of_which_each_channel_is_convolved_alone(
    size: tuple[int, int], before: str, behind: str
) -> None:
    x = torch.randn(2, 5, *size).double().requires_grad_()
    depthwise, pointwise = torch.randn(5, 1, 3, 3).double(), torch.randn(7, 5, 1, 1).double()
    doubled = pad(interpolate(x, scale_factor=2), (1, 1, 1, 1), mode=behind)
    expected = conv2d(conv2d(doubled, depthwise, groups=5), pointwise)
    found = phases.doubled_separable_convolution(pad(x, (1, 1, 1, 1), mode=before), depthwise, pointwise)
    assert torch.allclose(found, expected)
    (slope,), (expected_slope,) = (torch.autograd.grad(made.square().sum(), [x]) for made in (found, expected))
    assert torch.allclose(slope, expected_slope)


@pytest.mark.parametrize("size", [(3, 5), (6, 2), (8, 8)])
def test_instance_norm_far_from_zero(size: tuple[int, int]) -> None:
    x, gain, shift = 1000 + torch.randn(2, 5, *size), torch.randn(5), torch.randn(5)
    expected = instance_norm(x.double(), weight=gain.double(), bias=shift.double())
    assert torch.allclose(phases.instance_norm(x, gain, shift).double(), expected, atol=1e-3)


@pytest.mark.parametrize("size", [(48, 64), (30, 44)])
def test_a_painter_paints_the_same(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    painter, images = Johnson(JohnsonNetwork.stock("tiny", 0.3)).requires_grad_(False), torch.rand(2, 3, *size)
    found = painter(images)
    monkeypatch.setattr(phases, "serves", lambda _: False)
    assert torch.allclose(found, painter(images), atol=1e-4)


def test_gradients_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    painter, images = Johnson(JohnsonNetwork.stock("tiny", 0.125, 1)).double(), torch.rand(1, 3, 32, 32).double()
    found = torch.autograd.grad(painter(images).square().sum(), [*painter.parameters()])
    monkeypatch.setattr(phases, "serves", lambda _: False)
    expected = torch.autograd.grad(painter(images).square().sum(), [*painter.parameters()])
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-8)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 5, 7, 9), (1, 32, 16, 20)])
@pytest.mark.parametrize("cached", [1, 2**18])
def test_moments_are_means_and_variances(shape: tuple[int, ...], cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_CACHED", cached)
    x = (3 + torch.randn(shape)).contiguous(memory_format=torch.channels_last)
    mean, variance = phases.moments(x)
    expected, expected_mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mean, expected_mean)
    torch.testing.assert_close(variance, expected)
