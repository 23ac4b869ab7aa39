"""Weights to palettized weights of a rate or a size, coded by rarity; the steps are chosen in `rates`."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from vggquant.codec.palette import PalettizedTensor, dequantize, energies, palettize_at, sqnr_from_energies
from vggquant.errors import OptionError, located
from vggquant.files.weights import Weights
from vggquant.networks.network import layer_of, weight_specs
from vggquant.packing.quantizing import changes_of, file_size
from vggquant.packing.rates import Curve, choose_steps
from vggquant.progress import Progress, ProgressCallback
from vggquant.threads import map_in_threads

T = TypeVar("T")

_TRIES = 10  # of sizes to aim at; two or three are enough, unless the budget is out of reach
_NEAR = 0.995  # of the budget, from where on nothing more is tried
_SHY = 0.998  # of what would meet the budget if sizes grew in proportion


@dataclass(frozen=True)
class Budget:
    """What the weights of a network may take.

    Args:
        size: The largest size of the file, in bytes; or
        rate: coded bits for each weight, on average.
    """

    size: int | None = None
    rate: float | None = None

    def bytes_of(self, weights: Weights) -> float:
        """About how many bytes that is for the weights of a network."""
        if self.rate is not None:
            return self.rate / 8 * sum(spec.size for spec in weight_specs(weights.network))
        assert self.size is not None
        return self.size

    def left(self, weights: Weights) -> float:
        """Bytes that weights, coded, leave of the budget; negative if they exceed it."""
        streams = sum(tensor.codes.stream.size for tensor in weights.palettized.values())
        return self.bytes_of(weights) - (streams if self.size is None else file_size(weights))

    def refused(self, smallest: Weights, reserve: int = 0) -> OptionError:
        """The error that not even the coarsest codes keep to the budget, with bytes kept back for what is added."""
        if self.rate is not None:
            least = rate_of(smallest.palettized.values())
            return OptionError(f"a rate of at least {least:.3f} bits a weight", self.rate, "raise it", tensor="rate")
        least = file_size(smallest) + reserve
        return OptionError(
            f"at least {least} bytes, the size of the coarsest codes", self.size, "raise it", tensor="max_size"
        )


def palettize_to_budget(
    weights: Weights, budget: Budget, jobs: int | None = None, progress: ProgressCallback | None = None
) -> Weights:
    """Palettize the weights of a network so that they keep to a budget and least is lost.

    Args:
        weights: Of any network.
        budget: What they may take.
        jobs: Weights worked on at once, by default one for each processor.
        progress: Called after each of them.

    Raises:
        OptionError: Not even the coarsest codes keep to the budget.
    """
    each = _Each(weights, jobs, progress)
    curves = each("measuring", lambda name: Curve.of(weights.array(name), layer_of(name), calibrated=False))
    aim = budget.bytes_of(weights)
    best: tuple[float, Weights] | None = None
    steps: dict[str, float] = {}
    for _ in range(_TRIES):
        before, steps = steps, choose_steps(curves, aim)
        if steps == before and best is not None:  # nothing finer is left
            break
        found = rated(weights, each("coding", partial(_palettized, weights, steps)))
        left = budget.left(found)
        if left >= 0 and (best is None or left < best[0]):
            best = (left, found)
        if 0 <= left <= (1 - _NEAR) * budget.bytes_of(weights):
            break
        aim *= _SHY * budget.bytes_of(weights) / (budget.bytes_of(weights) - left)
    if best is None:
        raise budget.refused(found)
    return best[1]


def _palettized(weights: Weights, steps: Mapping[str, float], name: str) -> PalettizedTensor:
    return palettize_at(weights.array(name), steps[name])


def rate_of(tensors: Iterable[PalettizedTensor]) -> float:
    """Bits for each weight, once coded."""
    bits, count = 0, 0
    for tensor in tensors:
        bits += 8 * tensor.codes.stream.size
        count += tensor.codes.count
    return bits / count


def rated(weights: Weights, tensors: Mapping[str, PalettizedTensor]) -> Weights:
    """The weights with these in the place of their own, and what was lost."""
    ratios, lost = {}, False
    for name, tensor in tensors.items():
        signal, noise = energies(weights.array(name), dequantize(tensor))
        if noise:
            ratios[name] = round(sqnr_from_energies(signal, noise), 2)
            lost = True
        elif name in weights.sqnr_db:  # what was lost before is all that there is to tell
            ratios[name] = weights.sqnr_db[name]
    plain = {name: array for name, array in weights.plain.items() if name not in tensors}
    done = f"palettized to {rate_of(tensors.values()):.2f} bits, once coded (entropy-constrained k-means)"
    changes = changes_of(weights, done if lost else None)
    return replace(
        weights,
        palettized=tensors,
        plain=plain,
        provenance=replace(weights.provenance, changes=changes),
        sqnr_db=ratios,
    )


@dataclass(frozen=True, eq=False)
class _Each:
    """Calls a function for each weight of a network, several at once, and tells of progress."""

    weights: Weights
    jobs: int | None
    progress: ProgressCallback | None

    def __call__(self, what: str, function: Callable[[str], T]) -> dict[str, T]:
        started, count = time.monotonic(), itertools.count(1)
        specs = sorted(weight_specs(self.weights.network), key=lambda spec: -spec.size)  # none is left over at the end

        def work(name: str) -> T:
            with located(tensor=layer_of(name)):
                return function(name)

        def done(name: str) -> None:
            if self.progress is not None:
                elapsed = time.monotonic() - started
                self.progress(Progress("pack", next(count), len(specs), elapsed, f"{what} {layer_of(name)}"))

        names = [spec.name for spec in specs]
        found = dict(zip(names, map_in_threads(work, names, self.jobs or os.cpu_count() or 1, done), strict=True))
        return {spec.name: found[spec.name] for spec in weight_specs(self.weights.network)}
