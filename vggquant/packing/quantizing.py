"""Weights to palettized weights of given widths, or of widths that fit a size; files are left to `packer`."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vggquant.codec.bitstream import MAX_BITS, MIN_BITS, Coding, planes_size
from vggquant.codec.palette import (
    PalettizedTensor,
    dequantize,
    energies,
    palettize,
    palettize_together,
    recoded,
    sqnr_from_energies,
)
from vggquant.errors import located
from vggquant.files.container import shares_codebooks, to_bytes
from vggquant.files.weights import Floats, Weights
from vggquant.networks.network import Network, TensorSpec, layer_of, weight_specs
from vggquant.networks.vgg import as_vgg, require_vgg
from vggquant.packing.budget import Choice, choose_widths, visible_loss
from vggquant.progress import Progress, ProgressCallback
from vggquant.threads import map_in_threads

OWN_CODEBOOK = 1 / 8  # of the bytes of its codes: a weight whose codebook would take more shares one, where it can
SHARED_NOISE = 4.0  # times the noise with a codebook of its own, about a bit's worth: what sharing may cost a weight,
UNHEARD = 1e-4  # or this share of its energy, 40 dB, if that is more
SCALE_ENTRY, CALIBRATED_ON = 160, 400  # bytes at most, of what a header says of a layer's scales and of the pictures


@dataclass(frozen=True, eq=False)
class Candidate:
    """A weight at some width.

    Args:
        tensor: Its codes and codebook.
        noise: Squared error relative to the weight's own square sum.
        sqnr_db: What is known to have been lost until now, in dB; ``None`` for nothing.
        shared: Whether the codebook was fitted to other weights too.
    """

    tensor: PalettizedTensor
    noise: float
    sqnr_db: float | None
    shared: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the file that are its own: a shared codebook is nobody's."""
        parts = [self.tensor.codes.stream, None if self.shared else self.tensor.codebook, self.tensor.scale]
        return sum(part.nbytes for part in parts if part is not None)


Candidates = Mapping[str, Mapping[int, Candidate]]  # by the weight's name and the width


@dataclass(frozen=True)
class Quantizer:
    """How weights are palettized.

    Args:
        coding: ``planes`` or ``huffman``.
        jobs: Groups of weights worked on at once.
        progress: Called after each of them.
    """

    coding: Coding = "planes"
    jobs: int | None = None
    progress: ProgressCallback | None = None

    def to_widths(self, weights: Weights, widths: Mapping[str, int]) -> Weights:
        """Palettize the weights of a network to a width for each layer.

        Weights that are palettized at their width already are copied, not quantized again.
        """
        wanted = {spec.name: (widths[spec.layer],) for spec in weight_specs(weights.network)}
        return _assemble(weights, self._candidates(weights, wanted), widths)

    def to_size(self, weights: Weights, size: int) -> Weights:
        """Palettize the weights of a network so that their file takes at most `size` bytes and least is lost.

        Raises:
            OptionError: Even a bit a weight takes more.
        """
        candidates = self._candidates(weights, _all_widths(weights))
        return _assemble(weights, candidates, _fit(weights, candidates, size))

    def widths_to_calibrate(self, weights: Weights, size: int) -> dict[str, int]:
        """Choose widths with which the file of a VGG takes at most `size` bytes after calibration, see `to_size`.

        Raises:
            OptionError: Even a bit a weight takes more.
        """
        require_vgg(weights.network, "leave out `calibrate`")
        outputs = [spec.shape[0] for spec in weight_specs(weights.network)]
        added = sum(4 * count + SCALE_ENTRY for count in outputs) + CALIBRATED_ON
        planes = replace(self, coding="planes")  # which the other coding never exceeds
        return _fit(weights, planes._candidates(weights, _all_widths(weights)), size, added, calibrated=True)

    def _candidates(self, weights: Weights, wanted: Mapping[str, Sequence[int]]) -> Candidates:
        """Palettize each weight at each width wanted, several at once."""
        started = time.monotonic()
        groups = _groups(weights, wanted)
        count = itertools.count(1)

        def work(group: tuple[tuple[str, ...], int]) -> dict[str, Candidate]:
            return _palettize_group(weights, *group, self.coding)

        def done(group: tuple[tuple[str, ...], int]) -> None:
            if self.progress is not None:
                names, bits = group
                layer = layer_of(names[0]) if len(names) == 1 else f"{len(names)} layers"
                elapsed = time.monotonic() - started
                self.progress(Progress("pack", next(count), len(groups), elapsed, f"{layer}, {bits} bits"))

        found = map_in_threads(work, groups, self.jobs or os.cpu_count() or 1, done)
        candidates: dict[str, dict[int, Candidate]] = {name: {} for name in wanted}
        for (_, bits), group in zip(groups, found, strict=True):
            for name, candidate in group.items():
                candidates[name][bits] = candidate
        return candidates


def _all_widths(weights: Weights) -> dict[str, Sequence[int]]:
    return {spec.name: tuple(range(MIN_BITS, MAX_BITS + 1)) for spec in weight_specs(weights.network)}


def file_size(weights: Weights) -> int:
    """Bytes of the packed file that holds these weights."""
    header, chunks = to_bytes(weights)
    return len(header) + sum(chunk.size for chunk in chunks)


def _groups(weights: Weights, wanted: Mapping[str, Sequence[int]]) -> list[tuple[tuple[str, ...], int]]:
    """Weights that get one codebook between them, at each width; the largest group first, so that none is left over."""
    specs = [spec for spec in weight_specs(weights.network) if spec.name in wanted]
    shared: dict[int, list[TensorSpec]] = {}
    groups: list[tuple[tuple[TensorSpec, ...], int]] = []
    for spec in specs:
        for bits in wanted[spec.name]:
            if shares_codebooks(weights.network) and _is_small(spec, bits):
                shared.setdefault(bits, []).append(spec)
            else:
                groups.append(((spec,), bits))
    groups += [(tuple(members), bits) for bits, members in shared.items()]
    groups.sort(key=lambda group: -sum(spec.size for spec in group[0]))
    return [(tuple(spec.name for spec in members), bits) for members, bits in groups]


def _is_small(spec: TensorSpec, bits: int) -> bool:
    """Whether its own codebook would be too much for a weight; if it is at one width, then also at larger ones."""
    return 4 << bits > OWN_CODEBOOK * planes_size(spec.size, bits)


def _palettize_group(weights: Weights, names: Sequence[str], bits: int, coding: Coding) -> dict[str, Candidate]:
    """Palettize weights with one codebook, apart from those that have this width already."""
    kept = [name for name in names if name in weights.palettized and weights.palettized[name].codes.bits == bits]
    found = {}
    for name in kept:
        with located(tensor=layer_of(name)):
            tensor = weights.palettized[name]
            shared = sum(weights.palettized[other].codebook is tensor.codebook for other in kept) > 1
            copied = recoded(tensor, coding, trim=not shared)
            found[name] = Candidate(copied, 0.0, weights.sqnr_db.get(name), shared)
    arrays = {}
    for name in names:
        if name not in kept:
            with located(tensor=layer_of(name)):
                arrays[name] = weights.array(name)
    for group in _sharing(arrays, bits):
        for name, tensor in zip(group, palettize_together([arrays[name] for name in group], bits, coding), strict=True):
            signal, noise = energies(arrays[name], dequantize(tensor))
            # without noise, what was lost before is all that there is to tell
            ratio = round(sqnr_from_energies(signal, noise), 2) if noise else weights.sqnr_db.get(name)
            found[name] = Candidate(tensor, noise / signal if noise else 0.0, ratio, len(group) > 1)
    return found


def _sharing(arrays: Mapping[str, Floats], bits: int) -> list[list[str]]:
    """Which weights get one codebook: all that it serves nearly as well as one of their own would."""
    if len(arrays) < 2:
        return [[name] for name in arrays]
    together = palettize_together([*arrays.values()], bits)
    alone = []
    for (name, array), shared in zip(arrays.items(), together, strict=True):
        signal, noise = energies(array, dequantize(shared))
        _, own_noise = energies(array, dequantize(palettize(array, bits)))
        if noise > max(SHARED_NOISE * own_noise, UNHEARD * signal):
            alone.append([name])
    rest = [name for name in arrays if [name] not in alone]
    return [*alone, rest] if rest else alone


def _assemble(weights: Weights, candidates: Candidates, widths: Mapping[str, int]) -> Weights:
    """For each layer the candidate of its width."""
    chosen = {spec.name: candidates[spec.name][widths[spec.layer]] for spec in weight_specs(weights.network)}
    lossy = [candidate.tensor.codes.bits for candidate in chosen.values() if candidate.noise]
    return Weights(
        weights.network,
        {name: candidate.tensor for name, candidate in chosen.items()},
        {name: array for name, array in weights.plain.items() if name not in chosen},
        replace(weights.provenance, changes=changes_of(weights, f"{of_widths(lossy)} (k-means)" if lossy else None)),
        {name: candidate.sqnr_db for name, candidate in chosen.items() if candidate.sqnr_db is not None},
    )


def of_widths(lossy: Sequence[int]) -> str:
    """What was done to weights of these widths."""
    widths = f"{min(lossy)}" if min(lossy) == max(lossy) else f"{min(lossy)} to {max(lossy)}"
    return f"palettized to {widths} bits"


def changes_of(weights: Weights, lost: str | None) -> str:
    """What was changed until now, for licences that ask for it.

    Args:
        weights: Before.
        lost: What was done to them that cost something, if anything was.
    """
    before, is_vgg = weights.provenance.changes, as_vgg(weights.network) is not None
    if lost is not None:
        now = f"{'convolution weights' if is_vgg else 'weights'} {lost} by vggquant"
    elif before is not None:
        return before
    else:
        what = "convolutions alone kept, as" if is_vgg else "weights kept as"
        now = f"{what} codes and codebooks, by vggquant"
    if weights.provenance.folded_batch_norm and before is None:
        now = f"batch normalisation folded into the convolutions; {now}"
    return now if before is None else f"{before}; {now}"


def _fit(
    weights: Weights, candidates: Candidates, size: int, added: int = 0, *, calibrated: bool = False
) -> dict[str, int]:
    """The width of each layer with which least is lost in a file of at most `size` bytes, `added` bytes among them.

    Layers that share a codebook at some width have one width between them, so that there is one such codebook.
    """
    items = {members[0].layer: members for members in _items(weights.network)}
    choices = {item: _choices(members, candidates, calibrated) for item, members in items.items()}
    chosen, reckoned = dict.fromkeys(items, MIN_BITS), 0
    cure = "raise `max_size` or leave out layers with `upto`" if as_vgg(weights.network) else "raise `max_size`"

    def widths() -> dict[str, int]:
        return {spec.layer: chosen[item] for item, members in items.items() for spec in members}

    def overhead() -> int:
        own = (choices[item][bits - MIN_BITS].bytes for item, bits in chosen.items())
        return file_size(_assemble(weights, candidates, widths())) - sum(own) + added

    # the header's length varies by a few digits: until all that comes on top is no longer than was reckoned with
    while (found := overhead()) > reckoned:
        reckoned = found
        chosen = choose_widths(choices, size - reckoned, reckoned, cure)
    return widths()


def _items(network: Network) -> list[tuple[TensorSpec, ...]]:
    """Weights that get the same width where widths are chosen: each alone, apart from those that share a codebook."""
    specs = weight_specs(network)
    small = tuple(spec for spec in specs if shares_codebooks(network) and _is_small(spec, MAX_BITS))
    items = [(spec,) for spec in specs if spec not in small]
    return [small, *items] if small else [*items]


def _choices(members: Sequence[TensorSpec], candidates: Candidates, calibrated: bool) -> list[Choice]:
    """What weights take and lose together, at each width."""
    choices = []
    for bits in range(MIN_BITS, MAX_BITS + 1):
        found = [candidates[spec.name][bits] for spec in members]
        shared = {id(candidate.tensor.codebook): candidate.tensor.codebook for candidate in found if candidate.shared}
        size = sum(candidate.nbytes for candidate in found) + sum(codebook.nbytes for codebook in shared.values())
        noise = sum(candidate.noise for candidate in found)
        choices.append(Choice(bits, size, visible_loss(members[0].layer, bits, noise, calibrated=calibrated)))
    return choices
