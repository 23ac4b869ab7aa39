from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import natural_picture
from vggquant import load_quantized_vgg
from vggquant import style as style_module
from vggquant.errors import OptionError, PictureError
from vggquant.features import gram_matrix
from vggquant.images import luminance, match_colors
from vggquant.options import StyleOptions
from vggquant.progress import Progress
from vggquant.style import ContentLoss, StyleLoss, StyleProgress, TotalVariationLoss, bytes_per_pixel, stages, stylize


def test_gram_matrix_by_its_formula() -> None:
    activation = torch.arange(24.0).reshape(1, 2, 3, 4)
    f = activation[0].reshape(2, 12)
    assert torch.allclose(gram_matrix(activation)[0], f @ f.T / 12)
    assert gram_matrix(torch.cat([activation, activation])).shape == (2, 2, 2)
    mask = torch.rand(1, 1, 3, 4)
    g = f * mask[0].reshape(1, 12)
    assert torch.allclose(gram_matrix(activation, mask)[0], g @ g.T / (mask**2).sum())
    assert torch.allclose(gram_matrix(activation, torch.ones(1, 1, 3, 4)), gram_matrix(activation))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_gram_matrices(layout: torch.memory_format) -> None:
    activation = torch.rand(2, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    mask = torch.rand(1, 1, 3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(gram_matrix, (activation,))
    assert torch.autograd.gradcheck(lambda a: gram_matrix(a, mask), (activation,))


def test_gram_matrices_of_half_types_are_float32() -> None:
    activation = torch.full((1, 2, 4, 4), 300.0, dtype=torch.float16, requires_grad=True)
    gram = gram_matrix(activation)
    assert gram.dtype == torch.float32
    assert gram[0, 0, 0] == 90_000  # beyond float16
    gram.sum().backward()  # type: ignore[no-untyped-call]
    assert activation.grad is not None
    assert activation.grad.dtype == torch.float16


def test_losses_by_their_formulas() -> None:
    target, other = torch.rand(1, 4, 5, 6), torch.rand(1, 4, 5, 6)
    squares = ((target - other) ** 2).mean().item()
    assert ContentLoss({"a": target}, {"a": None})({"a": other}).item() == pytest.approx(0.01 * squares)
    assert ContentLoss({"a": target}, {"a": 3.0})({"a": other}).item() == pytest.approx(3 * squares)
    squares = ((gram_matrix(target) - gram_matrix(other)) ** 2).mean().item()
    assert StyleLoss({"a": target}, {"a": None})({"a": other}).item() == pytest.approx(10 / 16 * squares)
    assert StyleLoss({"a": target}, {"a": 3.0})({"a": other}).item() == pytest.approx(3 * squares)
    assert StyleLoss({"a": target}, {"a": None})({"a": target}).item() == 0
    pixels = torch.tensor([[1.0, 4.0], [2.0, 0.0]]).expand(1, 3, 2, 2)
    assert TotalVariationLoss()(pixels).item() == pytest.approx((2.5 + 2.5) / 2)


@pytest.mark.parametrize(
    ("size", "scales"),
    [
        ((60, 170), 1),
        ((320, 320), 2),
        ((512, 341), 3),
        ((700, 1000), 4),
        ((2048, 1024), 5),
        ((70, 900), 2),
        ((20, 900), 1),
    ],
)
def test_scales_go_by_size(size: tuple[int, int], scales: int) -> None:
    found = stages(*size, StyleOptions(steps=100))
    assert len(found) == scales
    assert found[-1].size == size
    assert [step for stage in found for step in stage.steps] == list(range(100))
    for coarse, fine in itertools.pairwise(found):
        assert coarse.factor == fine.factor / 2
        assert all(abs(2 * a - b) <= 1 for a, b in zip(coarse.size, fine.size, strict=True))


class Tiny(nn.Module):
    """Any module that gives activations by name will do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)
        weight = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0)) / 5  # every one is the same
        self.convolution.weight.copy_(weight)
        self.convolution.bias = None

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.convolution(images * 255).relu())


def test_any_module_will_do_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    seen: list[Progress] = []
    content = torch.rand(1, 3, 12, 10)
    styles = [torch.rand(1, 3, 9, 7), torch.rand(1, 3, 6, 14)]
    result = stylize(Tiny(), content, styles, StyleOptions(steps=20), progress=seen.append)
    assert result.shape == content.shape
    assert not result.requires_grad
    assert [report.done for report in seen] == list(range(1, 21))
    assert seen[-1].values["loss"] < seen[0].values["loss"]
    assert seen[-1].values["loss"] == pytest.approx(seen[-1].values["content"] + seen[-1].values["style"], rel=1e-5)


def test_no_steps_give_the_content() -> None:
    content = torch.rand(1, 3, 8, 8)
    assert torch.allclose(stylize(Tiny(), content, [content], StyleOptions(steps=0)), content)


def test_a_transfer_moves_towards_the_style_and_keeps_the_content() -> None:
    content, style = (
        torch.from_numpy(natural_picture(name)[:128:2, :128:2].copy()).permute(2, 0, 1)[None].float() / 255
        for name in ("astronaut", "coffee")
    )
    vgg = load_quantized_vgg(upto="relu5_1")
    seen: list[Progress] = []
    result = stylize(vgg, content, [style], StyleOptions(steps=30), progress=seen.append)
    assert seen[-1].values["style"] < 0.1 * seen[0].values["style"]
    layer = ["relu4_2"]
    distance = (vgg(result, layer)["relu4_2"] - vgg(content, layer)["relu4_2"]).norm()
    unrelated = (vgg(style, layer)["relu4_2"] - vgg(content, layer)["relu4_2"]).norm()
    assert distance < unrelated
    again = stylize(vgg, content, [style], StyleOptions(steps=30))
    assert torch.allclose(again, result, atol=1e-3)


def test_from_coarse_to_fine() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30)
    seen: list[StyleProgress] = []
    made: list[Tensor] = []

    def see(report: StyleProgress) -> None:
        seen.append(report)
        made.append(report.picture().clone())

    result = stylize(Tiny(), content, [style], StyleOptions(steps=31, scales=3), progress=see)
    assert result.shape == content.shape
    assert [tuple(picture.shape[2:]) for picture in made] == [(10, 8)] * 4 + [(20, 15)] * 9 + [(40, 30)] * 18
    assert [report.detail for report in seen[::10]] == ["8 × 10", "15 × 20", "30 × 40", "30 × 40"]
    # what was painted at a size is taken to the next, where the content's own details are
    painted = made[12] - style_module._resize(content, (20, 15))
    assert torch.allclose(made[13], content + style_module._resize(painted, (40, 30)), atol=1e-3)


def start_loss(content: Tensor, style: Tensor, options: StyleOptions, start: Tensor | None = None) -> float:
    seen: list[Progress] = []
    stylize(Tiny(), content, [style], replace(options, steps=1, scales=1), start=start, progress=seen.append)
    return seen[0].values["loss"]


def test_starts() -> None:
    content = torch.rand(1, 3, 12, 10)

    def first(**options: Any) -> Tensor:
        return stylize(Tiny(), content, [content], StyleOptions(steps=0, **options))

    assert torch.equal(first(start="grey"), torch.full_like(content, 0.5))
    assert torch.equal(first(start="noise", seed=1), first(start="noise", seed=1))
    assert not torch.equal(first(start="noise", seed=1), first(start="noise", seed=2))
    assert (255 * first(start="noise")).std((2, 3)).flatten().tolist() == pytest.approx([1, 1, 1], abs=0.3)
    given = torch.rand(1, 3, 24, 20)
    assert stylize(Tiny(), content, [content], StyleOptions(steps=0), start=given).shape == content.shape


def test_a_transfer_goes_on_where_it_stood() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30)
    options = StyleOptions(steps=60, scales=2)
    kept: dict[int, Tensor] = {}
    losses: dict[int, float] = {}

    def keep(report: StyleProgress) -> None:
        kept[report.done], losses[report.done] = report.picture().clone(), report.values["loss"]

    whole = stylize(Tiny(), content, [style], options, progress=keep)
    for done in (12, 30, 45, 60):
        again: list[StyleProgress] = []
        result = stylize(Tiny(), content, [style], options, start=kept[done], done=done, progress=again.append)
        assert [report.done for report in again] == list(range(done + 1, 61))
        if done in (12, 45):  # within a size the next step sees the very picture
            assert again[0].values["loss"] == pytest.approx(losses[done + 1], rel=1e-3)
        before = start_loss(content, style, options)
        assert start_loss(content, style, options, result) < max(
            0.01 * before, 3 * start_loss(content, style, options, whole)
        )


def test_styles_are_weighed() -> None:
    torch.manual_seed(0)
    content, one, other = (torch.rand(1, 3, 12, 10) for _ in range(3))
    alone = stylize(Tiny(), content, [one], StyleOptions(steps=8))
    assert torch.equal(stylize(Tiny(), content, [one, other], StyleOptions(steps=8, style_weights=(1.0, 0.0))), alone)
    assert not torch.equal(stylize(Tiny(), content, [one, other], StyleOptions(steps=8)), alone)


def test_layers_are_weighed_by_name() -> None:
    content, style = torch.rand(1, 3, 12, 10), torch.rand(1, 3, 12, 10)
    seen: list[Progress] = []
    for weight in (1.0, 2.0):
        options = StyleOptions(steps=1, style_layers={"any": weight}, tv_weight=3.0)
        stylize(Tiny(), content, [style], options, progress=seen.append)
    assert seen[1].values["style"] == pytest.approx(2 * seen[0].values["style"])
    assert seen[0].values["tv"] == pytest.approx(3 * TotalVariationLoss()(255 * content).item())
    assert seen[0].values["loss"] == pytest.approx(seen[0].values["style"] + seen[0].values["tv"])


def test_a_style_stays_within_its_mask() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    result = stylize(Tiny(), content, [style], StyleOptions(steps=10), masks=[mask])
    changed = (result - content).abs().amax((0, 1, 2))
    assert (changed[:8] > 1e-2).all()
    assert (changed[9:] < 1e-4).all()  # the convolution sees one pixel further
    soft = stylize(Tiny(), content, [style, style], StyleOptions(steps=10), masks=[0.5 * mask, None])
    assert ((soft - content).abs().amax((0, 1, 2)) > 1e-3).all()


def test_adam_descends_too() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 12, 10), torch.rand(1, 3, 12, 10)
    seen: list[Progress] = []
    stylize(Tiny(), content, [style], StyleOptions(steps=30, optimizer="adam"), progress=seen.append)
    assert seen[-1].values["loss"] < 0.5 * seen[0].values["loss"]


def test_colours_are_preserved() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30) * torch.tensor([1.0, 0.2, 0.0]).reshape(3, 1, 1)
    luma = StyleOptions(steps=10, scales=2, preserve_color="luminance")
    seen: list[Tensor] = []
    found = stylize(Tiny(), content, [style], luma, progress=lambda report: seen.append(report.picture()))
    assert not torch.allclose(luminance(found), luminance(content), atol=1e-3)
    assert torch.allclose(found - luminance(found), content - luminance(content), atol=1e-5)
    assert seen[0].shape == (1, 3, 20, 15)
    again = stylize(Tiny(), content, [style], luma, start=found, done=10)
    assert torch.allclose(again, found, atol=1e-5)
    linear = stylize(Tiny(), content, [style], StyleOptions(steps=10, preserve_color="linear"))
    plain = stylize(Tiny(), content, [match_colors(style, content)], StyleOptions(steps=10))
    assert torch.equal(linear, plain)


def test_bfloat16_follows_float32() -> None:
    content, style = (
        torch.from_numpy(natural_picture(name)[:96, :96].copy()).permute(2, 0, 1)[None].float() / 255
        for name in ("astronaut", "coffee")
    )
    vgg = load_quantized_vgg(upto="relu5_1")
    half = load_quantized_vgg(upto="relu5_1", dtype=torch.bfloat16)

    def loss(picture: Tensor) -> float:
        seen: list[Progress] = []
        stylize(vgg, content, [style], StyleOptions(steps=1), start=picture, progress=seen.append)
        return seen[0].values["loss"]

    options = StyleOptions(steps=40, precision="bf16")
    expected = loss(stylize(vgg, content, [style], StyleOptions(steps=40)))
    for network in (vgg, half):  # cast as it goes, or beforehand
        assert loss(stylize(network, content, [style], options)) < 1.05 * expected


def test_a_picture_too_large_is_refused_with_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    content = torch.rand(1, 3, 64, 96)
    needed = 64 * 96 * bytes_per_pixel(Tiny(), torch.device("cpu"), StyleOptions())
    monkeypatch.setattr(style_module, "available_memory", lambda device: int(needed / 4) + 1000)
    with pytest.raises(PictureError, match=r"at 96 × 64; choose 48 × 32 pixels or less, or the precision bf16"):
        stylize(Tiny(), content, [content])
    monkeypatch.setattr(style_module, "available_memory", lambda device: int(needed) + 1000)
    stylize(Tiny(), content, [content], StyleOptions(steps=1))


def test_a_loss_that_leaves_the_numbers_is_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="a finite loss"):
        stylize(Tiny(), picture, [1 - picture], StyleOptions(steps=3, style_layers={"any": 3e38}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "0 steps or more"),
        ({"scales": 0}, "1 scale or more"),
        ({"style_weights": (1.0, 2.0)}, "one for each of 1 styles"),
        ({"optimizer": "sgd"}, "one of lbfgs, adam"),
        ({"start": "black"}, "one of content, noise, grey"),
        ({"precision": "fp8"}, "one of float32, bf16"),
        ({"preserve_color": "all"}, "one of none, luminance, linear"),
        ({"tv_weight": float("nan")}, "finite numbers"),
        ({"style_layers": {"a": float("inf")}}, "finite numbers"),
        ({"style_layers": {}, "content_layers": {}}, "one layer or more"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match=message):
        stylize(Tiny(), picture, [picture], StyleOptions(**options))


def test_wrong_pictures_are_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="one style or more"):
        stylize(Tiny(), picture, [])
    with pytest.raises(OptionError, match="0 to 500 steps"):
        stylize(Tiny(), picture, [picture], done=501)
    with pytest.raises(OptionError, match="one for each of 1 styles"):
        stylize(Tiny(), picture, [picture], masks=[None, None])
    with pytest.raises(PictureError, match=r"masks\[0\]: expected some white"):
        stylize(Tiny(), picture, [picture], masks=[torch.zeros(1, 1, 8, 8)])
    for wrong in (torch.rand(3, 8, 8), torch.rand(1, 4, 8, 8), torch.rand(2, 3, 8, 8)):
        with pytest.raises(PictureError, match=r"content: expected shape \(1, 3, H, W\)"):
            stylize(Tiny(), wrong, [picture])
        with pytest.raises(PictureError, match=r"styles\[0\]: expected shape"):
            stylize(Tiny(), picture, [wrong])
