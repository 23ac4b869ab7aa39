"""Pictures as a style's picture is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggquant.training import views as module
from vggquant.training.crops import Photographs
from vggquant.training.views import StyledCrops, StyleViews, Views, mixed, recolored


@pytest.fixture(scope="module")
def slope(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """One picture: red says how far to the right, green how far down, blue is 255 less red."""
    folder = tmp_path_factory.mktemp("slope")
    red, green = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    pixels = np.stack([red, green, 255 - red], 2).round().astype(np.uint8)
    Image.fromarray(pixels).save(folder / "slope.png")
    return Photographs(folder)


def test_views_are_whole_pictures_or_parts_of_them(slope: Photographs) -> None:
    views = Views(slope, 24, 0, range(200), 0.4, 0.0)
    across = []
    for index in range(len(views)):
        view = views[index]
        assert view.shape == (3, 24, 24)
        torch.testing.assert_close(view[0] + view[2], torch.ones(24, 24), rtol=0, atol=0.01)
        across.append(abs(float(view[0, 0, -1] - view[0, 0, 0])))
    whole = sum(width > 0.94 for width in across) / len(across)
    assert 0.25 < whole < 0.5
    assert min(across) > 0.3
    assert len({round(width, 3) for width in across}) > 50


def test_every_other_view_is_mirrored(slope: Photographs) -> None:
    views = Views(slope, 16, 0, range(200), 0.5, 0.0)
    mirrored = [bool(views[index][0, 0, 0] > views[index][0, 0, -1]) for index in range(200)]
    assert 0.4 < sum(mirrored) / 200 < 0.6


def test_the_view_of_a_number_is_always_the_same(slope: Photographs) -> None:
    some, others = Views(slope, 16, 3, [4, 9], 0.5, 0.5), Views(slope, 16, 3, [9, 5], 0.5, 0.5)
    assert torch.equal(some[1], others[0])
    assert not torch.equal(some[0], others[1])
    assert not torch.equal(some[1], Views(slope, 16, 4, [9], 0.5, 0.5)[0])


def test_a_share_of_views_is_in_other_colours(slope: Photographs) -> None:
    before, after = (Views(slope, 8, 0, range(200), 0.5, share) for share in (0.0, 0.25))
    changed = [not torch.equal(before[index], after[index]) for index in range(200)]
    assert 0.15 < sum(changed) / 200 < 0.35


def test_colours_turn_about_grey() -> None:
    """What is grey stays grey but for the brightness and the middle, and pixels stay in order of their brightness."""
    grey = torch.linspace(0.3, 0.7, 5).expand(3, 1, 5)
    for seed in range(20):
        found = recolored(grey, np.random.default_rng(seed))
        steps = found[:, 0].diff(dim=1)
        torch.testing.assert_close(steps, steps[:1].expand(3, 4), rtol=1e-3, atol=1e-5)
        assert float(steps.min()) > 0
    red = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    hues = {int(recolored(red, np.random.default_rng(seed)).argmax()) for seed in range(60)}
    assert hues == {0, 1, 2}


def test_mixtures_are_of_both() -> None:
    dark, light = torch.zeros(3, 16, 16), torch.ones(3, 16, 16)
    found = [mixed(dark, light, np.random.default_rng(seed)) for seed in range(100)]
    over = [bool((view == view[0, 0, 0]).all()) and 0 < float(view[0, 0, 0]) < 1 for view in found]
    assert 0.3 < sum(over) / 100 < 0.7
    assert all(bool(((view == 0) | (view == 1)).all()) for view, laid in zip(found, over, strict=True) if not laid)


def test_styles_are_paintings_photographs_and_mixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STYLE_SIDE", 8)
    folders = []
    for name, color in (("paintings", (255, 0, 0)), ("photographs", (0, 0, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 20), color).save(tmp_path / name / "a.png")
        folders.append(Photographs(tmp_path / name))
    views = StyleViews(folders[0], folders[1], 0, range(300))
    monkeypatch.setattr(views._paintings, "recolored", 0.0)
    monkeypatch.setattr(views._photographs, "recolored", 0.0)
    kinds = [tuple(views[index].mean((1, 2)).round(decimals=2).tolist()) for index in range(300)]
    painted, photographed = kinds.count((1.0, 0.0, 0.0)), kinds.count((0.0, 0.0, 1.0))
    assert 0.4 < painted / 300 < 0.65
    assert 0.1 < photographed / 300 < 0.25
    assert 300 - painted - photographed > 60  # both
    assert views[0].shape == (3, 8, 8)


def test_some_contents_keep_their_own_style_and_some_have_one_between(slope: Photographs) -> None:
    pairs = StyledCrops(slope, slope, (16, 24), 0, range(400))
    content, style, _ = pairs[0]
    assert content.shape == (3, 16, 16)
    assert style.shape == (3, 24, 24)
    shares = torch.stack([pairs[index][2] for index in range(400)])
    own = (shares[:, 0] == 1) & (shares[:, 1] == 0)
    between = (shares.sum(1) > 0) & ~own
    assert 0.1 < float(own.float().mean()) < 0.2
    assert 0.1 < float(between.float().mean()) < 0.2
    assert bool((shares[between] > 0).any(0).all())  # with their own, and with others
    assert bool(((shares > 0).sum(1) <= 1).all())
    assert torch.equal(StyledCrops(slope, slope, (16, 24), 0, [7])[0][2], shares[7])
