from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import natural_picture
from vggquant import load_quantized_vgg
from vggquant.errors import OptionError, PictureError
from vggquant.models.features import gram_matrix
from vggquant.pictures.files import luminance, match_colors
from vggquant.progress import Progress
from vggquant.style import transfer as style_module
from vggquant.style.descent import descend
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import (
    ContentLoss,
    StyleLoss,
    StyleProgress,
    TotalVariationLoss,
    memory_per_pixel,
    stages,
    stylize,
)


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
    lefts = [report.left / report.elapsed for report in seen if report.left is not None]
    works = [4 * 80, 4 * 80 + 9 * 300, 4 * 80 + 9 * 300 + 18 * 1200]
    assert lefts[3] == pytest.approx((works[2] - works[0]) / works[0])
    assert lefts[12] == pytest.approx((works[2] - works[1]) / works[1])
    assert lefts[-1] == 0
    # what was painted at a size is taken to the next, where the content's own details are
    painted = made[12] - style_module._resize(content, (20, 15))
    assert torch.allclose(made[13], content + style_module._resize(painted, (40, 30)), atol=1e-3)


def test_a_start_keeps_its_own_details() -> None:
    torch.manual_seed(0)
    content, start = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 80, 60)
    full = style_module._resize(start, (40, 30))
    for steps in (0, 1):  # and what no step was made at is passed over
        options = StyleOptions(steps=steps, scales=3)
        seen: list[Tensor] = []
        found = stylize(
            Tiny(),
            content,
            [content],
            options,
            start=start,
            progress=lambda r, seen=seen: seen.append(r.picture()),  # type: ignore[misc]
        )
        assert (found - full).norm() < (1e-5 if steps == 0 else 0.3) * full.norm()
        assert (found - content).norm() > 0.3 * full.norm()
    made: list[Tensor] = []
    options = StyleOptions(steps=7, scales=3, start="grey")
    stylize(Tiny(), content, [content], options, progress=lambda report: made.append(report.picture().clone()))
    assert torch.allclose(made[1], style_module._resize(made[0], (20, 15)), atol=1e-2)  # and none of the content's


def test_each_mask_is_its_styles() -> None:
    torch.manual_seed(0)
    content = torch.full((1, 3, 32, 32), 0.5)
    red, blue = (
        torch.rand(1, 3, 32, 32) * torch.tensor(color).reshape(3, 1, 1) for color in ([1, 0.1, 0.1], [0.1, 0.1, 1])
    )
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1
    options = StyleOptions(steps=40, content_weight=0.0, content_layers={}, style_layers={"relu1_1": 1.0})
    vgg = load_quantized_vgg(upto="relu1_1")
    found = stylize(vgg, content, [red, blue], options, masks=[left, 1 - left])
    assert (found[:, 0] - found[:, 2])[..., :12].mean() > 0.1
    assert (found[:, 2] - found[:, 0])[..., -12:].mean() > 0.1


def test_what_one_scale_learns_the_next_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    original = descend

    def note(*arguments: Any, **options: Any) -> Any:
        given.append(options["whitening"] is not None)
        return original(*arguments, **options)

    monkeypatch.setattr(style_module, "descend", note)
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30)
    stylize(Tiny(), content, [style], StyleOptions(steps=90, scales=2))
    assert given == [False, True]
    stylize(Tiny(), content, [style], StyleOptions(steps=90, scales=2, optimizer="adam"))
    assert given[2:] == [False, False]


def test_the_callers_own_affairs_are_left_alone() -> None:
    network = Tiny().requires_grad_(True)
    content = torch.rand(1, 3, 12, 10, requires_grad=True)
    style = torch.rand(1, 3, 12, 10)
    expected = stylize(network, content.detach(), [style], StyleOptions(steps=3))
    with torch.no_grad():
        assert torch.equal(stylize(network, content, [style], StyleOptions(steps=3)), expected)
    with torch.inference_mode():
        assert torch.equal(stylize(network, content.detach() * 1, [style], StyleOptions(steps=3)), expected)
    assert torch.equal(stylize(network, content, [style], StyleOptions(steps=3), start=content * 1), expected)
    assert network.convolution.weight.grad is None
    assert stylize(network, content.half(), [style.double()], StyleOptions(steps=1)).dtype == torch.float32


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
    cpu = torch.device("cpu")
    needed = 64 * 96 * memory_per_pixel(Tiny(), cpu, StyleOptions())[cpu][0]
    monkeypatch.setattr(style_module, "OVERHEAD", 0)
    monkeypatch.setattr(style_module, "available_memory", lambda device: int(needed / 4) + 1000)
    with pytest.raises(PictureError, match=r"at 96 × 64; choose 48 × 32 pixels or less, or the precision bf16"):
        stylize(Tiny(), content, [content])
    monkeypatch.setattr(style_module, "available_memory", lambda device: int(needed) + 1000)
    stylize(Tiny(), content, [content], StyleOptions(steps=1))
    with pytest.raises(PictureError, match="choose smaller styles"):
        stylize(Tiny(), content, [torch.rand(1, 3, 1500, 1500)])
    with pytest.raises(PictureError, match="pixels or less"):
        stylize(Tiny(), content, [content] * 9, masks=[torch.ones(1, 1, 64, 96)] * 9)


def test_memory_is_counted_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split network needs less of each than the whole would of one."""
    cpu, other = torch.device("cpu"), torch.device("cuda:0")
    whole = style_module._kept_for_gradient(Tiny(), cpu, 64, StyleOptions())[cpu]
    assert whole[1] == 5 * 8 * 4 * 64 * 64  # five style layers, one tensor of eight channels each

    def split(_: object, __: object, side: int, ___: object) -> dict[torch.device, tuple[list[int], int]]:
        return {cpu: ([100 * side**2], 0), other: ([900 * side**2], 0)}

    monkeypatch.setattr(style_module, "_kept_for_gradient", split)
    found = memory_per_pixel(Tiny(), cpu, StyleOptions())
    assert set(found) == {cpu, other}
    assert found[other][0] == pytest.approx(1.1 * 4 * 900)
    assert found[cpu][0] == pytest.approx(1.1 * 4 * 100 + 12 * 206)
    content = torch.rand(1, 3, 1000, 1000)
    monkeypatch.setattr(style_module, "available_memory", {cpu: 10**11, other: 10**9}.get)
    with pytest.raises(PictureError, match=r"1\.0 GB left on cuda:0, got one of about 4\.3 GB"):
        stylize(Tiny(), content, [content], StyleOptions(steps=1))


MEASURE = """
import sys, torch
from bench.machine import peak_memory
from vggquant import load_quantized_vgg
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import OVERHEAD, memory_per_pixel, stylize
side, masked, style_side, precision = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.manual_seed(0)
vgg, options = load_quantized_vgg(upto="relu5_1"), StyleOptions(steps=3, scales=1, precision=precision)
content, style = torch.rand(1, 3, side, side), torch.rand(1, 3, style_side, style_side)
each, each_of_style = memory_per_pixel(vgg, torch.device("cpu"), options, masked)[torch.device("cpu")]
estimate = OVERHEAD + max(each * side**2, each_of_style * style_side**2)
before = peak_memory()
stylize(vgg, content, [style] * max(1, masked), options, masks=[torch.rand(1, 1, side, side)] * masked or None)
print(estimate / (peak_memory() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
@pytest.mark.parametrize("case", ["512 0 512 float32", "384 2 384 float32", "384 0 384 bf16", "64 0 900 float32"])
def test_the_estimate_of_memory_is_enough_and_not_far_off(case: str) -> None:
    root = Path(__file__).parent.parent
    found = subprocess.run([sys.executable, "-c", MEASURE, *case.split()], cwd=root, capture_output=True, check=True)
    assert 1 < float(found.stdout) < 2.5, case


def test_a_loss_that_leaves_the_numbers_is_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="a finite loss"):
        stylize(Tiny(), picture, [1 - picture], StyleOptions(steps=3, style_layers={"any": 3e38}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "0 steps or more"),
        ({"scales": 0}, "1 scale or more"),
        ({"style_weights": (1.0, 2.0)}, "one for each style, 1"),
        ({"optimizer": "sgd"}, "one of lbfgs, adam"),
        ({"start": "black"}, "one of content, noise, grey"),
        ({"precision": "fp8"}, "one of float32, bf16"),
        ({"preserve_color": "all"}, "one of none, luminance, linear"),
        ({"tv_weight": float("nan")}, "finite numbers"),
        ({"style_layers": {"a": float("inf")}}, "finite numbers"),
        ({"content_weight": -1.0}, "finite numbers from 0 up"),
        ({"style_layers": ("relu1_1",)}, "style_layers: expected weights by layer, got tuple"),
        ({"seed": 2**64}, "seed: expected a seed"),
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
    with pytest.raises(OptionError, match="one for each style, 1, got 2"):
        stylize(Tiny(), picture, [picture], masks=[None, None])
    with pytest.raises(PictureError, match=r"masks\[0\]: expected some white"):
        stylize(Tiny(), picture, [picture], masks=[torch.zeros(1, 1, 8, 8)])
    nothing = torch.full((1, 3, 8, 8), torch.nan)
    for wrong, got in (
        (picture.numpy(), "a floating tensor in [0, 1], got ndarray"),
        ((255 * picture).byte(), "a floating tensor in [0, 1], got torch.uint8"),
        (255 * picture, "values in [0, 1], got"),
        (nothing, "values in [0, 1], got nan"),
        (picture[..., :0], "shape (1, 3, H, W), got (1, 3, 8, 0)"),
    ):
        with pytest.raises(PictureError, match=re.escape(got)):
            stylize(Tiny(), wrong, [picture])  # type: ignore[arg-type]
    for mask in (255 * picture[:, :1], -picture[:, :1]):
        with pytest.raises(PictureError, match=r"masks\[0\]"):
            stylize(Tiny(), picture, [picture], masks=[mask])
    for wrong in (torch.rand(3, 8, 8), torch.rand(1, 4, 8, 8), torch.rand(2, 3, 8, 8)):
        with pytest.raises(PictureError, match=r"content: expected shape \(1, 3, H, W\)"):
            stylize(Tiny(), wrong, [picture])
        with pytest.raises(PictureError, match=r"styles\[0\]: expected shape"):
            stylize(Tiny(), picture, [wrong])
