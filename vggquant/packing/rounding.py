"""Codes, codebook and scales that minimise a quadratic of the weights: Σ over output channels of w H wᵀ − 2 w cᵀ.

What the quadratic stands for is left to `moments`. Notation: O output channels, K inputs of each, w a channel's
weights, which are its scale times entries of one codebook of L centroids, C the (O × K) matrix of the c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggquant.codec.kmeans import fit_codebook

BLOCK = 128  # columns worked on before what follows is brought up to date, as in GPTQ
_SILENT = 1e-6
_REFIT_MOST = 8  # centroids up to which refitting the codebook pays: it takes a product with H for each


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


def round_weights(weight: Tensor, hessian: Tensor, levels: int) -> Rounded:
    """Round weights one column after the other, and let the columns not yet rounded make up for each error.

    Channels are brought to one magnitude, and share the k-means codebook of all. Columns are taken in the order of
    H's diagonal. With the upper Cholesky factor U of H⁻¹, an error e in column j is made up for by moving the columns
    after it by −e U[j, j+1:] / U[j, j].

    Args:
        weight: (O, K).
        hessian: H, (K, K), positive definite.
        levels: L at most.

    Source:
        E. Frantar et al., "GPTQ", arXiv:2210.17323, algorithm 1; B. Hassibi, D. Stork, "Optimal brain surgeon", 1992.
    """
    scale = weight.std(1, correction=0)
    scale = torch.where(scale > 0, scale, _SILENT * scale.mean() or 1.0)  # channels of zeros stay next to zero
    columns = (weight / scale[:, None]).T.contiguous()
    codebook = torch.from_numpy(fit_codebook(columns.cpu().numpy(), levels)).to(weight.device)
    order = hessian.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    columns = columns[order]
    codes = torch.empty_like(columns, dtype=torch.int64)
    for begin in range(0, len(columns), BLOCK):
        end = min(begin + BLOCK, len(columns))
        errors = torch.empty_like(columns[begin:end])
        for j in range(begin, end):
            codes[j] = _nearest(columns[j], codebook)
            errors[j - begin] = (columns[j] - codebook[codes[j]]) / upper[j, j]
            columns[j + 1 : end] -= upper[j, j + 1 : end, None] * errors[j - begin]
        columns[end:] -= upper[begin:end, end:].T @ errors
    return Rounded(codes[order.argsort()].T.contiguous(), codebook, scale)


def refit_scale(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Rounded:
    """Give each output channel the scale with which its quadratic is lowest."""
    shape = rounded.codebook[rounded.codes]
    curvature = ((shape @ hessian) * shape).sum(1)
    best = (shape * cross).sum(1) / curvature
    return replace(rounded, scale=torch.where((curvature > 0) & (best > 0), best, rounded.scale))


def refit_codebook(rounded: Rounded, hessian: Tensor, cross: Tensor) -> Rounded:
    """Give codebooks of a few centroids those with which the quadratic is lowest; others stay."""
    levels = rounded.codebook.numel()
    if levels > _REFIT_MOST:
        return rounded
    # the part of the weights that belongs to each centroid, with its scale
    parts = [(rounded.codes == level) * rounded.scale[:, None] for level in range(levels)]
    products = [part @ hessian for part in parts]
    quadratic = torch.tensor([[float((product * part).sum()) for part in parts] for product in products]).double()
    linear = torch.tensor([float((part * cross).sum()) for part in parts]).double()
    found = torch.linalg.lstsq(quadratic, linear).solution.to(rounded.codebook)
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
            slope -= block[:, j - begin, None] * moves[j - begin]
        residual -= hessian[:, begin:end] @ moves
    return replace(rounded, codes=codes.T.contiguous())


def _nearest(values: Tensor, codebook: Tensor) -> Tensor:
    return torch.searchsorted((codebook[1:] + codebook[:-1]) / 2, values)
