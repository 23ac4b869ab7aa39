"""Colours and luminance: what is matched has the statistics that it was matched to."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import natural_picture
from vggquant.pictures.colors import luminance, match_colors, match_luminance, with_luminance


def photograph(name: str) -> torch.Tensor:
    return torch.from_numpy(natural_picture(name)[:64, :96].copy()).permute(2, 0, 1)[None].float() / 255


def test_luminance_is_replaced_and_colours_stay() -> None:
    """In YIQ, by its matrix."""
    yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    picture, other = photograph("astronaut"), photograph("coffee")
    found = with_luminance(picture, other)
    before, after = (torch.einsum("ij,njhw->nihw", yiq, p) for p in (picture, found))
    assert torch.allclose(after[:, 1:], before[:, 1:], atol=1e-3)
    assert torch.allclose(after[:, :1], luminance(other), atol=1e-5)


def test_luminance_is_matched() -> None:
    found = match_luminance(photograph("astronaut"), photograph("coffee"))
    assert found.shape == (1, 3, 64, 96)
    assert found.mean().item() == pytest.approx(luminance(photograph("coffee")).mean().item(), abs=1e-4)
    assert found.std().item() == pytest.approx(luminance(photograph("coffee")).std().item(), rel=1e-2)
    assert match_luminance(torch.full((1, 3, 4, 4), 0.3), photograph("coffee")).isfinite().all()


def test_colours_are_matched_in_mean_and_covariance() -> None:
    found = match_colors(photograph("astronaut"), photograph("coffee"))[0].flatten(1).double()
    wanted = photograph("coffee")[0].flatten(1).double()
    assert torch.allclose(found.mean(1), wanted.mean(1), atol=1e-5)
    assert torch.allclose(found.cov(), wanted.cov(), atol=1e-5)


def test_grey_pictures_have_no_colours_to_match() -> None:
    grey = luminance(photograph("astronaut")).expand(1, 3, 64, 96)
    assert match_colors(grey, photograph("coffee")).isfinite().all()
    assert torch.allclose(match_colors(photograph("coffee"), grey).std(1), torch.tensor(0.0), atol=1e-3)
