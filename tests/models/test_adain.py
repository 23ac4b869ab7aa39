"""AdaIN as a module: its encoder, what it takes of styles, sizes, tiles, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vggquant import load_quantized_vgg
from vggquant.errors import OptionError, PictureError
from vggquant.models import adain
from vggquant.models.adain import AdaIN, Statistics, statistics_of
from vggquant.networks.adain import FIRST_OF_BLOCKS, AdaINNetwork

CHANNELS = (8, 8, 8, 16, 16, 16, 16, 16, 24)


@pytest.fixture
def painter() -> AdaIN:
    """Of random weights, in float64; it paints around grey."""
    torch.manual_seed(0)
    found = AdaIN(AdaINNetwork(CHANNELS)).double().eval().requires_grad_(False)
    last = found.decoder.get_submodule("conv1_1")
    last.get_parameter("weight").mul_(2)
    last.get_parameter("bias").fill_(0.5)
    return found


def pictures(*size: int, seed: int = 1) -> Tensor:
    return torch.rand(1, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def decoded(painter: AdaIN, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The features that were decoded."""
    seen: list[Tensor] = []
    decode = painter.decode

    def note(features: Tensor) -> Tensor:
        seen.append(features)
        return decode(features)

    monkeypatch.setattr(painter, "decode", note)
    return seen


def test_its_tensors_are_those_of_the_record(painter: AdaIN) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in painter.state_dict().items()} == {
        spec.name: spec.shape for spec in painter.network.tensors
    }
    assert "channels=(8, 8, 8, 16" in str(painter)


def test_an_encoder_begun_with_a_vgg_sees_what_it_sees() -> None:
    """Up to one factor, and but for the borders, where VGG sees grey."""
    torch.manual_seed(0)
    vgg = load_quantized_vgg(upto="relu4_1")
    images = torch.rand(2, 3, 112, 128)
    painter = AdaIN(AdaINNetwork()).eval().requires_grad_(False)
    painter.begin_with(vgg, images)
    with torch.inference_mode():
        found = painter.encode(images)
        expected = vgg(images, ["relu4_1"])["relu4_1"]
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-3)
    within, seen = (x[:, :, 5:-5, 5:-5] for x in (found, expected))
    factor = (within * seen).sum() / within.square().sum()
    assert float((factor * within - seen).norm() / seen.norm()) < 1e-4
    assert torch.equal(painter.decoder.get_submodule("conv1_1").get_parameter("bias"), images.mean((0, 2, 3)))


def test_doubled_convolutions_are_those_of_training(painter: AdaIN) -> None:
    layers = dict(painter.decoder.named())
    for name in FIRST_OF_BLOCKS:
        layer = layers[name]
        x = torch.randn(2, layer.weight.shape[1], 5, 6, dtype=torch.float64)
        eval_mode = layer.eval().doubled(x)
        assert eval_mode.shape[2:] == (10, 12)
        assert torch.allclose(layer.train().doubled(x), eval_mode, atol=1e-12)


def test_in_training_it_paints_the_same_beyond_the_range_too(painter: AdaIN) -> None:
    content, style = pictures(24, 32), pictures(16, 24, seed=2)
    painter.decoder.get_submodule("conv1_1").get_parameter("weight").mul_(20)
    found = painter(content, [style])
    learning = painter.train()(content, [style])
    assert 0 == float(found.min()) < float(found.max()) == 1
    assert torch.allclose(learning.clamp(0, 1), found, atol=1e-12)
    assert float(learning.min()) < 0


def test_features_take_means_and_deviations_of_the_style(painter: AdaIN, decoded: list[Tensor]) -> None:
    style = pictures(40, 24, seed=2)
    painter(pictures(48, 64), [style])
    wanted = painter.statistics(style)
    (features,) = decoded
    alive = wanted.deviation[0, :, 0, 0] > 0.05  # epsilon counts where nothing varies
    assert alive.sum() > 5
    for found, expected in zip(statistics_of(features), wanted, strict=True):
        assert torch.allclose(found[:, alive], expected[:, alive], rtol=0.01, atol=0.01)
    given = painter(pictures(48, 64), [wanted])
    assert torch.equal(decoded[0], decoded[1])
    assert torch.equal(given, painter(pictures(48, 64), [style]))


def test_strength(painter: AdaIN, decoded: list[Tensor]) -> None:
    content, style = pictures(48, 64), pictures(40, 24, seed=2)
    assert torch.equal(painter(content, [style], strength=0), painter.decode(painter.encode(content)).clamp(0, 1))
    for strength in (0.0, 0.25, 1.0):
        painter(content, [style], strength=strength)
    none, some, all_ = decoded[-3:]
    assert torch.allclose(some, 0.75 * none + 0.25 * all_, atol=1e-12)
    assert not torch.allclose(some, none)


def test_several_styles_are_mixed_by_their_weights(painter: AdaIN, decoded: list[Tensor]) -> None:
    content, styles = pictures(32, 32), [pictures(32, 32, seed=seed) ** seed for seed in (2, 3)]
    for style in styles:
        painter(content, [style])
    painter(content, styles)
    painter(content, styles, weights=[3, 1])
    painter(content, styles, weights=[0, 2])
    first, second, even, uneven, other = decoded
    assert not torch.allclose(first, second, atol=0.01)
    assert torch.allclose(even, (first + second) / 2, atol=1e-12)
    assert torch.allclose(uneven, 0.75 * first + 0.25 * second, atol=1e-12)
    assert torch.allclose(other, second, atol=1e-12)


def test_where_a_mask_is_black_all_is_as_without_its_style(painter: AdaIN, decoded: list[Tensor]) -> None:
    content, styles = pictures(32, 48), [pictures(32, 32, seed=seed) ** seed for seed in (2, 3)]
    mask = torch.zeros(1, 1, 32, 48, dtype=torch.float64)
    mask[..., 24:] = 1
    painter(content, styles[:1], masks=[mask])
    painter(content, styles[:1])
    painter(content, styles, masks=[None, mask])
    painter(content, styles)
    one, everywhere, two, both = decoded
    own = painter.encode(content)
    assert torch.allclose(one[..., :3], own[..., :3], atol=1e-12)
    assert torch.allclose(one[..., 3:], everywhere[..., 3:], atol=1e-12)
    assert torch.allclose(two[..., :3], (own + everywhere)[..., :3] / 2, atol=1e-12)
    assert torch.allclose(two[..., 3:], both[..., 3:], atol=1e-12)
    assert not torch.allclose(two[..., :3], both[..., :3], atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9), (17, 33), (48, 8)])
def test_paintings_have_the_size_of_pictures_and_their_range(painter: AdaIN, size: tuple[int, int]) -> None:
    for style in (pictures(*size, seed=2), pictures(1, 1), pictures(24, 40)):
        found = painter(pictures(*size), [style])
        assert found.shape == (1, 3, *size)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_pictures_and_styles_of_one_colour_give_one_colour(painter: AdaIN) -> None:
    flat = torch.full((1, 3, 40, 40), 0.3, dtype=torch.float64)
    found = painter(flat, [pictures(32, 32, seed=2)])
    assert found.isfinite().all()
    assert float(found.flatten(2).std(2).max()) < 1e-6
    found = painter(pictures(40, 40), [flat])
    assert found.isfinite().all()
    assert float(found.flatten(2).std(2).max()) < 0.05  # what epsilon leaves of the content


def test_pictures_of_a_batch_do_not_touch(painter: AdaIN) -> None:
    contents, styles = torch.cat([pictures(24, 32), pictures(24, 32, seed=5)]), pictures(24, 24, seed=2)
    alone = torch.cat([painter(content[None], [styles]) for content in contents])
    assert torch.allclose(painter(contents, [styles]), alone, atol=1e-12)


@pytest.mark.parametrize("size", [(130, 75), (64, 65), (200, 33)])
def test_tiles_are_as_the_whole(painter: AdaIN, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    content, style = pictures(*size), pictures(90, 70, seed=2)
    whole = painter(content, [style])
    monkeypatch.setattr(adain, "TILE", 64)
    assert float((painter(content, [style]) - whole).abs().max()) < 1e-12
    features = painter.encode(content)
    monkeypatch.setattr(adain, "REACH", 16)
    assert float((painter.encode(content) - features).abs().max()) > 1e-6


def test_tiles_of_the_decoder_see_far_enough(painter: AdaIN, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.rand(1, CHANNELS[-1], 20, 9, dtype=torch.float64)
    whole = painter.decode(features)
    monkeypatch.setattr(adain, "TILE", 64)
    assert float((painter.decode(features) - whole).abs().max()) < 1e-12
    monkeypatch.setattr(adain, "REACH", 16)
    assert float((painter.decode(features) - whole).abs().max()) > 1e-6


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strength": 1.1}, "strength: expected a number from 0 to 1, got 1.1"),
        ({"strength": float("nan")}, "strength: expected a number from 0 to 1, got nan"),
        ({"weights": [1, 2, 3]}, "weights: expected one for each style, 2, got 3"),
        ({"masks": [None]}, "masks: expected one for each style, 2, got 1"),
        ({"weights": [0, 0]}, "weights: expected finite numbers from 0 up, of which one is above 0"),
        ({"weights": [-1, 2]}, "weights: expected finite numbers from 0 up"),
        ({"weights": [1, float("inf")]}, "weights: expected finite numbers from 0 up"),
        ({"weights": [1, float("nan")]}, "weights: expected finite numbers from 0 up"),
        ({"styles": []}, "styles: expected a list of styles, one or more, got none"),
        ({"styles": torch.rand(1, 3, 8, 8)}, "styles: expected a list of styles"),
    ],
)
def test_arguments_without_a_meaning_are_refused(painter: AdaIN, given: dict[str, Any], said: str) -> None:
    whole = {"styles": [pictures(8, 8)] * 2, **given}
    with pytest.raises(OptionError, match=said):
        painter(pictures(16, 16), **whole)


def test_huge_weights_are_weights(painter: AdaIN) -> None:
    content, styles = pictures(16, 16), [pictures(8, 8), pictures(8, 9)]
    usual = painter(content, styles, weights=[1, 1])
    assert torch.allclose(painter(content, styles, weights=[1e308, 1e308]), usual)


def test_tensors_that_do_not_go_together_are_refused(painter: AdaIN) -> None:
    content = pictures(16, 16)
    other = Statistics(torch.zeros(1, 7, 1, 1), torch.ones(1, 7, 1, 1))
    for wrong in (torch.rand(3, 3, 8, 8, dtype=torch.float64), other):
        with pytest.raises(PictureError, match=r"styles: expected shape \(N, \d+, H, W\) with N of 1 or 1"):
            painter(content, [wrong])
    with pytest.raises(PictureError, match=r"masks: expected shape \(1, 1, H, W\), got \(16, 16\)"):
        painter(content, [content], masks=[torch.ones(16, 16)])
    with pytest.raises(PictureError, match="images: expected floating point in"):
        painter(content.byte(), [content])
    with pytest.raises(OptionError, match="styles: expected a list of styles, one or more, got one style"):
        painter(content, painter.statistics(content))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 0, 8)])
def test_other_tensors_are_refused(painter: AdaIN, shape: tuple[int, ...]) -> None:
    wrong, right = torch.rand(shape, dtype=torch.float64), pictures(8, 8)
    with pytest.raises(PictureError, match=r"images: expected shape \(N, 3, H, W\)"):
        painter(wrong, [right])
    with pytest.raises(PictureError, match=r"styles: expected shape \(N, 3, H, W\)"):
        painter(right, [wrong])


def test_statistics_are_in_float32_at_least() -> None:
    features = 100 + torch.rand(1, 2, 64, 64)
    found = statistics_of(features.bfloat16())
    assert isinstance(found, Statistics)
    assert {found.mean.dtype, found.deviation.dtype} == {torch.float32}
    assert statistics_of(features.double()).mean.dtype == torch.float64
