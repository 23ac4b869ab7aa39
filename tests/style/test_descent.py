from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from vggquant.errors import OptionError
from vggquant.style import descent
from vggquant.style.descent import BANDS, ENOUGH, Curvature, descend


def bend(seed: int = 0, steepest: float = 30.0) -> Tensor:
    """Curvatures by band and colour, (BANDS, 3, 3), of which the directions differ."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.linalg.qr(torch.randn(BANDS, 3, 3, generator=generator, dtype=torch.float64)).Q
    values = steepest ** torch.rand(BANDS, 3, generator=generator, dtype=torch.float64)
    found: Tensor = (frame * values[:, None]) @ frame.mT
    return found


class Bowl:
    """½ xᵀ H x of a picture's distance x from a goal."""

    def __init__(self, goal: Tensor, bend: Tensor) -> None:
        self.goal, self.bend = goal, bend

    def __call__(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        away = pixels - self.goal
        total = (away * descent._filtered(away, self.bend)).sum() / 2
        return total, {"away": total}


def losses(bowl: Bowl, pixels: Tensor, steps: int, whitening: Tensor | None = None) -> list[float]:
    made = descend(bowl, pixels, "lbfgs", whitening=whitening)
    return [terms["loss"] for terms in itertools.islice(made, steps)]


def test_a_filter_is_undone_by_its_inverse_and_is_its_own_gradient() -> None:
    one, other = torch.randn(2, 1, 3, 15, 22)
    matrices = bend()
    there = descent._filtered(one, matrices)
    assert torch.allclose(descent._filtered(there, torch.linalg.inv(matrices)), one, atol=1e-4)
    assert float((there * other).sum()) == pytest.approx(
        float((one * descent._filtered(other, matrices)).sum()), rel=1e-3
    )


def test_curvature_is_learnt_from_steps_of_any_length() -> None:
    true = bend()
    curvature = Curvature()
    torch.manual_seed(0)
    for step in range(60):
        move = torch.randn(1, 3, 48, 40) * 10.0 ** (step % 5)
        curvature.learn(move, descent._filtered(move, true))
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
    made = descend(Bowl(torch.randn(1, 3, 24, 20), true), small, "lbfgs", curvature=curvature)
    for _ in itertools.islice(made, 40):
        pass
    goal = torch.randn(1, 3, 48, 40)
    plain = losses(Bowl(goal, true), torch.zeros_like(goal), 15)
    taught = losses(Bowl(goal, true), torch.zeros_like(goal), 15, curvature.whitening())
    assert taught[0] == pytest.approx(plain[0])
    assert taught[-1] < 0.1 * plain[-1]


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
        next(descend(lambda seen: (seen.sum() + torch.nan, {}), pixels, "lbfgs"))
