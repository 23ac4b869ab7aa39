"""Codes, codebook and scales that minimise a quadratic of the weights: Σ over output channels of w H wᵀ − 2 w cᵀ.

What the quadratic stands for is left to `moments`. Notation: O output channels, K inputs of each, w a channel's
weights, which are its scale times entries of one codebook of L centroids, C the (O × K) matrix of the c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggquant.codec.kmeans import fit_codebook

_ROOM = 1.5  # of a grid, to the largest weight
_EVEN, _OUTSIDE, _WIDER = 100, 27, 1.25  # its even places on each side, those outside at most, their ratio at least
BLOCK = 128  # columns worked on before what follows is brought up to date, as in GPTQ
_SILENT = 1e-6  # of the mean scale: what channels of zeros get
_STRETCHES = (1.0, 1.2, 1.4, 1.7, 2.0, 2.4)  # of a codebook, which are tried
_TRIED, _REFITTED = 32, 128  # output channels that they are tried on, and that codebooks are refitted to
_REFIT_MOST = 4  # centroids up to which refitting the codebook pays: it takes a product with H for each


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights as scale · codebook[codes].

    Args:
        codes: (O, K), int64.
        codebook: (L,), ascending.
        scale: (O,), positive.
    """

    codes: Tensor
    codebook: Tensor
    scale: Tensor

    @property
    def weight(self) -> Tensor:
        """(O, K)."""
        return self.codebook[self.codes] * self.scale[:, None]


class Feedback:
    """How an error in one column of the weights is made up for by the columns after it, in the order of H's diagonal.

    Args:
        hessian: H, (K, K), positive definite.

    Attributes:
        order: Of the columns, (K,).
        upper: U, the upper Cholesky factor of H⁻¹ in that order, (K, K). An error e in column j is made up for by
            moving the columns after it by −e U[j, j+1:] / U[j, j].

    Source:
        E. Frantar et al., "GPTQ", arXiv:2210.17323, algorithm 1; B. Hassibi, D. Stork, "Optimal brain surgeon", 1992.
    """

    def __init__(self, hessian: Tensor) -> None:
        self.order = hessian.diagonal().argsort(descending=True, stable=True)
        # H = R Rᵀ with R upper, the other way round than Cholesky has it; so H⁻¹ = UᵀU with U = R⁻¹
        lower = torch.linalg.cholesky(hessian[self.order][:, self.order].flip(0, 1))
        identity = torch.eye(len(hessian)).to(hessian)
        self.upper = torch.linalg.solve_triangular(lower.flip(0, 1), identity, upper=True)


def quadratic(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Tensor:
    """What is to be minimised, of each output channel, (O,)."""
    weight = rounded.weight
    return ((weight @ hessian - 2 * cross) * weight).sum(1, dtype=torch.float64)


def choose_codebook(weight: Tensor, hessian: Tensor, feedback: Feedback, levels: int) -> tuple[Tensor, Tensor]:
    """A codebook and a scale for each output channel, to round weights to.

    Channels are brought to one magnitude, and share the k-means codebook of all. It is stretched as far as that lowers
    the quadratic, which is tried on some of the channels: weights that take up the errors of others grow beyond the
    range of all weights, and what lies beyond the codebook costs more than what lies between its centroids.

    Args:
        weight: (O, K), with which the quadratic is lowest.
        hessian: H, (K, K).
        feedback: Of H.
        levels: L at most.

    Returns:
        The codebook, (L,), and the scales, (O,).
    """
    scale = weight.square().mean(1).sqrt()
    scale = torch.where(scale > 0, scale, _SILENT * scale.mean() or 1.0)  # channels of zeros stay next to zero
    values = fit_codebook((weight / scale[:, None]).cpu().numpy(), levels)
    codebook = torch.from_numpy(values).to(weight)
    rows = slice(0, None, max(1, len(weight) // _TRIED))
    stretches = torch.tensor(_STRETCHES).to(weight)
    some = weight[rows].repeat(len(stretches), 1)  # all stretches at once, as so many channels of larger scales
    cross = some @ hessian
    tried = round_weights(some, torch.outer(stretches, scale[rows]).flatten(), codebook, feedback)
    tried = descend(refit_scale(tried, hessian, cross), hessian, cross)
    lost = quadratic(tried, hessian, cross).reshape(len(stretches), -1).sum(1)
    return codebook * stretches[lost.argmin()], scale


def grid(weight: Tensor, step: float) -> Tensor:
    """A codebook of even steps around zero for weights, and room for those that take up the errors of others.

    Where it would have more than `MAX_CENTROIDS`, those outside lie ever further apart.
    """
    reach = _ROOM * float(weight.abs().max()) / step + 1
    wider = max(_WIDER, (reach / _EVEN) ** (1 / _OUTSIDE))
    places = list(range(min(math.ceil(reach), _EVEN) + 1))
    while places[-1] < reach:
        places.append(math.ceil(places[-1] * wider))
    positive = torch.tensor(places[1:]).to(weight) * step
    return torch.cat([-positive.flip(0), positive.new_zeros(1), positive])


def round_weights(weight: Tensor, scale: Tensor, codebook: Tensor, feedback: Feedback) -> Rounded:
    """Round weights one column after the other, and let the columns not yet rounded make up for each error.

    Args:
        weight: (O, K).
        scale: (O,), positive.
        codebook: (L,), ascending.
        feedback: Of the errors.
    """
    columns = (weight / scale[:, None]).T[feedback.order]
    codes = torch.empty_like(columns, dtype=torch.int64)
    for begin in range(0, len(columns), BLOCK):
        end = min(begin + BLOCK, len(columns))
        upper = feedback.upper[begin:end]
        block, errors = columns[begin:end], torch.empty_like(columns[begin:end])
        for j in range(end - begin):
            codes[begin + j] = _nearest(block[j], codebook)
            errors[j] = (block[j] - codebook[codes[begin + j]]) / upper[j, begin + j]
            block[j + 1 :].addr_(upper[j, begin + j + 1 : end], errors[j], alpha=-1)
        columns[end:].addmm_(upper[:, end:].T, errors, alpha=-1)
    return Rounded(codes[feedback.order.argsort()].T.contiguous(), codebook, scale)


def refit_scale(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Rounded:
    """Give each output channel the scale with which its quadratic is lowest."""
    shape = rounded.codebook[rounded.codes]
    curvature = ((shape @ hessian) * shape).sum(1)
    best = (shape * cross).sum(1) / curvature
    return replace(rounded, scale=torch.where((curvature > 0) & (best > 0), best, rounded.scale))


def refit_codebook(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Rounded:
    """Give codebooks of a few centroids those with which the quadratic is lowest on some channels; others stay."""
    levels = rounded.codebook.numel()
    if levels > _REFIT_MOST:
        return rounded
    rows = slice(0, None, max(1, len(cross) // _REFITTED))
    # the part of the weights that belongs to each centroid, with its scale
    parts = [(rounded.codes[rows] == level) * rounded.scale[rows, None] for level in range(levels)]
    products = [part @ hessian for part in parts]
    curvature = torch.tensor([[float((product * part).sum()) for part in parts] for product in products]).double()
    linear = torch.tensor([float((part * cross[rows]).sum()) for part in parts]).double()
    found = torch.linalg.lstsq(curvature, linear).solution.to(rounded.codebook)
    codebook, order = found.sort()
    return replace(rounded, codebook=codebook, codes=order.argsort()[rounded.codes])


def descend(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Rounded:
    """Give each weight in turn the code with which the quadratic is lowest while all others stay."""
    codebook, scale = rounded.codebook, rounded.scale
    codes, weight = rounded.codes.T.contiguous(), rounded.weight.T.contiguous()
    residual = cross.T - hessian @ weight  # half of the downward slope
    curvature = hessian.diagonal()
    for begin in range(0, len(codes), BLOCK):
        end = min(begin + BLOCK, len(codes))
        block = hessian[begin:end, begin:end].contiguous()
        slope, moves = residual[begin:end].clone(), torch.empty_like(residual[begin:end])
        for j in range(begin, end):
            codes[j] = _nearest((weight[j] + slope[j - begin] / curvature[j]) / scale, codebook)
            moves[j - begin] = codebook[codes[j]] * scale - weight[j]
            slope[j - begin + 1 :].addr_(block[j - begin + 1 :, j - begin], moves[j - begin], alpha=-1)
        residual[end:].addmm_(hessian[end:, begin:end], moves, alpha=-1)
    return replace(rounded, codes=codes.T.contiguous())


def _nearest(values: Tensor, codebook: Tensor) -> Tensor:
    return torch.searchsorted((codebook[1:] + codebook[:-1]) / 2, values)
