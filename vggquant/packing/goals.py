"""What each layer of a VGG is calibrated to: a width, or a step that keeps all of them to a budget.

Where the problem of a layer comes from is left to `calibration`; how codes are chosen, to `rounding`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from vggquant.codec.bitstream import Coding, encode_codes
from vggquant.codec.palette import PalettizedTensor, coded_by_rarity, palettize, palettize_at, recoded
from vggquant.files.weights import Floats, Weights
from vggquant.networks.network import weight_specs
from vggquant.packing.moments import Problem
from vggquant.packing.quantizing import CALIBRATED_ON, of_widths
from vggquant.packing.rated import Budget, rate_of, rated
from vggquant.packing.rates import Curve, choose_steps
from vggquant.packing.rounding import (
    Feedback,
    Rounded,
    choose_codebook,
    descend,
    grid,
    quadratic,
    refit_codebook,
    refit_scale,
    round_weights,
)

ROUNDS = 2  # of targets and codes
_FADED = 0.5  # what counts of earlier layers, in estimating how much more than expected the next ones take
_FULL, _SHY = 0.985, 0.993  # of the bytes that are left: what the last layer must take, and what it aims at
_APART, _TRIES = 1.03, 6  # how far the steps lie apart that are tried for the last layer, and how many are


class Goal(Protocol):
    """What layers are palettized to, one after the other from front to back."""

    def plainly(self, layer: str, weight: Floats, kept: PalettizedTensor | None) -> PalettizedTensor:
        """A weight palettized without calibration, or copied if it is what is wanted already."""

    def solve(self, problem: Problem, plainly: PalettizedTensor) -> tuple[PalettizedTensor, Tensor]:
        """The weight with which a convolution answers nearly as the reference does, and its bias, (O,)."""

    def settle(self, layer: str, tensor: PalettizedTensor) -> bool:
        """Take note of what a layer has become; if false, it must be palettized anew."""

    def done(self, tensors: Sequence[PalettizedTensor]) -> str:
        """What was done to weights that have become these."""


class ToWidths:
    """A width for each layer, with a scale for each output channel.

    Args:
        widths: By layer.
        coding: ``planes`` or ``huffman``.
    """

    def __init__(self, widths: Mapping[str, int], coding: Coding = "planes") -> None:
        self._widths = widths
        self._coding = coding

    def plainly(self, layer: str, weight: Floats, kept: PalettizedTensor | None) -> PalettizedTensor:
        bits = self._widths[layer]
        if kept is not None and kept.codes.bits == bits:
            return recoded(kept, self._coding, trim=True)
        return palettize(weight, bits, self._coding)

    def solve(self, problem: Problem, plainly: PalettizedTensor) -> tuple[PalettizedTensor, Tensor]:
        # no more levels than the plain codebook has, whose size a file made to a size is reckoned with
        rounded, bias = solve(problem, plainly.codebook.size)
        codebook, codes = _centroids(rounded)
        encoded = encode_codes(codes, plainly.codes.bits, self._coding)
        return PalettizedTensor(encoded, codebook, plainly.shape, rounded.scale.cpu().numpy()), bias

    def settle(self, layer: str, tensor: PalettizedTensor) -> bool:
        return True

    def done(self, tensors: Sequence[PalettizedTensor]) -> str:
        return of_widths([tensor.codes.bits for tensor in tensors])


class ToBudget:
    """A step for each layer, so that the file or the codes of all layers keep to a budget; coded as `huffman`.

    The bytes that calibrated weights take are known only afterwards. So steps are chosen anew for the layers that are
    left, with the bytes that are left.

    Args:
        weights: Of the whole network.
        budget: What they may take.

    Raises:
        OptionError: Not even the coarsest codes keep to the budget.
    """

    def __init__(self, weights: Weights, budget: Budget) -> None:
        specs = weight_specs(weights.network)
        arrays = {spec.layer: weights.array(spec.name) for spec in specs}
        self._curves = {layer: Curve.of(array, layer, calibrated=True) for layer, array in arrays.items()}
        coarsest = {layer: palettize_at(array, self._curves[layer].steps[-1]) for layer, array in arrays.items()}
        smallest = rated(weights, {spec.name: coarsest[spec.layer] for spec in specs})
        reserve = CALIBRATED_ON if budget.size else 0
        left = budget.left(smallest) - reserve
        self._refused = budget.refused(smallest, reserve)
        if left < 0:
            raise self._refused
        self._whole = budget.size is not None  # whether codebooks count
        self._left = left + sum(map(self._taken_by, coarsest.values()))
        self._taken = self._expected = 0.0  # by the layers that are done, those before the last ones fading away
        self._step = 0.0
        self._tries, self._too_fine, self._fitting = 0, 0.0, 0.0  # for the last layer

    def plainly(self, layer: str, weight: Floats, kept: PalettizedTensor | None) -> PalettizedTensor:
        if self._step == 0:
            excess = self._taken / self._expected if self._expected else 1.0
            self._step = choose_steps(self._curves, self._left / excess)[layer]
        return palettize_at(weight, self._step)

    def solve(self, problem: Problem, plainly: PalettizedTensor) -> tuple[PalettizedTensor, Tensor]:
        rounded, bias = solve_on_grid(problem, self._step)
        codebook, codes = _centroids(rounded)
        return coded_by_rarity(codes, codebook, plainly.shape), bias

    def settle(self, layer: str, tensor: PalettizedTensor) -> bool:
        size = self._taken_by(tensor)
        curve = self._curves[layer]
        expected = curve.bytes_at(self._step)
        if len(self._curves) == 1 and not self._is_last(curve, size, expected):
            return False
        del self._curves[layer]
        self._expected = _FADED * self._expected + expected
        self._taken = _FADED * self._taken + size
        self._left -= size
        self._step = 0.0
        return True

    def _taken_by(self, tensor: PalettizedTensor) -> int:
        return tensor.codes.stream.nbytes + (tensor.codebook.nbytes if self._whole else 0)

    def _is_last(self, curve: Curve, size: int, expected: float) -> bool:
        """Whether the last layer takes what is left; if it does not, the next step to try lies between those tried."""
        self._tries += 1
        if size > self._left:
            if self._step == curve.steps[-1]:
                raise self._refused
            self._too_fine = self._step
        else:
            self._fitting = self._step
            if size >= _FULL * self._left or self._tries >= _TRIES or self._step == curve.steps[0]:
                return True
        if self._too_fine and self._fitting:
            self._step = math.sqrt(self._too_fine * self._fitting) if self._tries < _TRIES else self._fitting
        else:
            step = curve.step_for(expected * _SHY * self._left / size)
            apart = _APART * self._step if size > self._left else self._step / _APART
            self._step = float(
                np.clip(max(step, apart) if size > self._left else min(step, apart), *curve.steps[[0, -1]])
            )
        return False

    def done(self, tensors: Sequence[PalettizedTensor]) -> str:
        return f"palettized to {rate_of(tensors):.2f} bits, once coded"


def solve(problem: Problem, levels: int) -> tuple[Rounded, Tensor]:
    """Weights of a few levels, and a bias, with which a convolution answers nearly as the reference does."""
    hessian, feedback = problem.hessian, Feedback(problem.hessian)
    cross, mean = problem.moments(problem.targets(problem.reference, problem.reference_bias))
    best = problem.solve(cross)
    codebook, scale = choose_codebook(best, hessian, feedback, levels)
    rounded = round_weights(best, scale, codebook, feedback)
    for round_ in range(ROUNDS):
        if round_:
            cross, mean = problem.moments(problem.targets(rounded.weight, problem.bias(rounded.weight, mean)))
            best = problem.solve(cross)
        rounded = refit_scale(refit_codebook(rounded, hessian, cross), hessian, cross)
        anew = round_weights(best, rounded.scale, rounded.codebook, feedback)
        rounded = min(rounded, anew, key=lambda one: float(quadratic(one, hessian, cross).sum()))
        rounded = refit_scale(descend(rounded, hessian, cross), hessian, cross)
    return rounded, problem.bias(rounded.weight, mean)


def solve_on_grid(problem: Problem, step: float) -> tuple[Rounded, Tensor]:
    """Likewise weights on a grid of even steps, where rounding leaves nothing for scales or descent to gain."""
    feedback = Feedback(problem.hessian)
    weight, bias = problem.reference, problem.reference_bias
    for _ in range(ROUNDS):
        cross, mean = problem.moments(problem.targets(weight, bias))
        best = problem.solve(cross)
        rounded = round_weights(best, bias.new_ones(len(bias)), grid(best, step), feedback)
        weight, bias = rounded.weight, problem.bias(rounded.weight, mean)
    return rounded, bias


def _centroids(rounded: Rounded) -> tuple[Floats, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Codebook and codes as the file holds them: centroids ascending, each one used."""
    values = rounded.codebook[rounded.codes].cpu().numpy() + np.float32(0)  # −0.0 + 0.0 is 0.0
    codebook, codes = np.unique(values, return_inverse=True)
    return codebook, codes.reshape(-1).astype(np.uint8)
