"""The transfer as a whole, mostly with a network of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.style.networks import Tiny, photograph, start_loss
from vggquant import load_quantized_vgg
from vggquant.errors import OptionError, PictureError
from vggquant.pictures.colors import luminance, match_colors
from vggquant.progress import Progress
from vggquant.style import transfer
from vggquant.style.descent import Descent
from vggquant.style.losses import TotalVariationLoss
from vggquant.style.options import Optimizer, PreserveColor, StyleOptions
from vggquant.style.scales import resize
from vggquant.style.task import Reached
from vggquant.style.transfer import Interrupted, StyleProgress, picture_loss, stylize


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
    content, style = photograph("astronaut", 128, 2), photograph("coffee", 128, 2)
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
    lefts = [report.left for report in seen if report.left is not None]
    works = [4 * 80, 4 * 80 + 9 * 300, 4 * 80 + 9 * 300 + 18 * 1200]
    assert lefts[0] == pytest.approx(seen[0].elapsed * (works[2] - 80) / 80)
    for index, work in ((3, works[0]), (12, works[1])):  # the first step, which takes longest, tells least
        since = seen[index].elapsed - seen[0].elapsed
        assert lefts[index] == pytest.approx(since * (works[2] - work) / (work - 80))
    assert lefts[-1] == 0
    # what was painted at a size is taken to the next, where the content's own details are
    painted = made[12] - resize(content, (20, 15))
    assert torch.allclose(made[13], content + resize(painted, (40, 30)), atol=1e-3)


def test_a_start_keeps_its_own_details() -> None:
    torch.manual_seed(0)
    content, start = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 80, 60)
    full = resize(start, (40, 30))
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
    assert torch.allclose(made[1], resize(made[0], (20, 15)), atol=1e-2)  # and none of the content's


def test_each_mask_is_its_styles() -> None:
    torch.manual_seed(0)
    content = torch.full((1, 3, 32, 32), 0.5)
    red, blue = (
        torch.rand(1, 3, 32, 32) * torch.tensor(color).reshape(3, 1, 1) for color in ([1, 0.1, 0.1], [0.1, 0.1, 1])
    )
    left = torch.zeros(1, 1, 32, 32)
    left[..., :16] = 1
    options = StyleOptions(steps=40, content_weight=0.0, content_layers={}, style_layers={"relu1_1": 400.0})
    vgg = load_quantized_vgg(upto="relu1_1")
    found = stylize(vgg, content, [red, blue], options, masks=[left, 1 - left])
    assert (found[:, 0] - found[:, 2])[..., :12].mean() > 0.1
    assert (found[:, 2] - found[:, 0])[..., -12:].mean() > 0.1


def test_what_one_scale_learns_the_next_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []

    class Noting(Descent):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            given.append(options["whitening"] is not None)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(transfer, "Descent", Noting)
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30)
    stylize(Tiny(), content, [style], StyleOptions(steps=90, scales=2))
    assert given == [False, True]
    stylize(Tiny(), content, [style], StyleOptions(steps=90, scales=2, optimizer="adam"))
    assert given[2:] == [False, False]


def test_gradients_of_the_caller_are_left_alone() -> None:
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


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_transfer_goes_on_as_if_it_had_never_stopped(optimizer: Optimizer) -> None:
    torch.manual_seed(0)
    content, style, start = (torch.rand(1, 3, *size) for size in ((20, 16), (10, 15), (25, 30)))
    options = StyleOptions(steps=18, scales=2, optimizer=optimizer, preserve_color="luminance")
    kept: dict[int, Reached] = {}
    losses: dict[int, float] = {}

    def keep(report: StyleProgress) -> None:
        kept[report.done], losses[report.done] = report.reached, report.values["loss"]

    whole = stylize(Tiny(), content, [style], options, start=start, progress=keep)
    for done in (1, 2, 6, 7, 18):  # 6 steps at half the size
        again: list[StyleProgress] = []
        result = stylize(Tiny(), content, [style], options, resume=kept[done], progress=again.append)
        assert torch.equal(result, whole)
        assert [report.values["loss"] for report in again] == [losses[step] for step in range(done + 1, 19)]
    more = replace(options, steps=21)
    longer = stylize(Tiny(), content, [style], more, resume=kept[18])
    assert not torch.equal(longer, whole)
    for done in (2, 9):
        assert torch.equal(stylize(Tiny(), content, [style], more, resume=kept[done]), longer)


def test_only_what_fits_is_gone_on_from() -> None:
    content = torch.rand(1, 3, 40, 30)
    kept: list[Reached] = []
    options = StyleOptions(steps=2)
    stylize(Tiny(), content, [1 - content], options, progress=lambda report: kept.append(report.reached))
    reached = kept[0]

    def refused(message: str, picture: Tensor = content, options: StyleOptions = options, **more: Any) -> None:
        with pytest.raises((OptionError, PictureError), match=message):
            stylize(Tiny(), picture, [content], options, **{"resume": reached, **more})

    refused("resume: expected a picture to start or a transfer to resume, got both; pass one", start=content)
    refused(
        "resume: expected 20 × 20 pixels, got 30 × 40 pixels; pass the picture as", picture=torch.rand(1, 3, 20, 20)
    )
    refused("resume: expected a descent by adam at 30 × 40, got ", options=replace(options, optimizer="adam"))
    refused("done: expected 1 to 2 steps, got 0", resume=replace(reached, done=0))
    refused("steps: expected 2 steps or more, as before, got 1", options=replace(options, steps=1))
    for name, wrong in (("pixels", torch.rand(1, 3, 4, 4)), ("d", torch.rand(9)), ("white", torch.rand(1, 3, 40, 30))):
        refused("resume: expected a descent by lbfgs", resume=replace(reached, memory={**reached.memory, name: wrong}))
    for name in ("d", "pixels", "n_iter"):
        less = {key: tensor for key, tensor in reached.memory.items() if key != name}
        refused(f"got no {name}; go on from", resume=replace(reached, memory=less))


def test_steps_that_were_made_led_to_a_picture() -> None:
    content = torch.rand(1, 3, 12, 10)
    with pytest.raises(OptionError, match="start: expected the picture that 3 steps led to, got none; pass it"):
        stylize(Tiny(), content, [content], StyleOptions(steps=5), done=3)


def test_ctrl_c_loses_no_step_that_was_made() -> None:
    torch.manual_seed(0)
    content, style = torch.rand(1, 3, 40, 30), torch.rand(1, 3, 40, 30)
    options = StyleOptions(steps=9)
    calls: list[int] = []

    class Stopped(Tiny):
        def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
            calls.append(1)
            if len(calls) == 9:
                raise KeyboardInterrupt
            return super().forward(images, layers)

    kept: dict[int, Tensor] = {}
    whole = stylize(Tiny(), content, [style], options, progress=lambda r: kept.update({r.done: r.picture()}))
    with pytest.raises(Interrupted, match="Interrupted after step 4 of 9") as caught:
        stylize(Stopped(), content, [style], options)
    stopped = caught.value.progress
    assert torch.equal(stopped.picture(), kept[4])
    assert torch.equal(stylize(Tiny(), content, [style], options, resume=stopped.reached), whole)


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
    """On a small picture and in few layers, because processors without bf16 take a hundred times as long."""
    content, style = photograph("astronaut", 96, 4), photograph("coffee", 96, 4)
    vgg = load_quantized_vgg(upto="relu3_1")
    half = load_quantized_vgg(upto="relu3_1", dtype=torch.bfloat16)
    styles = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1"), 1.0)
    options = StyleOptions(steps=12, content_layers={"relu2_2": 1.0}, style_layers=styles, precision="float32")

    def loss(picture: Tensor) -> float:
        return picture_loss(vgg, content, [style], picture, options)

    expected = loss(stylize(vgg, content, [style], options))
    assert expected < 0.2 * loss(content)
    for network in (vgg, half):  # cast as it goes, or beforehand
        assert loss(stylize(network, content, [style], replace(options, precision="bf16"))) < 1.1 * expected


def test_a_loss_that_leaves_the_numbers_is_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="a finite loss"):
        stylize(Tiny(), picture, [1 - picture], StyleOptions(steps=3, style_layers={"any": 3e38}))


def test_the_loss_of_a_finished_picture_is_that_of_a_transfer_that_starts_from_it() -> None:
    torch.manual_seed(0)
    content, style, picture = (torch.rand(1, 3, 12, 10) for _ in range(3))
    expected = start_loss(content, style, StyleOptions(), picture)
    assert picture_loss(Tiny(), content, [style], picture) == pytest.approx(expected, rel=1e-5)
    preserves: tuple[PreserveColor, ...] = ("luminance", "linear")
    for preserve in preserves:
        options = StyleOptions(preserve_color=preserve)
        found = picture_loss(Tiny(), content, [style], picture, options)
        assert found == pytest.approx(start_loss(content, style, options, picture), rel=1e-5)
        assert found != pytest.approx(expected, rel=1e-3)
    with pytest.raises(OptionError, match="one style or more"):
        picture_loss(Tiny(), content, [], picture)
    with pytest.raises(PictureError, match="picture: expected the content's 10 × 12 pixels, got 5 × 6; resize one"):
        picture_loss(Tiny(), content, [style], picture[..., ::2, ::2])


def test_noise_is_around_the_mean_of_photographs() -> None:
    content = torch.rand(1, 3, 64, 64)
    noise = stylize(Tiny(), content, [content], StyleOptions(steps=0, start="noise"))
    assert noise.mean((2, 3)).flatten().tolist() == pytest.approx([0.485, 0.458, 0.408], abs=1e-3)


class Noting(Tiny):
    """A network that notes whether it is asked for bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bool] = set()

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.seen.add(torch.is_autocast_enabled("cpu"))
        return super().forward(images, layers)


def test_the_precision_is_bf16_where_the_processor_has_it(request: pytest.FixtureRequest) -> None:
    content = torch.rand(1, 3, 12, 10)

    def in_bf16(options: StyleOptions) -> set[bool]:
        network = Noting()
        stylize(network, content, [content], options)
        return network.seen

    one = StyleOptions(steps=1)
    assert in_bf16(one) == {False}
    request.getfixturevalue("processor_with_bf16")
    assert in_bf16(one) == {True}
    assert in_bf16(replace(one, precision="float32")) == {False}
    network = Noting()
    picture_loss(network, content, [content], content)
    assert network.seen == {False}  # a judge's precision is the same everywhere
