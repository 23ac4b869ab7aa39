"""Steps for a rate or a size: how fine the grid of each weight is, so that least is lost in a given number of bytes.

On a fine grid, half the step takes a bit more and loses a quarter. So least is lost where a bit more would gain as
much in one weight as in any other. How much style transfer sees of the noise of each layer of a VGG stands in a table,
for which see `budget` too. Finding codes for a step is left to the codec and to `goals`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggquant.codec.entropy import constrain
from vggquant.files.weights import Floats

Doubles = npt.NDArray[np.float64]

# Visible loss for each unit of noise of a fine grid, of plain and of calibrated weights. `python -m bench.sensitivity
# --fine` computes it from the measurements behind the tables of `budget`, at 4 to 6 bits, with these weights: content
# 1, style 4 and features 0.05, with which content and style errors keep the proportion that other codecs have.
FINE: Mapping[str, tuple[float, float]] = {
    "conv1_1": (3, 0.085),
    "conv1_2": (0.25, 0.00064),
    "conv2_1": (1.2, 0.0031),
    "conv2_2": (0.52, 0.0035),
    "conv3_1": (0.6, 0.0065),
    "conv3_2": (0.22, 0.0025),
    "conv3_3": (0.05, 0.00065),
    "conv3_4": (0.095, 0.00033),
    "conv4_1": (0.31, 0.0017),
    "conv4_2": (0.27, 0.01),
    "conv4_3": (0.061, 0.0007),
    "conv4_4": (0.065, 0.0025),
    "conv5_1": (0.17, 0.0084),
    "conv5_2": (0.0096, 0.0016),
    "conv5_3": (0.0047, 0.001),
    "conv5_4": (0.0025, 0.00065),
}

_STEPS = 2.0 ** np.arange(-10, 4.01, 0.25)  # measured, in root mean squares of a weight
_FINER = 8  # parts that each gap between them is divided into, by interpolation
_LEAST = 1 / 8  # bits that huffman spends on a weight in any case: eight can share a byte, which takes a bit
_HALVINGS = 60  # of an interval of slopes


@dataclass(frozen=True, eq=False)
class Curve:
    """What a weight takes and loses at steps from fine to coarse.

    Args:
        steps: Ascending.
        bytes: Of codes and codebook, expected.
        loss: Visible loss.
    """

    steps: Doubles
    bytes: Doubles
    loss: Doubles

    @classmethod
    def of(cls, weight: Floats, layer: str, *, calibrated: bool) -> Curve:
        """Measure the curve of a weight.

        Args:
            weight: float32.
            layer: Whose table is taken. To plain weights, what the table says is added to the noise itself, so that
                all layers stay usable; where nothing was measured, all count alike.
            calibrated: Whether it is to be calibrated, which the layers of a VGG can be.
        """
        energy = float(np.square(weight, dtype=np.float64).sum()) or 1.0
        steps = _STEPS * (energy / weight.size) ** 0.5
        if calibrated:
            # weights are rounded to an even grid, after they have taken up the errors of others
            noise = _STEPS**2 / 12
            found = constrain(weight, steps / np.sqrt(1 + noise), settle=False)
            loss = FINE[layer][1] * noise
        else:
            found = constrain(weight, steps)
            loss = (1 + FINE.get(layer, (0.0, 0.0))[0]) * np.array([one.noise for one in found]) / energy
        least = _LEAST * weight.size
        sizes = np.array([math.hypot(one.bits, least) / 8 + one.codebook.nbytes for one in found])
        return cls(*_interpolated(steps, sizes, loss))

    def step_for(self, size: float) -> float:
        """The finest step that is expected to take at most so many bytes, or the coarsest."""
        fits = self.bytes <= size
        return float(self.steps[fits.argmax() if fits.any() else -1])

    def bytes_at(self, step: float) -> float:
        """The bytes expected at a step, as at the nearest one that was measured and is no finer."""
        return float(self.bytes[min(int(np.searchsorted(self.steps, step)), self.steps.size - 1)])


def _interpolated(steps: Doubles, sizes: Doubles, loss: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """The same at finer intervals, steps and losses by their logarithms."""
    places = np.arange(len(steps))
    finer = np.linspace(0, len(steps) - 1, _FINER * (len(steps) - 1) + 1)
    lossless = np.interp(finer, places, loss > 0) == 0
    least = loss[loss > 0].min(initial=np.inf)
    logs = np.interp(finer, places, np.log(np.maximum(loss, least)))
    return (
        np.exp(np.interp(finer, places, np.log(steps))),
        # where nothing is lost, all take the same, and the finest is surest
        np.where(lossless, sizes[0], np.interp(finer, places, sizes)),
        np.where(lossless, 0.0, np.exp(logs)),
    )


def choose_steps(curves: Mapping[str, Curve], budget: float) -> dict[str, float]:
    """Choose a step for each weight so that the visible loss is smallest within a budget.

    Args:
        curves: Of each weight, by name.
        budget: Bytes for all together; the coarsest steps are chosen if even these take more.
    """

    def at(slope: float) -> dict[str, int]:
        return {name: int((curve.loss + slope * curve.bytes).argmin()) for name, curve in curves.items()}

    def size(places: Mapping[str, int]) -> float:
        return sum(float(curves[name].bytes[place]) for name, place in places.items())

    flat, steep = 1e-20, 1e6  # visible loss for a byte: whatever there is to gain, and nothing but bytes
    if size(at(flat)) <= budget:
        steep = flat
    for _ in range(_HALVINGS):
        middle = (flat * steep) ** 0.5
        flat, steep = (middle, steep) if size(at(middle)) > budget else (flat, middle)
    return {name: float(curves[name].steps[place]) for name, place in at(steep).items()}
