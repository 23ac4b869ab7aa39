"""Descent, and what it gains from the curvature learned before; filters are checked against NumPy's own FFT."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vggquant.errors import OptionError
from vggquant.style.descent import BANDS, ENOUGH, Curvature, Descent


def bend(seed: int = 0, steepest: float = 30.0) -> Tensor:
    """Curvatures by band and colour, (BANDS, 3, 3), of which the directions differ."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(BANDS, 3, 3, generator=generator, dtype=torch.float64)).Q
    values = steepest ** torch.rand(BANDS, 3, generator=generator, dtype=torch.float64)
    found: Tensor = (frame * values[:, None]) @ frame.mT
    return found


def numpy_filtered(picture: Tensor, matrices: Tensor) -> Tensor:
    """The colours of a picture, band by band of radial frequency, multiplied by matrices; slow and obvious."""
    spectrum = np.fft.fft2(picture[0].detach().double().numpy())
    down, across = np.fft.fftfreq(picture.shape[2])[:, None], np.fft.fftfreq(picture.shape[3])
    radius = np.hypot(down, across) / np.hypot(0.5, 0.5)
    band = np.minimum((radius * BANDS + 1e-6).astype(int), BANDS - 1)
    filtered = np.zeros_like(spectrum)
    for number in range(BANDS):
        inside = band == number
        filtered[:, inside] = matrices[number].numpy() @ spectrum[:, inside]
    return torch.from_numpy(np.fft.ifft2(filtered).real)[None].to(picture)


class _Quadratic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, away: Tensor, bend: Tensor) -> Tensor:
        gradient = numpy_filtered(away, bend)
        ctx.save_for_backward(gradient)
        return (away * gradient).sum() / 2

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return outer * gradient, None


class Bowl:
    """½ xᵀ H x of a picture's distance x from a goal, with gradient H x."""

    def __init__(self, goal: Tensor, bend: Tensor) -> None:
        self.goal, self.bend = goal, bend

    def __call__(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        total: Tensor = _Quadratic.apply(pixels - self.goal, self.bend)  # type: ignore[no-untyped-call]
        return total, {"away": total}


def rough(pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A badly conditioned loss in which no band appears: differences of neighbours count far more than values."""
    mixed = torch.einsum("ij,njhw->nihw", torch.tensor([[1.0, 0.5, 0.2], [0.0, 1.0, 0.6], [0.0, 0.0, 0.3]]), pixels)
    down, across = mixed - mixed.roll(1, 2), mixed - mixed.roll(1, 3)
    total = 10 * (down**2 + across**2).sum() + (mixed**2).sum()
    return total, {}


def losses(bowl: Bowl, pixels: Tensor, steps: int, whitening: Tensor | None = None) -> list[float]:
    made = Descent(bowl, pixels, "lbfgs", whitening=whitening)
    return [terms["loss"] for terms in itertools.islice(made, steps)]


def test_the_first_step_is_down_the_whitened_gradient() -> None:
    """Which takes the filter, its inverse and its gradient to be right."""
    torch.manual_seed(0)
    whitening, start, direction = bend(), torch.randn(1, 3, 15, 22), torch.randn(1, 3, 15, 22)
    pixels = start.clone()
    next(Descent(lambda seen: ((seen * direction).sum(), {}), pixels, "lbfgs", whitening=whitening))
    step = pixels - start
    expected = -numpy_filtered(direction, whitening @ whitening)
    expected *= step.norm() / expected.norm()
    assert (step - expected).norm() < 1e-3 * expected.norm()


def test_nothing_is_gained_where_curvature_is_equal() -> None:
    torch.manual_seed(0)
    curvature = Curvature()
    for _ in range(ENOUGH):
        move = torch.randn(1, 3, 24, 20)
        curvature.learn(move, 7 * move)
    whitening = curvature.whitening()
    assert whitening is not None
    assert torch.allclose(whitening, torch.eye(3, dtype=torch.float64).expand(BANDS, 3, 3), atol=1e-3)


def test_curvature_is_learned_from_steps_of_any_length() -> None:
    true = bend()
    curvature = Curvature()
    torch.manual_seed(0)
    for step in range(60):
        move = torch.randn(1, 3, 48, 40) * 10.0 ** (step % 5)
        curvature.learn(move, numpy_filtered(move, true))
    whitening = curvature.whitening()
    assert whitening is not None
    alike = whitening @ true @ whitening
    alike /= alike.diagonal(dim1=1, dim2=2).mean()
    assert (alike - torch.eye(3)).abs().max() < 0.1


def test_little_is_not_enough_to_learn_from() -> None:
    curvature = Curvature()
    for _ in range(ENOUGH - 1):
        curvature.learn(torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8))
    curvature.learn(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    assert curvature.whitening() is None
    flat = Curvature()
    for _ in range(ENOUGH):
        flat.learn(torch.randn(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
        flat.learn(torch.randn(1, 3, 8, 8), torch.full((1, 3, 8, 8), torch.nan))
    assert flat.whitening() is None


def test_what_one_scale_teaches_helps_the_next() -> None:
    torch.manual_seed(0)
    true, curvature = bend(), Curvature()
    small = torch.zeros(1, 3, 24, 20)
    made = Descent(Bowl(torch.randn(1, 3, 24, 20), true), small, "lbfgs", curvature=curvature)
    for _ in itertools.islice(made, 40):
        pass
    goal = torch.randn(1, 3, 48, 40)
    plain = losses(Bowl(goal, true), torch.zeros_like(goal), 15)
    taught = losses(Bowl(goal, true), torch.zeros_like(goal), 15, curvature.whitening())
    assert taught[0] == pytest.approx(plain[0])
    assert taught[-1] < 0.1 * plain[-1]


def test_a_badly_conditioned_loss_falls_faster_with_what_was_learned() -> None:
    torch.manual_seed(0)
    curvature = Curvature()
    for _ in itertools.islice(Descent(rough, torch.randn(1, 3, 24, 20), "lbfgs", curvature=curvature), 40):
        pass
    start = torch.randn(1, 3, 48, 40)
    plain, taught = start.clone(), start.clone()
    for _ in itertools.islice(Descent(rough, plain, "lbfgs"), 15):
        pass
    for _ in itertools.islice(Descent(rough, taught, "lbfgs", whitening=curvature.whitening()), 15):
        pass
    assert rough(taught)[0] < 0.01 * rough(plain)[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 40)])
def test_small_pictures_teach_too(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    curvature = Curvature()
    for _ in range(ENOUGH):
        curvature.learn(torch.randn(1, 3, *size), torch.randn(1, 3, *size))
    goal = torch.randn(1, 3, 16, 12)
    found = losses(Bowl(goal, bend(steepest=2.0)), torch.zeros_like(goal), 30, curvature.whitening())
    assert found[-1] < 0.05 * found[0]


def test_without_teaching_it_is_torchs_optimiser() -> None:
    torch.manual_seed(0)
    bowl = Bowl(torch.randn(1, 3, 12, 10), bend())
    theirs = torch.zeros(1, 3, 12, 10, requires_grad=True)
    optimizer = torch.optim.LBFGS([theirs], lr=1.0, max_iter=1)

    def evaluate() -> Tensor:
        theirs.grad = None
        total, _ = bowl(theirs)
        (gradient,) = torch.autograd.grad(total, theirs)
        theirs.grad = gradient.contiguous()
        return total

    expected = [float(optimizer.step(evaluate).detach()) for _ in range(12)]  # type: ignore[no-untyped-call]
    ours = torch.zeros(1, 3, 12, 10)
    assert losses(bowl, ours, 12) == expected
    assert torch.equal(ours, theirs.detach())


def test_a_loss_that_leaves_the_numbers_is_refused() -> None:
    pixels = torch.zeros(1, 3, 4, 4)
    with pytest.raises(OptionError, match="a finite loss"):
        next(Descent(lambda seen: (seen.sum() + torch.nan, {}), pixels, "lbfgs"))
