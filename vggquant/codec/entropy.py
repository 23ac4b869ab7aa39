"""Codebooks for codes that cost what their rarity does: entropy-constrained k-means, on a line.

Where every code costs as much as any other, k-means finds the best codebook. Where a code costs about the logarithm of
its rarity, as `huffman` makes it, the best codebook is nearly a uniform grid: many rare centroids, which few weights
pay for. From such a grid, three steps alternate: a value goes to the centroid at which squared error + λ · bits is
least, centroids move to the mean of their values, and bits follow from how many values a centroid has. λ belongs to
the step of the grid: it is what another bit a value saves on a fine grid.

What the values are, and which of them gets which code, is left to `palette`.

Source: P. Chou, T. Lookabaugh, R. Gray, "Entropy-constrained vector quantization", IEEE Trans. ASSP 37 (1989).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vggquant.codec.kmeans import Doubles, Floats, Indices, Line

MAX_CENTROIDS = 256  # what a code can point to
_SLOPE = math.log(2) / 6  # λ in squares of the step: a bit less quadruples the error of a grid, which is step² / 12
_MOST_CELLS = 1024  # to begin with: many more than there can be centroids would only be merged again
_ROUNDS = 50  # far more than are needed from so near the end


@dataclass(frozen=True, eq=False)
class Constrained:
    """A codebook, and what it would take.

    Args:
        codebook: float32, strictly ascending; every centroid is used.
        thresholds: float64, ascending; the values above the i-th of them, and not above the next, get code i + 1.
        noise: Squared error of all values.
        bits: Entropy of all codes.
    """

    codebook: Floats
    thresholds: Doubles
    noise: float
    bits: float

    def codes(self, values: Floats) -> npt.NDArray[np.uint8]:
        """The code of each value."""
        return np.searchsorted(self.thresholds, values, side="left").astype(np.uint8)


def constrain(values: Floats, steps: Sequence[float], *, settle: bool = True) -> list[Constrained]:
    """Find a codebook for each step of a grid: the larger the step, the fewer bits and the more noise.

    Args:
        values: float32, finite, any shape, not empty.
        steps: Positive.
        settle: Whether to go on from the grid, or only to put its centroids into the midst of their values.

    Returns:
        In the same order. Where a grid tells all values apart, and they fit a codebook, nothing is lost.
    """
    distinct, counts = np.unique(values, return_counts=True)
    line = Line.of(distinct, counts)
    squares = np.concatenate(([0.0], np.cumsum(counts * line.values**2)))
    return [_constrain(distinct.astype(np.float64), line, squares, step, _ROUNDS if settle else 0) for step in steps]


def _constrain(distinct: Doubles, line: Line, squares: Doubles, step: float, rounds: int) -> Constrained:
    grid = step
    while (bounds := _cells(distinct, grid)).size - 1 > _MOST_CELLS:
        grid *= 2
    while bounds.size - 1 > MAX_CENTROIDS:
        bounds = _merged(line, bounds)
    for _ in range(rounds if bounds.size - 1 < distinct.size else 0):
        moved = _moved(line, bounds, step)
        if np.array_equal(moved, bounds):
            break
        bounds = moved
    mass, moment = np.diff(line.mass[bounds]), np.diff(line.moment[bounds])
    # clipped, because rounding can carry a centroid out of its own cluster
    codebook = np.clip(moment / mass + line.centre, distinct[bounds[:-1]], distinct[bounds[1:] - 1])
    inner = bounds[1:-1]
    error = np.diff(squares[bounds]) - moment**2 / mass
    # rounding errors of sums, where clusters are of one value each
    noise = float(error[np.diff(bounds) > 1].sum())
    bits = float((mass * -np.log2(mass / line.mass[-1])).sum())
    thresholds = (distinct[inner - 1] + distinct[inner]) / 2
    return Constrained(codebook.astype(np.float32), thresholds, max(noise, 0.0), bits)


def _cells(distinct: Doubles, step: float) -> Indices:
    """Boundaries between values that round to one place of a grid and those that round to the next."""
    return np.concatenate(([0], np.flatnonzero(np.diff(np.rint(distinct / step))) + 1, [distinct.size]))


def _moved(line: Line, bounds: Indices, step: float) -> Indices:
    """Boundaries at which a value may as well go to either side."""
    mass = np.diff(line.mass[bounds])
    means, lengths = np.diff(line.moment[bounds]) / mass, -np.log2(mass / line.mass[-1])
    shift = _SLOPE * step**2 * np.diff(lengths) / (2 * np.diff(means))
    places = np.maximum.accumulate((means[:-1] + means[1:]) / 2 + shift)
    inner = np.searchsorted(line.values, places, side="right")
    return np.unique(np.concatenate(([0], inner, [line.values.size])))


def _merged(line: Line, bounds: Indices) -> Indices:
    """Too many clusters, less some of those whose merging with the next costs least; no two that are neighbours."""
    mass, moment = np.diff(line.mass[bounds]), np.diff(line.moment[bounds])
    costs = mass[:-1] * mass[1:] / (mass[:-1] + mass[1:]) * np.diff(moment / mass) ** 2
    excess = bounds.size - 1 - MAX_CENTROIDS
    chosen = np.sort(costs.argsort(kind="stable")[:excess])
    apart = chosen[np.concatenate(([True], np.diff(chosen) > 1))]
    return np.delete(bounds, apart + 1)
