"""Codes, codebooks and scales that minimise a quadratic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggquant.packing.rounding import Rounded, descend, refit_codebook, refit_scale, round_weights


def problem(outputs: int = 6, inputs: int = 300, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (O, K), a positive definite H with strongly correlated inputs, and C = W H."""
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs)
    rows = torch.randn(2 * inputs, 20) @ torch.randn(20, inputs) + 0.3 * torch.randn(2 * inputs, inputs)
    hessian = rows.T @ rows / len(rows) + 0.01 * torch.eye(inputs)
    return weight, hessian, weight @ hessian


def quadratic(weight: Tensor, hessian: Tensor, cross: Tensor) -> float:
    return float((weight @ hessian * weight).sum() - 2 * (weight * cross).sum())


def slowly_rounded(weight: Tensor, hessian: Tensor, codebook: Tensor, scale: Tensor) -> Tensor:
    """The optimal brain surgeon by its book: after each column, the best move of all that are left."""
    left = (weight / scale[:, None]).double()
    order = hessian.diagonal().argsort(descending=True)
    remaining = order.tolist()
    for column in order.tolist():
        inverse = torch.linalg.inv(hessian[remaining][:, remaining].double())
        nearest = codebook.double()[(left[:, column, None] - codebook.double()).abs().argmin(1)]
        error = (left[:, column] - nearest) / inverse[0, 0]
        left[:, remaining] -= error[:, None] * inverse[0]
        remaining = remaining[1:]
    return left.float() * scale[:, None]


def test_errors_are_spread_as_the_optimal_brain_surgeon_does() -> None:
    weight, hessian, _ = problem(inputs=200)  # more than a block
    rounded = round_weights(weight, hessian, 4)
    slow = slowly_rounded(weight, hessian, rounded.codebook, rounded.scale)
    # a few codes may differ where a value lies at the border of two
    assert float((rounded.weight - slow).abs().gt(1e-4).float().mean()) < 0.02


def test_without_correlation_weights_are_rounded_to_the_nearest() -> None:
    weight, _, _ = problem()
    rounded = round_weights(weight, torch.eye(weight.shape[1]), 8)
    nearest = (weight[:, :, None] / rounded.scale[:, None, None] - rounded.codebook).abs().argmin(2)
    assert torch.equal(rounded.codes, nearest)


def test_spreading_errors_helps() -> None:
    weight, hessian, cross = problem()
    spread = round_weights(weight, hessian, 4)
    nearest = round_weights(weight, torch.eye(len(hessian)), 4)
    best = quadratic(weight, hessian, cross)
    lost = quadratic(spread.weight, hessian, cross) - best
    assert lost < 0.7 * (quadratic(nearest.weight, hessian, cross) - best)


@pytest.mark.parametrize("step", [descend, refit_scale, refit_codebook])
@pytest.mark.parametrize("levels", [2, 4, 8])
def test_each_step_lowers_the_quadratic(step: object, levels: int) -> None:
    assert callable(step)
    weight, hessian, cross = problem()
    rounded = round_weights(weight, torch.eye(len(hessian)), levels)
    after = step(rounded, hessian, cross)
    assert quadratic(after.weight, hessian, cross) < quadratic(rounded.weight, hessian, cross)
    assert (after.codebook.diff() > 0).all()


def test_no_single_code_could_be_better_at_the_end() -> None:
    weight, hessian, cross = problem(outputs=2, inputs=30)
    rounded = round_weights(weight, hessian, 4)
    for _ in range(50):
        rounded = descend(rounded, hessian, cross)
    least = quadratic(rounded.weight, hessian, cross)
    for row, column, level in torch.cartesian_prod(torch.arange(2), torch.arange(30), torch.arange(4)):
        codes = rounded.codes.clone()
        codes[row, column] = level
        changed = Rounded(codes, rounded.codebook, rounded.scale)
        assert quadratic(changed.weight, hessian, cross) >= least - 1e-4 * abs(least)


def test_codebook_and_scale_are_the_best_there_are() -> None:
    weight, hessian, cross = problem(outputs=3, inputs=40)
    rounded = round_weights(weight, hessian, 4)
    for found in (refit_codebook(rounded, hessian, cross), refit_scale(rounded, hessian, cross)):
        least = quadratic(found.weight, hessian, cross)
        changed = "codebook" if found.codebook is not rounded.codebook else "scale"
        for index in range(len(getattr(found, changed))):
            for factor in (0.99, 1.01):
                values = getattr(found, changed).clone()
                values[index] *= factor
                other = Rounded(
                    found.codes, *((values, found.scale) if changed == "codebook" else (found.codebook, values))
                )
                assert quadratic(other.weight, hessian, cross) >= least - 1e-5 * abs(least)


def test_channels_of_zeros_stay_zero() -> None:
    weight, hessian, _ = problem()
    weight[2] = 0
    rounded = descend(round_weights(weight, hessian, 4), hessian, weight @ hessian)
    assert torch.isfinite(rounded.weight).all()
    assert float(rounded.weight[2].abs().max()) < 1e-3
