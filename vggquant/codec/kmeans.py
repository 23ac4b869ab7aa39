"""Finds the best codebook for some values by one-dimensional k-means, at any size and in bounded memory.

On a line, k-means only has to choose where, among the sorted values, one cluster ends and the next begins. Dynamic
programming over all possible boundaries finds the optimum. When there are too many values for that, the boundaries are
first chosen among a few thousand candidates. Dynamic programming then moves each boundary within a window around its
place, in ever finer steps.

How near to the optimum does that come? `python -m bench.quantize` compares it with kmeans1d, which is exact. The
squared error was at most 9.3·10⁻⁶ above the optimum, in relative terms, at 2,359,296 values and 8 bits; it was
less than 10⁻⁶ above it in all other cases, of 589,824 values at most (bench/README.md). The values measured there have
the distribution of VGG-19's layers but are not trained weights: the embedded weights, at most 256 distinct values a
layer, were spread at random to make them continuous.

What the values are, and which of them gets which code, is left to `palette`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

MAX_EXACT = 4096  # distinct values up to which every boundary is a candidate; takes half a second at k = 256
MAX_KMEANS1D = 10**6  # k·n up to which kmeans1d, which is exact as well, takes about 0.2 s and 16 MB
CANDIDATES = 2048  # boundaries to choose from at first; twice as many take longer and end at the same optimum
TAIL = 1000  # outermost values at either end that are all candidates, because clusters hold only a few values there
WINDOWS = (3.0, 1.5, 0.75, 0.375, 0.1875)  # how far boundaries may move in each later round, in clusters
WINDOW_STEPS = 96  # places to try on either side of a boundary within its window
LLOYD_STEPS = 200  # far more than are ever needed from so near the optimum
_RADIX = 8  # how many parts each gap between settled boundaries is divided into; 4 to 16 are equally fast


@dataclass(frozen=True, eq=False)
class Line:
    """Sorted distinct values with running sums, from which the cost of any cluster is computed in constant time.

    Replacing the values i … j−1 by their mean rather than by zero lowers the squared error by
    (moment[j] − moment[i])² / (mass[j] − mass[i]). k-means maximises the sum of these gains.

    Args:
        values: float64, ascending, minus `centre`.
        mass: For each boundary, from before the first value to after the last: how many of the original values lie
            below it, repetitions counted.
        moment: For each boundary, the sum of those values, each minus `centre`.
        centre: Median of the original values. Sums around it lose the fewest digits, whatever the outliers.
    """

    values: Doubles
    mass: Doubles
    moment: Doubles
    centre: float

    @classmethod
    def of(cls, distinct: Floats, counts: Indices) -> Line:
        """The line of values in ascending order, and how often each occurs."""
        x = distinct.astype(np.float64)
        mass = np.concatenate(([0.0], np.cumsum(counts, dtype=np.float64)))
        centre = float(x[np.searchsorted(mass, mass[-1] / 2) - 1])
        x -= centre
        return cls(x, mass, np.concatenate(([0.0], np.cumsum(x * counts))), centre)

    def at(self, candidates: Indices) -> Line:
        """The same line, with these places as the only possible boundaries."""
        return Line(self.values, self.mass[candidates], self.moment[candidates], self.centre)

    def gains(self, bounds: Indices) -> Doubles:
        """How much each of the clusters between these boundaries lowers the squared error."""
        return _cluster_gains(np.diff(self.mass[bounds]), np.diff(self.moment[bounds]))


def fit_codebook(values: Floats, k: int) -> Floats:
    """Find the centroids that minimise the sum of squared errors.

    If there are at most `k` distinct values, they are the codebook, and the error is zero. Up to `MAX_EXACT` distinct
    values, or where kmeans1d is quick enough to be asked (`MAX_KMEANS1D`), the codebook is optimal except for
    rounding. Beyond that, its squared error was at most 9.3·10⁻⁶ above the optimum on continuous values made from the
    embedded weights (see above), and less than 10⁻³ above it on every distribution that the tests try, one with an
    outlier at 10⁸ standard deviations included.

    Args:
        values: float32, finite, any shape, not empty.
        k: Largest number of centroids, at least 1.

    Returns:
        float32, strictly ascending, at most `k` long. Each centroid is the nearest one to some value.

    Source:
        H. Wang, M. Song, "Ckmeans.1d.dp", The R Journal 3/2 (2011); A. Grønlund et al., "Fast exact
        k-means in 1D", arXiv:1701.07204. Candidates are spaced by density as in P. Panter, W. Dite,
        "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", Proc. IRE 39 (1951).
    """
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size <= k:
        return distinct
    if distinct.size > MAX_EXACT and k * values.size <= MAX_KMEANS1D:
        import kmeans1d

        return np.unique(np.asarray(kmeans1d.cluster(values.ravel(), k).centroids, np.float32))
    line = Line.of(distinct, counts)
    bounds = _choose(line, k) if distinct.size <= MAX_EXACT else _approach(line, k)
    centroids = np.diff(line.moment[bounds]) / np.diff(line.mass[bounds]) + line.centre
    # clipped, because rounding can carry a centroid out of its own cluster
    inside: Floats = np.clip(centroids.astype(np.float32), distinct[bounds[:-1]], distinct[bounds[1:] - 1])
    return inside


def _approach(line: Line, k: int) -> Indices:
    """Choose boundaries among many values: first from candidates, then within windows."""
    candidates = _candidates(line, k)
    bounds = _settle(line, candidates[_choose(line.at(candidates), k)])
    for width in WINDOWS if k > 1 else ():
        moved = _settle(line, _move(line, bounds, width))
        if (line.gains(moved) - line.gains(bounds)).sum() > 0:
            bounds = moved
    return bounds


def _candidates(line: Line, k: int) -> Indices:
    """Pick the boundaries to choose from at first.

    Most are spaced by the cube root of the values' density, as the boundaries of many clusters are. In the tails,
    all are candidates. Some more are spaced by mass alone, because a far outlier would otherwise draw nearly all of
    them away from the rest.
    """
    m = line.values.size
    knots = np.unique(np.linspace(0, m - 1, 2 * CANDIDATES).astype(np.int64))
    # each step is density^(1/3) · width, and density is mass / width
    steps = np.diff(line.values[knots]) ** (2 / 3) * np.diff(line.mass[knots]) ** (1 / 3)
    measure = np.concatenate(([0.0], np.cumsum(steps)))
    places = np.interp(np.linspace(0, measure[-1], max(CANDIDATES, 4 * k)), measure, line.values[knots])
    tails = np.arange(TAIL + 1)
    chosen: Indices = np.unique(np.concatenate([np.searchsorted(line.values, places), knots[::8], tails, m - tails]))
    return chosen


def _settle(line: Line, bounds: Indices) -> Indices:
    """Move each boundary halfway between the means of its two clusters until none moves (Lloyd's algorithm)."""
    for _ in range(LLOYD_STEPS):
        means = np.diff(line.moment[bounds]) / np.diff(line.mass[bounds])
        moved = bounds.copy()
        moved[1:-1] = np.searchsorted(line.values, (means[1:] + means[:-1]) / 2, side="right")
        if np.array_equal(moved, bounds) or not (np.diff(moved) > 0).all():
            break
        bounds = moved
    return bounds


def _choose(line: Line, k: int) -> Indices:
    """Find the boundaries of the best k clusters among all places of a line, by dynamic programming."""
    m = line.mass.size - 1
    gain = np.full(m + 1, -np.inf)
    gain[1:] = line.moment[1:] ** 2 / line.mass[1:]
    splits = np.zeros((k, m + 1), np.int32)
    for clusters in range(1, k):
        gain, splits[clusters] = _add_cluster(line, gain, clusters)
    bounds = [m]
    for clusters in range(k - 1, 0, -1):
        bounds.append(int(splits[clusters, bounds[-1]]))
    return np.array([0, *reversed(bounds)])


def _add_cluster(line: Line, gain: Doubles, clusters: int) -> tuple[Doubles, npt.NDArray[np.int32]]:
    """Find the best gains of one cluster more, given those of `clusters` clusters over the first j values.

    The best last boundary never moves left as j grows. Once it is settled for a few evenly spaced j, it is therefore
    confined to a range for all the j between them; every such level is evaluated at once.

    Returns:
        ``(gain, split)``: float64 and int32, m+1 long. In the best solution over the first j values, the last
        cluster begins at ``split[j]``.
    """
    m = gain.size - 1
    first = clusters + 1  # with fewer values than clusters there is no solution
    best = np.full(m + 1, -np.inf)
    split = np.zeros(m + 1, np.int32)
    # the settled j, with a sentinel at either end, and the ranges that they leave to the others
    settled = np.array([first - 1, m + 1])
    lower, upper = np.array([clusters, clusters]), np.array([clusters, m])
    step = m + 1 - first
    while True:
        step = -(-step // _RADIX)
        js = np.arange(first + step - 1, m + 1, step)
        js = js[best[js] == -np.inf]
        if js.size:
            slot = np.searchsorted(settled, js)
            low = lower[slot - 1]
            lengths = np.minimum(upper[slot], js - 1) - low + 1
            starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
            i = np.arange(lengths.sum()) + np.repeat(low - starts, lengths)
            value = line.moment[i]
            value -= np.repeat(line.moment[js], lengths)
            value *= value
            value /= np.repeat(line.mass[js], lengths) - line.mass[i]
            value += gain[i]
            best[js] = np.maximum.reduceat(value, starts)
            hits = np.flatnonzero(value == np.repeat(best[js], lengths))
            split[js] = i[hits[np.searchsorted(hits, starts)]]
        if step == 1:
            return best, split
        settled = np.concatenate(([first - 1], np.flatnonzero(best > -np.inf), [m + 1]))
        # made monotone, because rounding would otherwise confine the others wrongly
        inner = split[settled[1:-1]]
        lower = np.concatenate(([clusters], np.minimum.accumulate(inner[::-1])[::-1], [m]))
        upper = np.concatenate(([clusters], np.maximum.accumulate(inner), [m]))


def _move(line: Line, bounds: Indices, width: float) -> Indices:
    """Find the best boundaries within windows around the present ones, by dynamic programming.

    Args:
        line: All values.
        bounds: int64, k+1 long, from 0 to the number of values.
        width: How far a boundary may move to either side, in clusters of the present solution.
    """
    k = bounds.size - 1
    offsets = np.arange(-WINDOW_STEPS, WINDOW_STEPS + 1) * (width / WINDOW_STEPS)
    places = np.arange(1, k)[:, None] + offsets
    candidates = np.rint(np.interp(places, np.arange(k + 1), bounds)).astype(np.int64)
    mass, moment = line.mass[candidates], line.moment[candidates]
    present = line.gains(bounds)  # only changes from these are added up: a far outlier's gain would drown the others
    gain = _cluster_gains(mass[0], moment[0]) - present[0]
    came_from = np.zeros((k, offsets.size), np.int64)
    for boundary in range(1, k - 1):
        total = _cluster_gains(
            mass[boundary] - mass[boundary - 1, :, None], moment[boundary] - moment[boundary - 1, :, None]
        )
        total += gain[:, None] - present[boundary]
        came_from[boundary] = total.argmax(0)
        gain = total[came_from[boundary], np.arange(offsets.size)]
    last = _cluster_gains(line.mass[-1] - mass[-1], line.moment[-1] - moment[-1]) - present[-1] + gain
    chosen = int(last.argmax())
    moved: Indices = bounds.copy()
    for boundary in range(k - 2, -1, -1):
        moved[boundary + 1] = candidates[boundary, chosen]
        chosen = int(came_from[boundary, chosen])
    return moved


def _cluster_gains(mass: Doubles, moment: Doubles) -> Doubles:
    """moment² / mass, or −∞ for an empty cluster, which rules it out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mass > 0, moment * moment / mass, -np.inf)
