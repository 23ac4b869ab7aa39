"""Distillation: pupils come nearer to their teachers, and a separable one begins with what a plain one knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vggquant.models.arbitrary import Predictor, Transfer
from vggquant.networks.arbitrary import ArbitraryNetwork, steered_names
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.training.distil import (
    DistilOptions,
    PredictorDistillation,
    Samples,
    TransferDistillation,
    begin_with,
    style_views,
)
from vggquant.training.views import Pictures

NETWORK = ArbitraryNetwork((4, 6, 8), predictor=(8,) * 9)
SEPARABLE = replace(NETWORK, separable=steered_names())
OPTIONS = DistilOptions(batch=4, learning_rate=0.01, side=32, style_side=48, contents=6, styles=5)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 6, 8, generator=generator)
    return Pictures([*(255 * interpolate(coarse, (48, 64), mode="bilinear")).byte()], "cpu")


def mean_colors(views: Tensor) -> Tensor:
    """A teacher of numbers that are easy to learn."""
    return views.mean((2, 3)).repeat(1, 34)[:, :100]


def tinted(contents: Tensor, codes: Tensor) -> Tensor:
    """A teacher that paints in the colours of the numbers."""
    return (contents + codes[:, :3, None, None]) / 2


def eyes(images: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
    """What stands for a VGG: the pixels, at every layer another part of them."""
    return {layer: images[:, :, :: len(layer) - 6, ::2] for layer in layers}


def test_a_predictor_learns_its_teachers_numbers(pictures: Pictures) -> None:
    torch.manual_seed(0)
    begun = PredictorDistillation(NETWORK, mean_colors, pictures, pictures, OPTIONS)
    losses = [float(begun.step(number / 12)["code"]) for number in range(12)]
    assert sum(losses[-3:]) < 0.75 * sum(losses[:3])
    predictor = begun.predictor
    assert [*predictor.state_dict()] == [*Predictor(NETWORK).state_dict()]
    assert not predictor.training


def test_a_painter_adds_styles(pictures: Pictures) -> None:
    seen: list[Tensor] = []

    def painter(contents: Tensor, codes: Tensor) -> Tensor:
        seen.append(codes)
        return torch.full_like(contents, 0.25)

    taught: list[Tensor] = []

    def teacher(views: Tensor) -> Tensor:
        taught.append(views)
        return mean_colors(views)

    PredictorDistillation(NETWORK, teacher, pictures, pictures, OPTIONS, painter).step(0.5)
    assert [tuple(codes.shape) for codes in seen] == [(1, 100)]
    assert torch.equal(taught[1][0], torch.full((3, 256, 256), 0.25))
    assert torch.equal(taught[1][1:], taught[0][1:])


@pytest.mark.parametrize("network", [NETWORK, SEPARABLE])
def test_a_transfer_network_learns_its_teachers_pictures(pictures: Pictures, network: ArbitraryNetwork) -> None:
    torch.manual_seed(0)
    samples = Samples(mean_colors, eyes, pictures, pictures, OPTIONS)
    begun = TransferDistillation(network, tinted, samples, replace(OPTIONS, content_weight=0.1, style_weight=0.1))
    rows = [begun.step(number / 40) for number in range(40)]
    assert set(rows[0]) == {"pixel", "content", "style"}
    assert sum(float(row["pixel"]) for row in rows[-5:]) < 0.5 * sum(float(row["pixel"]) for row in rows[:5])
    assert [*begun.transfer.state_dict()] == [*Transfer(network).state_dict()]


def test_without_a_vgg_pixels_alone_are_compared(pictures: Pictures) -> None:
    samples = Samples(mean_colors, None, pictures, pictures, OPTIONS)
    assert set(TransferDistillation(NETWORK, tinted, samples, OPTIONS).step(0.5)) == {"pixel"}


def test_losses_are_relative_squares(pictures: Pictures) -> None:
    options = replace(OPTIONS, own=0.0, blended=0.0, batch=64)
    samples = Samples(mean_colors, eyes, pictures, pictures, options)
    batch = samples.batch(options)
    assert torch.equal(batch.alone, torch.ones(64))
    same = samples.losses(batch.contents, batch)
    assert float(same["content"]) < 1e-4  # kept in bfloat16
    doubled = samples.losses(2 * batch.contents, batch)
    assert float(doubled["content"]) == pytest.approx(1, abs=0.01)
    assert float(samples.losses(0 * batch.contents, batch)["style"]) == pytest.approx(1)
    nothing = samples.losses(batch.contents, replace(batch, alone=torch.zeros(64)))
    assert float(nothing["style"]) == 0
    assert len(STYLE_LAYERS) == 5


def test_some_contents_keep_their_own_style_and_some_have_one_between(pictures: Pictures) -> None:
    options = replace(OPTIONS, own=0.3, blended=0.3, batch=200)
    samples = Samples(mean_colors, None, pictures, pictures, options)
    batch = samples.batch(options)
    own = torch.isclose(batch.codes, mean_colors(batch.contents), atol=5e-3).all(1)
    assert 0.15 < float(own.float().mean()) < 0.45
    assert 0.25 < float(batch.alone.mean()) < 0.55
    assert not bool((own & (batch.alone == 1)).any())


def test_a_separable_network_begins_with_a_plain_one() -> None:
    torch.manual_seed(0)
    plain, separable, other = Transfer(NETWORK), Transfer(SEPARABLE), Transfer(SEPARABLE)
    for name in steered_names():  # kernels that are separable as they are
        weight = plain.get_parameter(f"{name}.convolution.weight")
        outside, inside, kernel, _ = weight.shape
        weight.data = torch.randn(outside, inside, 1, 1) * torch.randn(1, inside, kernel, kernel)
    contents, codes = torch.rand(2, 3, 32, 32), torch.randn(2, 100)
    begin_with(separable, plain)
    torch.testing.assert_close(separable(contents, codes), plain(contents, codes), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(other(contents, codes), plain(contents, codes), atol=0.01)


def test_a_network_goes_on_from_where_another_is(pictures: Pictures) -> None:
    start = Transfer(NETWORK)
    samples = Samples(mean_colors, None, pictures, pictures, OPTIONS)
    begun = TransferDistillation(NETWORK, tinted, samples, OPTIONS, start)
    found = begun.transfer.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in start.state_dict().items())


def test_styles_are_of_one_side(pictures: Pictures) -> None:
    views = style_views(pictures, pictures, 6)
    assert views.shape == (6, 3, 256, 256)
    assert 0 <= float(views.min()) < float(views.max()) <= 1
