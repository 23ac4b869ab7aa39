"""The colours of pictures: luminance, and matching the colours of one picture to those of another.

Pictures are tensors of shape (1, 3, H, W), RGB in [0, 1]. Reading and writing them is left to `files`.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of R, G and B; ITU-R BT.601


def luminance(picture: Tensor) -> Tensor:
    """The luma of RGB pictures, which is the Y of YIQ (ITU-R BT.601).

    Args:
        picture: (N, 3, H, W).

    Returns:
        (N, 1, H, W).
    """
    weights = torch.tensor(LUMA, dtype=picture.dtype, device=picture.device).reshape(3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def with_luminance(picture: Tensor, other: Tensor) -> Tensor:
    """Combine one picture's colours with another's luminance: I and Q of YIQ stay, Y is replaced.

    Args:
        picture: (1, 3, H, W), where the colours come from.
        other: (1, 3, H, W), where the luminance comes from.
    """
    return picture + luminance(other) - luminance(picture)


def match_luminance(picture: Tensor, other: Tensor) -> Tensor:
    """Give a picture's luminance the mean and standard deviation of another's; arXiv:1606.05897, equation 10.

    Args:
        picture: (1, 3, H, W).
        other: (1, 3, H', W').

    Returns:
        (1, 3, H, W), the same luminance in all three channels.
    """
    ours, theirs = luminance(picture), luminance(other)
    spread = ours.std(unbiased=False).clamp(min=1e-6)
    return ((ours - ours.mean()) * (theirs.std(unbiased=False) / spread) + theirs.mean()).expand_as(picture)


def match_colors(picture: Tensor, other: Tensor) -> Tensor:
    """Give a picture's colours the mean and covariance of another's.

    The linear map is Σ_other^½ Σ_picture^-½, arXiv:1606.05897, section 4.1. It invents no colours: a grey picture has
    them along one line only, and keeps them there.

    Args:
        picture: (1, 3, H, W).
        other: (1, 3, H', W').

    Returns:
        (1, 3, H, W); values may leave [0, 1].
    """
    ours, theirs = (_colors(p) for p in (picture, other))
    root = _power(_covariance(theirs), 0.5) @ _power(_covariance(ours), -0.5)
    matched = root @ (ours - ours.mean(1, keepdim=True)) + theirs.mean(1, keepdim=True)
    return matched.to(picture.dtype).reshape(picture.shape)


def _colors(picture: Tensor) -> Tensor:
    """The colours of all pixels, (3, HW) in float64."""
    return picture[0].flatten(1).double()


def _covariance(colors: Tensor) -> Tensor:
    centred = colors - colors.mean(1, keepdim=True)
    return centred @ centred.T / colors.shape[1]


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric, positive semidefinite matrix; eigenvalues that are zero but for rounding stay zero."""
    values, vectors = torch.linalg.eigh(matrix)
    solid = values > 1e-8  # a spread of a fortieth of a grey level
    powers = torch.where(solid, values.clamp(min=1e-8) ** exponent, 0)
    raised: Tensor = (vectors * powers) @ vectors.T
    return raised
