"""Codes, codebooks and scales that minimise a quadratic."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import unfold

from vggquant.codec.kmeans import fit_codebook
from vggquant.models.load import load_quantized_vgg
from vggquant.packing import rounding
from vggquant.packing.rounding import (
    Feedback,
    Rounded,
    choose_codebook,
    descend,
    refit_codebook,
    refit_scale,
    round_weights,
)
from vggquant.pictures.generated import generated_pictures


def problem(outputs: int = 6, inputs: int = 300, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (O, K), a positive definite H with strongly correlated inputs, and C = W H."""
    torch.manual_seed(seed)
    weight = torch.randn(outputs, inputs)
    rows = torch.randn(2 * inputs, 20) @ torch.randn(20, inputs) + 0.3 * torch.randn(2 * inputs, inputs)
    hessian = rows.T @ rows / len(rows) + 0.01 * torch.eye(inputs)
    return weight, hessian, weight @ hessian


def quadratic(weight: Tensor, hessian: Tensor, cross: Tensor) -> float:
    return float((weight @ hessian * weight).sum() - 2 * (weight * cross).sum())


def real_problem() -> tuple[Tensor, Tensor, Tensor]:
    """That of conv2_1, on generated pictures."""
    vgg = load_quantized_vgg(upto="relu2_1")
    made = torch.from_numpy(generated_pictures(2, 128, 128, 5)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        rows = unfold(vgg(made, ("pool1",))["pool1"], 3, padding=1).transpose(1, 2).flatten(0, 1)
    rows -= rows.mean(0)
    hessian = rows.T @ rows / len(rows)
    hessian += 0.03 * hessian.diagonal().mean() * torch.eye(len(hessian))
    weight = vgg.get_parameter("conv2_1.weight").detach().flatten(1)
    return weight, hessian, weight @ hessian


def rounded_to(levels: int, weight: Tensor, hessian: Tensor) -> Rounded:
    feedback = Feedback(hessian)
    codebook, scale = choose_codebook(weight, hessian, feedback, levels)
    return round_weights(weight, scale, codebook, feedback)


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
    rounded = rounded_to(4, weight, hessian)
    slow = slowly_rounded(weight, hessian, rounded.codebook, rounded.scale)
    # a few codes may differ where a value lies at the border of two
    assert float((rounded.weight - slow).abs().gt(1e-4).float().mean()) < 0.02


def test_without_correlation_weights_are_rounded_to_the_nearest() -> None:
    weight, _, _ = problem()
    rounded = rounded_to(8, weight, torch.eye(weight.shape[1]))
    nearest = (weight[:, :, None] / rounded.scale[:, None, None] - rounded.codebook).abs().argmin(2)
    assert torch.equal(rounded.codes, nearest)


def test_spreading_errors_helps() -> None:
    weight, hessian, cross = problem()
    spread = rounded_to(4, weight, hessian)
    nearest = rounded_to(4, weight, torch.eye(len(hessian)))
    best = quadratic(weight, hessian, cross)
    lost = quadratic(spread.weight, hessian, cross) - best
    assert lost < 0.7 * (quadratic(nearest.weight, hessian, cross) - best)


@pytest.mark.parametrize("levels", [2, 4])
def test_codebooks_are_stretched_as_far_as_it_helps(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, hessian, cross = real_problem()
    stretched = rounded_to(levels, weight, hessian)
    codebook = torch.from_numpy(fit_codebook((weight / stretched.scale[:, None]).numpy(), levels))
    plain = round_weights(weight, stretched.scale, codebook, Feedback(hessian))
    assert stretched.codebook[-1] > plain.codebook[-1]
    best = quadratic(weight, hessian, cross)
    lost = [quadratic(descend(one, hessian, cross).weight, hessian, cross) - best for one in (plain, stretched)]
    assert lost[1] < 0.95 * lost[0]
    monkeypatch.setattr(rounding, "_TRIED", 8)  # of 128 channels
    assert rounded_to(levels, weight, hessian).codebook[-1] > plain.codebook[-1]


@pytest.mark.parametrize(
    ("step", "levels"),
    [*itertools.product([descend, refit_scale], [2, 4, 8]), (refit_codebook, 2), (refit_codebook, 4)],
)
def test_each_step_lowers_the_quadratic(step: Callable[[Rounded, Tensor, Tensor], Rounded], levels: int) -> None:
    weight, hessian, cross = problem()
    rounded = rounded_to(levels, weight, torch.eye(len(hessian)))
    after = step(rounded, hessian, cross)
    assert quadratic(after.weight, hessian, cross) < quadratic(rounded.weight, hessian, cross)
    assert (after.codebook.diff() > 0).all()


def test_no_single_code_could_be_better_at_the_end() -> None:
    weight, hessian, cross = problem(outputs=2, inputs=30)
    rounded = rounded_to(4, weight, hessian)
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
    rounded = rounded_to(4, weight, hessian)
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
    rounded = descend(rounded_to(4, weight, hessian), hessian, weight @ hessian)
    assert torch.isfinite(rounded.weight).all()
    assert float(rounded.weight[2].abs().max()) < 1e-3
