"""Calibrated palettization of a VGG: codes chosen by what they do to the features of pictures.

From front to back, each convolution is given the inputs that the packed network produces and learns to answer as the
reference does; so it makes up for the errors of those before it. `moments` states the problem of one convolution and
`goals` solves it for a width or a rate; where the pictures come from is left to `calibration_pictures`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from vggquant.codec.bitstream import MAX_BITS
from vggquant.codec.palette import PalettizedTensor, dequantize, energies, sqnr_from_energies
from vggquant.errors import located
from vggquant.files.weights import Floats, Weights
from vggquant.models.preprocessing import Preparation
from vggquant.networks.vgg import Convolution, Preprocessing, require_vgg
from vggquant.packing.goals import Goal
from vggquant.packing.moments import Problem, sample
from vggquant.packing.rated import rate_of
from vggquant.packing.widths import Bits, parse_bits
from vggquant.progress import Progress, ProgressCallback

SMALL_LAYERS = ("conv1_1", "conv1_2")  # with 0.2 % of all weights; every error of theirs goes through all others
POSITIONS, LEAST_POSITIONS = 6, 20_000  # sampled for a convolution: so many times its inputs K, or as many as this
FEW = 2  # times K; with fewer positions, weights fit these pictures rather than what pictures have in common
SEED = 0  # of the positions
TELLING = 0.02  # share of the work that must be done before the time left is estimated


def calibrated_widths(bits: Bits, layers: tuple[str, ...]) -> dict[str, int]:
    """The width of each layer, see `parse_bits`; but where one is given for all, `SMALL_LAYERS` get 8 bits."""
    widths = parse_bits(bits, layers)
    single = not isinstance(bits, Mapping) and "=" not in str(bits)
    return {layer: MAX_BITS if single and layer in SMALL_LAYERS else width for layer, width in widths.items()}


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Weights calibrated on pictures.

    Args:
        weights: Palettized, with biases of their own.
        done: What was done to weights that have lost something; ``None`` if none has.
        notes: Sentences on what would have helped.
    """

    weights: Weights
    done: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution as the file will hold it.

    Args:
        tensor: Codes, codebook and scales.
        weight: What they restore to, OIHW.
        bias: (O,).
        detail: What was gained, for a report on progress.
    """

    tensor: PalettizedTensor
    weight: Floats
    bias: Floats
    detail: str = ""


def calibrate(
    weights: Weights,
    goal: Goal,
    pictures: Sequence[Tensor],
    progress: ProgressCallback | None = None,
) -> Calibrated:
    """Palettize the weights of a VGG so that its features are preserved, rather than the weights themselves.

    Args:
        weights: Of a VGG.
        goal: What its layers are palettized to.
        pictures: One or more, each (1, 3, H, W), RGB in [0, 1], large enough for the network.
        progress: Called after each layer, with its error before and after, unless it has none.

    Raises:
        NetworkError: The network is no VGG.
        SourceError: Activations overflow.
    """
    network = require_vgg(weights.network, "leave out `calibrate`")
    activations = Activations(pictures, network.preprocessing)
    work = [_work(convolution, pictures) for convolution in network.convolutions]
    started = time.monotonic()
    palettized, plain, ratios, lossy = {}, {}, {}, []
    for done, convolution in enumerate(network.convolutions, start=1):
        name = convolution.name
        # copies, because torch takes no arrays that cannot be written to
        weight, bias = (np.array(weights.array(f"{name}.{part}")) for part in ("weight", "bias"))
        kept = weights.palettized.get(f"{name}.weight")
        with located(tensor=name), torch.no_grad():
            layer = _calibrated(name, weight, bias, kept, goal, activations)
            following = network.convolutions[done:]
            if following:
                activations.pass_on((weight, bias), (layer.weight, layer.bias), following[0].block > convolution.block)
        palettized[f"{name}.weight"], plain[f"{name}.bias"] = layer.tensor, layer.bias
        signal, noise = energies(weight, layer.weight)
        if noise:
            ratios[f"{name}.weight"] = round(sqnr_from_energies(signal, noise), 2)
            lossy.append(layer.tensor)
        elif f"{name}.weight" in weights.sqnr_db:  # what was lost before is all that there is to tell
            ratios[f"{name}.weight"] = weights.sqnr_db[f"{name}.weight"]
        if progress is not None:
            elapsed, share = time.monotonic() - started, sum(work[:done]) / sum(work)
            left = elapsed * (1 - share) / share if share > TELLING else None
            detail = f"{name}, {rate_of([layer.tensor]):.3g} bits{layer.detail}"
            progress(Progress("calibrate", done, len(work), elapsed, detail, left=left, even=False))
    found = replace(weights, palettized=palettized, plain=plain, sqnr_db=ratios)
    return Calibrated(found, goal.done(lossy) if lossy else None, activations.notes())


def _work(convolution: Convolution, pictures: Sequence[Tensor]) -> float:
    """About how many multiplications a convolution takes, as far as they tell convolutions apart."""
    inputs, outputs = convolution.size // convolution.out_channels, convolution.out_channels
    pixels: float = sum(picture[0, 0].numel() for picture in pictures) * 0.25 ** (convolution.block - 1)
    positions = min(pixels, max(POSITIONS * inputs, LEAST_POSITIONS))
    return 2.0 * pixels * inputs * outputs + positions * inputs * (inputs / 2 + 5 * outputs) + 10 * inputs**2 * outputs


def _calibrated(
    name: str, weight: Floats, bias: Floats, kept: PalettizedTensor | None, goal: Goal, activations: Activations
) -> _Layer:
    """Palettize one convolution to a goal by calibration, unless it does as well palettized plainly."""
    problem: Problem | None = None
    while True:
        plainly = goal.plainly(name, weight, kept)
        layer = _Layer(plainly, dequantize(plainly), bias)
        if not np.array_equal(layer.weight, weight) or not activations.exact:
            reference = torch.from_numpy(weight).flatten(1).to(activations.device)
            problem = problem or activations.problem(name, reference, torch.from_numpy(bias).to(reference))
            before = problem.error(torch.from_numpy(layer.weight).flatten(1).to(reference), problem.reference_bias)
            tensor, found_bias = goal.solve(problem, plainly)
            found = dequantize(tensor)
            after = problem.error(torch.from_numpy(found).flatten(1).to(reference), found_bias)
            if after < before:
                layer = _Layer(tensor, found, found_bias.cpu().numpy(), f", error {before:.3f} → {after:.3f}")
            else:
                layer = replace(layer, detail=f", error {before:.3f}, palettized plainly")
        if goal.settle(name, layer.tensor):
            return layer


class Activations:
    """What pictures have become on their way through the reference and through the packed network.

    Args:
        pictures: Each (1, 3, H, W), RGB in [0, 1].
        preprocessing: What the network expects.
    """

    def __init__(self, pictures: Sequence[Tensor], preprocessing: Preprocessing) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._needed: dict[str, int] = {}  # pictures that would be enough for a layer, where there are too few
        prepare = Preparation(preprocessing, torch.device("cpu"), torch.float32)
        self._expected = [prepare(picture) for picture in pictures]  # here, where there is more memory
        self._found = self._expected  # for as long as nothing is lost
        self._generator = np.random.default_rng(SEED)

    @property
    def exact(self) -> bool:
        """Whether nothing was lost before the convolution that comes next."""
        return self._found is self._expected

    def problem(self, name: str, weight: Tensor, bias: Tensor) -> Problem:
        """The problem of the convolution that comes next, of these weights (O, K) and biases (O,)."""
        inputs = weight.shape[1]
        wanted = max(POSITIONS * inputs, LEAST_POSITIONS)
        samples = sample(self._expected, self._found, weight, bias, wanted, self._generator)
        there = len(samples.inputs)
        if there < FEW * inputs:
            self._needed[name] = math.ceil(len(self._expected) * FEW * inputs / there)
        return Problem(samples, weight, bias)

    def notes(self) -> tuple[str, ...]:
        """What would have helped."""
        if not self._needed:
            return ()
        layers, enough = ", ".join(self._needed), max(self._needed.values())
        return (f"{layers}: calibrated on too few positions; {enough} pictures of this size would give enough",)

    def pass_on(self, reference: tuple[Floats, Floats], packed: tuple[Floats, Floats], pool: bool) -> None:
        """Take all pictures through a convolution, its relu and, if there is one, the pool behind it."""
        same = self.exact and all(map(np.array_equal, reference, packed))
        self._expected = self._through(self._expected, *reference, pool)
        self._found = self._expected if same else self._through(self._found, *packed, pool)

    def _through(self, pictures: Sequence[Tensor], weight: Floats, bias: Floats, pool: bool) -> list[Tensor]:
        kernel, added = (torch.from_numpy(array).to(self.device) for array in (weight, bias))
        shapes = [(1, len(bias), *(side // (2 if pool else 1) for side in picture.shape[2:])) for picture in pictures]
        sizes = [math.prod(shape) for shape in shapes]
        # one piece of memory, which is given back as a whole; glibc would leave a hole beside each of many
        pieces = torch.split(torch.empty(sum(sizes), dtype=torch.float32, device="cpu"), sizes)
        results = [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        # on CUDA, torch would round to TF32 and choose among algorithms by itself
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for picture, result in zip(pictures, results, strict=True):
                x = conv2d(picture.to(self.device), kernel, added, padding=1).relu_()
                result.copy_(max_pool2d(x, 2) if pool else x)
        return results
