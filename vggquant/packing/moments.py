"""What a convolution of the packed network receives and what it should answer, as one least-squares problem.

Samples of both are taken at random positions of pictures. Which codes follow from the problem is left to `rounding`,
and the order of layers to `calibration`. Notation: N positions, O output channels, K = 9·C inputs of each, X the
inputs (N × K), Y the reference's outputs before the relu (N × O), W the weights (O × K), b the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, relu

from vggquant.errors import SourceError

_FAINTEST = 0.01  # of the median energy of pictures that have any
_LOOKED_AT = 4  # one position in so many tells how large an error is
DAMPING = 0.03  # of the mean of H's diagonal: how firmly weights are held where the samples do not tell


@dataclass(frozen=True, eq=False)
class Samples:
    """What one convolution receives and should answer.

    Args:
        inputs: X, the packed network's inputs, (N, K).
        outputs: Y, the reference's outputs before the relu, (N, O).
        counts: How much each position counts, (N,).
    """

    inputs: Tensor
    outputs: Tensor
    counts: Tensor


def sample(
    expected: Sequence[Tensor],
    found: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    wanted: int,
    generator: np.random.Generator,
) -> Samples:
    """Take positions at random, as many from each picture.

    A picture counts in inverse proportion to the energy of its activations, because errors are relative to it. Energies
    below `_FAINTEST` of the median are raised to that.

    Args:
        expected: The reference's activations before a 3 × 3 convolution, one picture each, (1, C, H, W).
        found: The packed network's, likewise.
        weight: The reference's weights, (O, K), on the device where the samples are wanted.
        bias: The reference's, (O,).
        wanted: Positions in all; a picture gives no more than it has.
        generator: Of the positions.
    """
    share = math.ceil(wanted / len(expected))
    shares = [min(share, picture[0, 0].numel()) for picture in expected]
    inputs, outputs = (weight.new_empty(sum(shares), columns) for columns in reversed(weight.shape))
    energies: list[float] = []
    begin = 0
    for theirs, ours, taken in zip(expected, found, shares, strict=True):
        positions = torch.from_numpy(generator.permutation(theirs[0, 0].numel())[:taken])
        part = slice(begin, begin + taken)
        inputs[part] = _patches(ours, positions)
        from_theirs = inputs[part] if ours is theirs else _patches(theirs, positions).to(weight)
        torch.addmm(bias, from_theirs, weight.T, out=outputs[part])
        energies.append(float(relu(outputs[part]).square().mean()))
        begin += taken
    energy = torch.tensor(energies, dtype=torch.float64)
    least = _FAINTEST * float(energy[energy > 0].median()) if energy.any() else 1.0
    counts = (1 / energy.clamp(min=least)).repeat_interleave(torch.tensor(shares))
    return Samples(inputs, outputs, (counts / counts.sum()).to(weight))


def _patches(picture: Tensor, positions: Tensor) -> Tensor:
    """The 3 × 3 neighbourhoods of some positions of a picture (1, C, H, W) within zeros, (positions, 9·C)."""
    width = picture.shape[3]
    corners = positions // width * (width + 2) + positions % width  # in the padded picture
    steps = torch.tensor([row * (width + 2) + column for row in range(3) for column in range(3)]).to(corners)
    padded = pad(picture[0], (1, 1, 1, 1)).flatten(1)
    patches = padded[:, (corners[:, None] + steps).flatten()].reshape(len(padded), len(positions), 9)
    return patches.transpose(0, 1).flatten(1)


class Problem:
    """Which weights answer as the reference does, seen behind the relu.

    To minimise Σ ‖relu(W x + b) − relu(y)‖² directly is hard. But it is bounded by Σ ‖W x + b − t‖², where t = y if y
    is positive, and else the answer of the weights found so far, as far as that is negative, since the relu does not
    care how far. For these weights the two are equal, except where they answer negatively though y is positive. So a
    round of least squares against such targets usually lowers both (X. Zhang et al., "Accelerating Very Deep
    Convolutional Networks", arXiv:1505.06798, section 2.3, likewise let the relu forgive).

    With inputs and targets taken from their means, which the bias restores, the least-squares problem of each output
    channel is the quadratic w H wᵀ − 2 w cᵀ, with H = E[x xᵀ] + λI and c = E[t x] + λ w⁰, where w⁰ are the reference's
    weights: where the samples do not tell, weights stay.

    Args:
        samples: What the convolution receives and should answer. Its inputs are centred and weighted in place, and are
            X no longer.
        reference: W⁰, (O, K).
        reference_bias: b⁰, (O,).

    Raises:
        SourceError: Activations have overflowed.
    """

    def __init__(self, samples: Samples, reference: Tensor, reference_bias: Tensor) -> None:
        self.samples = samples
        self.reference = reference
        self.reference_bias = reference_bias
        self.mean = samples.counts @ samples.inputs
        self._root = samples.counts.sqrt()[:, None]
        self._centred = samples.inputs.sub_(self.mean).mul_(self._root)  # in place, because they may take a gigabyte
        self.hessian = _gram(self._centred)  # half of GPTQ's H
        if not torch.isfinite(self.hessian).all():
            raise SourceError("weights with finite activations", "infinite ones", "leave out `calibrate`")
        self.damping = DAMPING * float(self.hessian.diagonal().mean()) or 1.0
        self.hessian.diagonal().add_(self.damping)
        self._factor = torch.linalg.cholesky(self.hessian)

    def targets(self, weight: Tensor, bias: Tensor) -> Tensor:
        """What answers must be near to, for the activations to be near to the reference's: t, (N, O)."""
        answers = self._answers(weight, bias)
        return torch.where(self.samples.outputs > 0, self.samples.outputs, answers.clamp_(max=0))

    def moments(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of targets and inputs, (O, K), with λW⁰ added; and the mean of the targets, (O,)."""
        mean = self.samples.counts @ targets
        cross = (targets - mean).mul_(self._root).T @ self._centred
        return cross + self.damping * self.reference, mean

    def solve(self, cross: Tensor) -> Tensor:
        """The weights with which the quadratic is lowest, were they free: C H⁻¹."""
        return torch.cholesky_solve(cross.T, self._factor).T

    def bias(self, weight: Tensor, mean: Tensor) -> Tensor:
        """The bias with which answers have the mean of the targets."""
        return mean - weight @ self.mean

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """‖relu(W x + b) − relu(y)‖ / ‖relu(y)‖ over some of the samples."""
        part = slice(0, None, _LOOKED_AT)
        wanted, counts = relu(self.samples.outputs[part]), self.samples.counts[part]
        missed = self._answers(weight, bias, part).relu_().sub_(wanted)
        errors, energies = (float((rows.square().sum(1) * counts).sum()) for rows in (missed, wanted))
        return math.sqrt(errors / (energies or 1.0))

    def _answers(self, weight: Tensor, bias: Tensor, part: slice = slice(None)) -> Tensor:
        """W x + b, (N, O), or a part of its rows."""
        return (self._centred[part] @ weight.T).div_(self._root[part]).add_(bias + weight @ self.mean)


def _gram(rows: Tensor) -> Tensor:
    """AᵀA; NumPy knows that it is symmetric, which halves the work."""
    if rows.device.type != "cpu":
        return rows.T @ rows
    array = rows.numpy()
    return torch.from_numpy(array.T @ array)
