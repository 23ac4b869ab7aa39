"""What has no meaning for a transfer is refused, each time with what to do instead."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.style.networks import Tiny
from vggquant import load_quantized_vgg
from vggquant.errors import OptionError, PictureError
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import StyleProgress, stylize


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps: expected 0 steps or more, got -1; choose a larger number"),
        ({"scales": 0}, "scales: expected 1 scale or more, got 0; choose a larger number, or leave it out"),
        ({"style_weights": (1.0, 2.0)}, "one for each style, 1, got (1.0, 2.0); give each style a weight"),
        ({"optimizer": "sgd"}, "optimizer: expected one of lbfgs, adam, got sgd; choose one of these"),
        ({"start": "black"}, "start: expected one of content, noise, grey, got black; choose one of these"),
        ({"precision": "fp8"}, "precision: expected one of auto, float32, bf16, got fp8; choose one of these"),
        ({"preserve_color": "all"}, "expected one of none, luminance, linear, got all; choose one of these"),
        ({"tv_weight": float("nan")}, "tv_weight: expected a finite number from 0 up, got nan; choose 0 or more"),
        ({"content_weight": -1.0}, "content_weight: expected a finite number from 0 up, got -1.0; choose 0 or more"),
        ({"style_weights": (-30.0,)}, "style_weights: expected a finite number from 0 up, got -30.0"),
        ({"style_layers": {"a": float("inf")}}, "style_layers: expected a finite number from 0 up for a, got inf"),
        ({"style_layers": {"a": None}}, "style_layers: expected a finite number from 0 up for a, got None"),
        ({"content_layers": {"a": "1"}}, "content_layers: expected a finite number from 0 up for a, got 1"),
        ({"style_layers": ("relu1_1",)}, "style_layers: expected weights by layer, got tuple; pass a dict such as"),
        ({"content_layers": "relu1_1"}, "content_layers: expected weights by layer, got str; pass a dict such as"),
        ({"seed": 2**64}, "seed: expected a seed from 0 to 2⁶³ − 1"),
        ({"style_layers": {}, "content_layers": {}}, "layers: expected one layer or more, got none; name a content"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match=re.escape(message)):
        stylize(Tiny(), picture, [picture], StyleOptions(**options))


def test_wrong_numbers_of_pictures_are_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="styles: expected one style or more, got none; pass a picture"):
        stylize(Tiny(), picture, [])
    with pytest.raises(OptionError, match="done: expected 0 to 500 steps, got 501; pass how many of the steps led"):
        stylize(Tiny(), picture, [picture], done=501)
    with pytest.raises(OptionError, match="masks: expected one for each style, 1, got 2; pass None for a style"):
        stylize(Tiny(), picture, [picture], masks=[None, None])


PICTURE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PICTURE.numpy(), "a floating tensor in [0, 1], got ndarray"),
        ((255 * PICTURE).byte(), "a floating tensor in [0, 1], got torch.uint8"),
        (255 * PICTURE, "values in [0, 1], got"),
        (2 * PICTURE - 1, "images in [0, 1], got"),
        (torch.full((1, 3, 8, 8), torch.nan), "values in [0, 1], got nan"),
        (PICTURE[..., :0], "shape (1, 3, H, W), got (1, 3, 8, 0)"),
        (PICTURE[0], "shape (1, 3, H, W), got (3, 8, 8)"),
        (torch.rand(1, 4, 8, 8), "shape (1, 3, H, W), got (1, 4, 8, 8)"),
        (torch.rand(2, 3, 8, 8), "shape (1, 3, H, W), got (2, 3, 8, 8)"),
    ],
    ids=["numpy", "integers", "0-255", "tanh", "nan", "empty", "flat", "transparent", "batch"],
)
def test_wrong_pictures_are_refused(wrong: Tensor, message: str) -> None:
    with pytest.raises(PictureError, match=re.escape(f"content: expected {message}")):
        stylize(Tiny(), wrong, [PICTURE])
    with pytest.raises(PictureError, match=re.escape(f"styles[1]: expected {message}")):
        stylize(Tiny(), PICTURE, [PICTURE, wrong])
    if message.startswith("shape"):
        with pytest.raises(PictureError, match=re.escape(f"start: expected {message}")):
            stylize(Tiny(), PICTURE, [PICTURE], start=wrong)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 1, 8, 8), "some white, got an empty mask; leave the style out"),
        (255 * PICTURE[:, :1], "values in [0, 1]"),
        (-PICTURE[:, :1], "some white, got values below 0"),
        (PICTURE, "shape (1, 1, H, W)"),
    ],
    ids=["black", "0-255", "negative", "colours"],
)
def test_wrong_masks_are_refused(mask: Tensor, message: str) -> None:
    with pytest.raises(PictureError, match=re.escape(f"masks[0]: expected {message}")):
        stylize(Tiny(), PICTURE, [PICTURE], masks=[mask])


def test_a_painting_that_went_astray_may_be_started_from() -> None:
    stylize(Tiny(), PICTURE, [PICTURE], StyleOptions(steps=0), start=20 * PICTURE - 10)


@pytest.mark.parametrize(
    ("scales", "message"),
    [(4, "at least 8 pixels for relu4_2, got 8 × 6 at the coarsest"), (3, "16 pixels for relu5_1, got 16 × 12")],
)
def test_scales_too_small_for_the_network_are_refused_before_work(scales: int, message: str) -> None:
    content = torch.rand(1, 3, 48, 64)
    vgg = load_quantized_vgg(upto="relu5_1")
    seen: list[StyleProgress] = []
    with pytest.raises(OptionError, match=rf"scales: expected .*{message}.*; choose fewer scales"):
        stylize(vgg, content, [content], StyleOptions(steps=60, scales=scales), progress=seen.append)
    assert not seen
    done = stylize(vgg, content, [content], StyleOptions(steps=60, scales=scales), start=content, done=60)
    assert torch.allclose(done, content)


def test_pictures_too_small_for_the_network_are_refused() -> None:
    vgg = load_quantized_vgg(upto="relu5_1")
    small, large = torch.rand(1, 3, 7, 10), torch.rand(1, 3, 16, 16)
    with pytest.raises(PictureError, match=r"sides of at least 8 pixels for relu4_2, got \(7, 10\); enlarge the image"):
        stylize(vgg, small, [large], StyleOptions(steps=1))
    with pytest.raises(PictureError, match=r"styles\[0\]: expected sides of at least 16 pixels for relu5_1"):
        stylize(vgg, large, [small], StyleOptions(steps=1))
