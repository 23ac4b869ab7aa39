"""Pictures on a device, and views of them."""

from __future__ import annotations

import pytest
import torch

from vggquant.training.views import Pictures


def plain(*colors: tuple[int, int, int], sizes: tuple[tuple[int, int], ...]) -> Pictures:
    return Pictures(
        [
            torch.tensor(color, dtype=torch.uint8)[:, None, None].expand(3, *size)
            for color, size in zip(colors, sizes, strict=True)
        ],
        "cpu",
    )


@pytest.fixture
def slope() -> Pictures:
    """One picture that grows brighter from left to right, red, and from top to bottom, green."""
    rows, columns = torch.meshgrid(torch.arange(100.0), torch.arange(200.0), indexing="ij")
    return Pictures([torch.stack([columns, 2 * rows, 0 * rows]).byte()], "cpu")


def test_views_are_of_pictures_alone_and_not_of_what_lies_beside_them() -> None:
    pictures = plain((255, 0, 0), (0, 0, 255), sizes=((40, 64), (90, 30)))
    for views in (pictures.crops(32, 24, (0.3, 2.0)), pictures.shares(32, 24, 0.2)):
        assert views.shape == (32, 3, 24, 24)
        red = views[:, 0].flatten(1)
        torch.testing.assert_close(red, red[:, :1].expand_as(red).round())
        assert 0 < float(red.mean()) < 1
        torch.testing.assert_close(views[:, 0] + views[:, 2], torch.ones(32, 24, 24))


def test_crops_have_their_scale(slope: Pictures) -> None:
    views = 255 * slope.crops(64, 32, (2.0, 2.0))
    across = (views[:, 0, :, 1:] - views[:, 0, :, :-1]).abs()
    torch.testing.assert_close(across, torch.full_like(across, 0.5), atol=1e-2, rtol=0)
    down = views[:, 1, 1:] - views[:, 1, :-1]
    torch.testing.assert_close(down, torch.full_like(down, 1.0), atol=1e-2, rtol=0)
    left = views[:, 0].flatten(1).amin(1)
    assert float(left.min()) < 40 < 140 < float(left.max())  # all over the picture


def test_every_other_view_is_mirrored(slope: Pictures) -> None:
    views = slope.crops(64, 16, (1.0, 1.0))
    mirrored = (views[:, 0, 0, 0] > views[:, 0, 0, -1]).float().mean()
    assert 0.3 < float(mirrored) < 0.7


def test_some_shares_are_whole_pictures(slope: Pictures) -> None:
    views = slope.shares(128, 16, 0.3)
    red = (255 * views[:, 0]).flatten(1)
    spread = (red.amax(1) - red.amin(1)) * 16 / 15
    assert 0.15 < float((spread > 185).float().mean()) < 0.6
    assert float(spread.min()) > 0.29 * 200 * 0.9


def test_views_repeat_with_the_seed(slope: Pictures) -> None:
    picture = torch.randint(256, (3, 40, 40), dtype=torch.uint8)
    first, second, third = (Pictures([picture], "cpu", seed).crops(8, 16, (0.5, 1.0)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_share_is_recolored(slope: Pictures) -> None:
    views = slope.crops(200, 8, (1.0, 1.0))
    found = slope.recolored(views, 0.25)
    assert 0.1 < float((found != views).flatten(1).any(1).float().mean()) < 0.4
    assert 0 <= float(found.min()) < float(found.max()) <= 1
    grey = torch.rand(64, 1, 8, 8).expand(64, 3, 8, 8)
    middle = slope.recolored(grey, 1.0).flatten(2)
    # a turn in hue leaves greys grey: between two of them all channels differ alike
    inside = ((middle > 0) & (middle < 1)).all(1).all(1)
    differences = (middle - middle[:, :, :1])[inside]
    assert len(differences) > 3
    torch.testing.assert_close(differences, differences.mean(1, keepdim=True).expand_as(differences), atol=1e-5, rtol=0)


def test_a_share_is_mixed(slope: Pictures) -> None:
    black, white = torch.zeros(300, 3, 8, 8), torch.ones(300, 3, 8, 8)
    found = slope.mixed(black, white, 0.5)[:, 0].flatten(1)
    untouched = (found == 0).all(1)
    over = (found == found[:, :1]).all(1) & ~untouched
    beside = ((found == 0) | (found == 1)).all(1) & ~over & ~untouched
    assert all(bool(kind.any()) for kind in (untouched, over, beside))
    assert bool((untouched | over | beside).all())
