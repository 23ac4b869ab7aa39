"""Samples of what a convolution receives, and the least-squares problem that they state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, unfold

from vggquant.packing.moments import Problem, Samples, sample


def pictures(seed: int, sizes: tuple[tuple[int, int], ...] = ((9, 7), (6, 8))) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(1, 4, *size).relu() for size in sizes]


def sampled(wanted: int = 10_000, noise: float = 0.3) -> tuple[Samples, Tensor, Tensor]:
    torch.manual_seed(3)
    weight, bias = torch.randn(5, 36), torch.randn(5)
    expected = pictures(0)
    found = [x + noise * torch.randn_like(x) for x in expected]
    return sample(expected, found, weight, bias, wanted, np.random.default_rng(0)), weight, bias


def test_all_positions_are_what_unfolding_gives() -> None:
    samples, weight, bias = sampled(noise=0)
    rows = torch.cat([unfold(x, 3, padding=1)[0].T for x in pictures(0)])
    assert samples.inputs.shape == rows.shape

    def ordered(rows: Tensor) -> Tensor:
        return rows[np.lexsort(rows.numpy().T)]

    assert torch.equal(ordered(samples.inputs), ordered(rows))
    answers = [conv2d(x, weight.reshape(5, 4, 3, 3), bias, padding=1)[0].flatten(1).T for x in pictures(0)]
    assert torch.allclose(ordered(samples.outputs), ordered(torch.cat(answers)), atol=1e-5)


def test_each_picture_gives_its_share_and_counts_by_its_energy() -> None:
    samples, _, _ = sampled(wanted=20)
    assert len(samples.inputs) == 20
    assert samples.counts.sum() == pytest.approx(1)
    energies = [float(part.relu().square().mean()) for part in samples.outputs.chunk(2)]
    assert float(samples.counts[0] / samples.counts[10]) == pytest.approx(energies[1] / energies[0], rel=1e-4)


def test_a_picture_that_hardly_activates_counts_no_more_than_a_hundred_others() -> None:
    weight, bias = torch.ones(1, 9), torch.zeros(1)
    expected = [torch.full((1, 1, 5, 5), level) for level in (1.0, 1.0, 1e-9)]
    samples = sample(expected, expected, weight, bias, 9, np.random.default_rng(0))
    assert float(samples.counts[-1]) == pytest.approx(100 * float(samples.counts[:6].mean()), rel=0.5)


def test_the_reference_itself_has_no_error() -> None:
    samples, weight, bias = sampled(noise=0)
    problem = Problem(samples, weight, bias)
    assert problem.error(weight, bias) < 1e-6
    assert problem.error(0 * weight, 0 * bias) == pytest.approx(1)


def test_solving_finds_the_lowest_point() -> None:
    samples, weight, bias = sampled()
    problem = Problem(samples, weight, bias)
    cross, _ = problem.moments(samples.outputs)
    found = problem.solve(cross)
    assert torch.allclose(found @ problem.hessian, cross, atol=1e-3)


def test_each_round_of_targets_lowers_the_error_behind_the_relu() -> None:
    samples, weight, bias = sampled(noise=1)
    problem = Problem(samples, weight, bias)
    cross, mean = problem.moments(samples.outputs)
    found = problem.solve(cross)
    errors = [problem.error(found, problem.bias(found, mean))]
    for _ in range(4):
        cross, mean = problem.moments(problem.targets(found, problem.bias(found, mean)))
        found = problem.solve(cross)
        errors.append(problem.error(found, problem.bias(found, mean)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.92 * errors[0]


def test_the_bias_restores_the_mean() -> None:
    samples, weight, bias = sampled()
    problem = Problem(samples, weight, bias)
    _, mean = problem.moments(samples.outputs)
    inputs = sampled()[0].inputs  # the others were taken from their means
    answers = inputs @ (2 * weight).T + problem.bias(2 * weight, mean)
    assert torch.allclose(samples.counts @ answers, samples.counts @ samples.outputs, atol=1e-4)
