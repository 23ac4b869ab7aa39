"""The modules of a network that paints in any style: what they compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, instance_norm, pad

from vggquant import info, load_stylizer
from vggquant.errors import OptionError, PictureError
from vggquant.files.sources import embedded_path
from vggquant.models.arbitrary import SMALLEST, Arbitrary
from vggquant.models.layout import lay_channels_last
from vggquant.networks.arbitrary import ArbitraryNetwork, Border, mobilenet, steered_names
from vggquant.pictures.generated import generated_pictures

PREDICTOR = (8,) * 9


def made(*separable: str, border: Border = "reflect") -> Arbitrary:
    torch.manual_seed(0)
    return Arbitrary(ArbitraryNetwork((4, 6, 8), separable, border, PREDICTOR)).eval().requires_grad_(False)


@pytest.mark.parametrize("separable", [(), ("block2_1", "up2"), steered_names()])
def test_its_tensors_are_those_of_the_record(separable: tuple[str, ...]) -> None:
    painter = made(*separable)
    assert {name: tuple(tensor.shape) for name, tensor in painter.state_dict().items()} == {
        spec.name: spec.shape for spec in painter.network.tensors
    }


def by_hand(painter: Arbitrary, content: Tensor, code: Tensor) -> Tensor:
    """What the article describes, for one picture, by the names of the record."""
    state = {name.removeprefix("transfer."): tensor for name, tensor in painter.state_dict().items()}
    mode = "reflect" if painter.network.border == "reflect" else "constant"

    def steered(name: str, x: Tensor) -> Tensor:
        if f"{name}.convolution.weight" in state:
            kernel = state[f"{name}.convolution.weight"]
        else:  # one convolution that does both
            kernel = state[f"{name}.pointwise.weight"] * state[f"{name}.depthwise.weight"].transpose(0, 1)
        x = conv2d(pad(x, (kernel.shape[2] // 2,) * 4, mode=mode), kernel)
        gain, shift = (
            state[f"{name}.{part}.weight"] @ code + state[f"{name}.{part}.bias"] for part in ("gain", "shift")
        )
        return instance_norm(x, weight=gain, bias=shift)

    x = content
    for name, border, stride in (("down1", 4, 1), ("down2", 1, 2), ("down3", 1, 2)):
        kernel, bias = state[f"{name}.convolution.weight"], state[f"{name}.convolution.bias"]
        x = conv2d(pad(x, (border,) * 4, mode=mode), kernel, bias, stride).relu()
    for block in range(1, 6):
        x = x + steered(f"block{block}_2", steered(f"block{block}_1", x).relu())
    for name in ("up1", "up2"):
        x = steered(name, x.repeat_interleave(2, 2).repeat_interleave(2, 3)).relu()
    return steered("out", x).sigmoid()


@pytest.mark.parametrize("border", ["reflect", "zeros"])
@pytest.mark.parametrize("separable", [(), ("block2_1", "up2"), steered_names()])
def test_paintings_are_those_computed_by_hand(separable: tuple[str, ...], border: Border) -> None:
    painter = made(*separable, border=border)
    content, code = torch.rand(1, 3, 24, 32), torch.randn(100)
    torch.testing.assert_close(painter(content, code[None]), by_hand(painter, content, code), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("separable", [(), steered_names()])
def test_paintings_are_the_same_in_training_and_when_compiled(separable: tuple[str, ...]) -> None:
    painter = made(*separable)
    lay_channels_last(painter)
    contents, codes = torch.rand(2, 3, 24, 32), torch.randn(2, 100)
    expected = painter(contents, codes)
    torch.testing.assert_close(painter.train()(contents, codes), expected, rtol=1e-4, atol=1e-5)
    compiled = torch.compile(painter.eval().transfer, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(contents, codes), expected, rtol=1e-4, atol=1e-5)


def test_each_picture_of_a_batch_has_its_own_style() -> None:
    painter = made()
    contents, codes = torch.rand(3, 3, 24, 32), torch.randn(3, 100)
    alone = torch.cat([painter(content[None], code[None]) for content, code in zip(contents, codes, strict=True)])
    torch.testing.assert_close(painter(contents, codes), alone, rtol=1e-4, atol=1e-5)
    alike = torch.cat([painter(content[None], codes[:1]) for content in contents])
    torch.testing.assert_close(painter(contents, codes[:1]), alike, rtol=1e-4, atol=1e-5)
    assert (alone[1] - alike[1]).abs().max() > 0.01


@pytest.mark.parametrize("size", [(SMALLEST, SMALLEST), (33, 50), (47, 21), (18, 101)])
def test_any_size_serves(size: tuple[int, int]) -> None:
    painter = made(*steered_names())
    pictures = torch.rand(2, 3, *size)
    codes = painter.predict(pictures)
    assert codes.shape == (2, 100)
    found = painter(pictures, codes)
    assert found.shape == pictures.shape
    assert 0 <= float(found.min()) < float(found.max()) <= 1


def test_a_predictor_is_a_mobilenet() -> None:
    painter = Arbitrary(ArbitraryNetwork((4, 4, 4), predictor=mobilenet(0.35)))
    sizes: list[tuple[int, ...]] = []
    for name in ("first", "unit1.depthwise", "unit2.depthwise", "unit17.project", "last", "code"):
        painter.predictor.get_submodule(name).register_forward_hook(
            lambda module, taken, given: sizes.append(tuple(given.shape[1:]))
        )
    painter.predict(torch.rand(1, 3, 256, 256))
    assert sizes == [(8, 128, 128), (8, 128, 128), (48, 64, 64), (112, 8, 8), (448, 8, 8), (100, 1, 1)]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 32, 15)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    painter = made()
    with pytest.raises(PictureError, match="styles: expected shape"):
        painter.predict(torch.rand(shape))
    with pytest.raises(PictureError, match="images: expected shape"):
        painter(torch.rand(shape), torch.zeros(1, 100))


@pytest.mark.parametrize("shape", [(100,), (1, 99), (2, 100), (0, 100)])
def test_other_codes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"codes: expected shape \(1, 100\) or \(3, 100\)"):
        made().transfer(torch.rand(3, 3, 16, 16), torch.zeros(shape))


def code_and_own(painter: Arbitrary, content: Tensor) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 100), painter.predict(content)


def test_strength_is_the_average_with_the_contents_own_style() -> None:
    painter, content = made(), torch.rand(1, 3, 24, 32)
    code, own = code_and_own(painter, content)
    for strength in (0.0, 0.3, 1.0):
        expected = painter.transfer(content, torch.lerp(own, code, strength))
        torch.testing.assert_close(painter(content, [code], strength=strength), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(painter(content, code), painter(content, [code]))


def test_a_style_is_a_picture_or_what_was_predicted_of_it() -> None:
    painter, content, style = made(), torch.rand(2, 3, 24, 32), torch.rand(1, 3, 40, 60)
    assert torch.equal(painter(content, [style]), painter(content, painter.predict(style)))
    assert painter.predict(style).shape == (1, 100)


def test_styles_blend_by_their_weights() -> None:
    painter, content = made(), torch.rand(1, 3, 24, 32)
    first, second = torch.randn(2, 1, 100)
    blended = painter.blend([first, second], [3, 1])
    torch.testing.assert_close(blended, 0.75 * first + 0.25 * second)
    torch.testing.assert_close(painter(content, [first, second], weights=[3, 1]), painter(content, blended))
    torch.testing.assert_close(painter.blend([first, second]), (first + second) / 2)


def test_masks_say_where_a_style_is_wanted() -> None:
    painter, content = made(*steered_names()), torch.rand(1, 3, 48, 64)
    code, own = code_and_own(painter, content)
    everywhere, nowhere = torch.ones(1, 1, 48, 64), torch.zeros(1, 1, 48, 64)
    torch.testing.assert_close(painter(content, [code], masks=[everywhere]), painter(content, code), atol=1e-5, rtol=0)
    torch.testing.assert_close(painter(content, [code], masks=[nowhere]), painter(content, own), atol=1e-5, rtol=0)
    assert torch.equal(painter(content, [code], masks=[None]), painter(content, code))
    left = everywhere.clone()
    left[..., 32:] = 0
    both = painter(content, [code, own], masks=[left, 1 - left], weights=[1, 1])
    alone = painter(content, [code], masks=[left])
    assert (alone[..., :8] - painter(content, own)[..., :8]).abs().mean() > 0.01  # painted in the style on the left
    assert both.shape == content.shape


@pytest.mark.parametrize(
    "options",
    [{"strength": 1.1}, {"weights": [1.0, 1.0]}, {"weights": [0.0]}, {"weights": [-1.0]}, {"masks": []}],
)
def test_options_without_a_meaning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        made()(torch.rand(1, 3, 16, 16), [torch.zeros(1, 100)], **options)


def test_no_styles_are_refused() -> None:
    with pytest.raises(OptionError, match="styles: expected a list of styles, one or more, got none"):
        made()(torch.rand(1, 3, 16, 16), [])


def test_an_embedded_network_paints_in_the_style_of_a_picture() -> None:
    painter = load_stylizer("arbitrary")
    assert isinstance(painter, Arbitrary)
    assert embedded_path("arbitrary").stat().st_size <= 1_500_000
    found = info("arbitrary")
    assert "Magenta" in str(found.changes)
    assert "Apache 2.0" in str(found.changes)
    content, first, second = (
        torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255 for array in generated_pictures(3, 96, 128, 2)
    )
    painted = [painter(content, [style]) for style in (first, second)]
    assert float((painted[0] - painted[1]).abs().mean()) > 0.02
    own = painter(content, [first], strength=0)
    assert float((own - content).abs().mean()) < float((painted[0] - content).abs().mean())


def test_blends_refuse_numbers_of_another_shape() -> None:
    code = torch.zeros(1, 100)
    assert Arbitrary.blend([code, torch.ones(2, 100)]).shape == (2, 100)
    for other in (torch.zeros(1, 50), torch.zeros(100), torch.zeros(1, 3, 32, 32)):
        with pytest.raises(PictureError, match="codes: expected shape"):
            Arbitrary.blend([code, other])
