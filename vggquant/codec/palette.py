"""Weights to codes and codebook, and back: `palettize` and `dequantize`.

Finding centroids is left to `kmeans` and `entropy`, laying codes down as bytes to `bitstream`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import MIN_BITS, Coding, EncodedCodes, decode_codes, encode_codes
from vggquant.codec.entropy import constrain
from vggquant.codec.kmeans import fit_codebook
from vggquant.errors import DAMAGED, ContainerError

Floats = npt.NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

# codes looked up at once: few enough for the cache, many enough that threads seldom wait for the interpreter's lock
_PIECE = 1 << 17
_PAIR_TYPES = {2: np.int32, 4: np.int64, 8: np.complex128}  # two entries of a size, moved as one


@dataclass(frozen=True, eq=False)
class PalettizedTensor:
    """A tensor as codes and codebook; the codes stay coded until the tensor is restored.

    Args:
        codes: One code for each element, in C order of `shape`.
        codebook: float32, 1-D, strictly ascending centroids.
        shape: Shape of the tensor, output channels first.
        scale: float32, one factor for each output channel, or ``None``.
    """

    codes: EncodedCodes
    codebook: Floats
    shape: tuple[int, ...]
    scale: Floats | None = None


def palettize(weight: Floats, bits: int, coding: Coding = "planes") -> PalettizedTensor:
    """Give each weight the code of its nearest centroid; the inverse of `dequantize` but for the error.

    Args:
        weight: float32, finite, any shape. A negative zero becomes zero.
        bits: Bits of a code, 1–8: at most ``2**bits`` centroids.
        coding: How codes are laid down, see `bitstream`.

    Raises:
        OptionError: Unknown width or coding.
    """
    return palettize_together([weight], bits, coding)[0]


def palettize_together(weights: Sequence[Floats], bits: int, coding: Coding = "planes") -> list[PalettizedTensor]:
    """Palettize several weights with one codebook between them, see `palettize`.

    Args:
        weights: One or more; the codebook is fitted to all their values.
        bits: Bits of a code, 1–8.
        coding: How codes are laid down, see `bitstream`.

    Returns:
        In the same order, tensors that hold the same codebook, each entry of which one of them uses.

    Raises:
        OptionError: Unknown width or coding.
    """
    flat = [weight.reshape(-1) + np.float32(0) for weight in weights]  # −0.0 + 0.0 is 0.0
    codebook = fit_codebook(flat[0] if len(flat) == 1 else np.concatenate(flat), 1 << bits)
    codes = [_nearest(values, codebook) for values in flat]
    used = np.flatnonzero(sum(np.bincount(each, minlength=codebook.size) for each in codes))
    if used.size < codebook.size:  # a centroid was squeezed out by rounding to float32
        codebook = codebook[used]
        codes = [np.searchsorted(used, each).astype(np.uint8) for each in codes]
    return [
        PalettizedTensor(encode_codes(each, bits, coding), codebook, weight.shape)
        for each, weight in zip(codes, weights, strict=True)
    ]


def palettize_at(weight: Floats, step: float) -> PalettizedTensor:
    """Give each weight the code that is best where a code costs what its rarity does; these are coded as `huffman`.

    Args:
        weight: float32, finite, any shape.
        step: Of the grid that its codebook is found from: the larger, the fewer bits and the more noise.
    """
    values = weight.reshape(-1) + np.float32(0)  # −0.0 + 0.0 is 0.0
    (found,) = constrain(values, [step])
    return coded_by_rarity(found.codes(values), found.codebook, weight.shape)


def coded_by_rarity(codes: npt.NDArray[np.uint8], codebook: Floats, shape: tuple[int, ...]) -> PalettizedTensor:
    """A tensor of the width that its codebook needs, coded as `huffman`."""
    bits = max(MIN_BITS, (codebook.size - 1).bit_length())
    return PalettizedTensor(encode_codes(codes, bits, "huffman"), codebook, shape)


def recoded(tensor: PalettizedTensor, coding: Coding, *, trim: bool) -> PalettizedTensor:
    """Lay the codes of a tensor down in another way; none of its weights changes.

    Args:
        tensor: Codes, codebook and scale.
        coding: ``planes`` or ``huffman``.
        trim: Whether to leave out centroids that no code points to, which others may use if the codebook is shared.

    Raises:
        ContainerError: A code lies beyond the codebook, or the stream is damaged.
    """
    codes, codebook = decode_codes(tensor.codes), tensor.codebook
    _require_below(codes, codebook.size, tensor.codes.bits)
    if trim:
        used = np.flatnonzero(np.bincount(codes, minlength=codebook.size))
        if used.size < codebook.size:
            codes, codebook = np.searchsorted(used, codes).astype(np.uint8), codebook[used]
    return replace(tensor, codes=encode_codes(codes, tensor.codes.bits, coding), codebook=codebook)


def dequantize(tensor: PalettizedTensor, out: Floats | None = None) -> Floats:
    """Restore a weight from its codes; the inverse of `palettize`.

    Args:
        tensor: Codes, codebook and scale.
        out: float32, C-contiguous, of the tensor's shape; made if not given.

    Raises:
        ContainerError: A code lies beyond the codebook, or the stream is damaged.
    """
    weight = look_up(tensor, tensor.codebook, np.empty(tensor.shape, np.float32) if out is None else out)
    if tensor.scale is not None:
        weight *= tensor.scale.reshape(-1, *[1] * (len(tensor.shape) - 1))
    return weight


def look_up(tensor: PalettizedTensor, codebook: npt.NDArray[T], out: npt.NDArray[T]) -> npt.NDArray[T]:
    """Give each weight its entry of a codebook, without scale.

    Args:
        tensor: Codes.
        codebook: As long as the tensor's own, of any type.
        out: C-contiguous, of the tensor's shape and the codebook's type.

    Raises:
        ContainerError: A code lies beyond the codebook, or the stream is damaged.
    """
    flat = out.reshape(-1)
    # Codes are decoded into the end of the memory that their weights will fill. That is safe: the first i weights
    # end before the i-th code, since i · itemsize ≤ size · (itemsize − 1) + i, and np.take copies the codes of
    # its own piece before it writes there.
    room = flat.view(np.uint8)[-flat.size :] if flat.size % 8 == 0 else None
    codes: npt.NDArray[Any] = decode_codes(tensor.codes, room)
    _require_below(codes, tensor.codebook.size, tensor.codes.bits)
    if codes.size % 2 == 0:  # two codes at once, looked up in a table of all pairs, halve the work
        codebook, codes, flat = _pairs(codebook), codes.view("<u2"), flat.view(_PAIR_TYPES[out.itemsize])
    for start in range(0, codes.size, _PIECE):
        piece = slice(start, start + _PIECE)
        np.take(codebook, codes[piece], out=flat[piece], mode="clip")
    return out


def _require_below(codes: npt.NDArray[Any], size: int, bits: int) -> None:
    """Refuse codes beyond a codebook, which there can be only if that has room."""
    if size < 1 << bits and int(codes.max()) >= size:
        raise ContainerError(f"codes below {size}, the codebook's size", int(codes.max()), DAMAGED)


def _pairs(codebook: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Entry i + 256·j holds entries i and j of a codebook, side by side."""
    padded = np.resize(codebook, 256)  # no code points to what is added
    table = np.empty((256, 256, 2), codebook.dtype)
    table[..., 0], table[..., 1] = padded, padded[:, None]
    return table.reshape(-1).view(_PAIR_TYPES[codebook.itemsize])


def sqnr_db(reference: npt.ArrayLike, approximation: npt.ArrayLike) -> float:
    """Signal-to-quantization-noise ratio in dB, 10·log₁₀(Σw² / Σ(w − ŵ)²); infinite for equals."""
    return sqnr_from_energies(*energies(reference, approximation))


def energies(reference: npt.ArrayLike, approximation: npt.ArrayLike) -> tuple[float, float]:
    """Energy of the signal and of the error, both summed in float64."""
    signal = np.asarray(reference, np.float64).reshape(-1)
    noise = signal - np.asarray(approximation, np.float64).reshape(-1)
    return float(signal @ signal), float(noise @ noise)


def sqnr_from_energies(signal: float, noise: float) -> float:
    """The ratio in dB of two energies; infinite where there is no noise."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _nearest(weight: Floats, codebook: Floats) -> npt.NDArray[np.uint8]:
    """Index of the nearest centroid, the lower one on a tie."""
    middle = (codebook[:-1].astype(np.float64) + codebook[1:]) / 2
    # rounded down to float32, these thresholds compare with float32 weights as the exact ones would
    thresholds = middle.astype(np.float32)
    thresholds = np.where(thresholds > middle, np.nextafter(thresholds, np.float32(-np.inf)), thresholds)
    return np.searchsorted(thresholds, weight, side="left").astype(np.uint8)
