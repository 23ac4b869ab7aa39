"""One tensor ↔ its codes and codebook: `palettize` and `dequantize`; knows of no files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vggquant.codec.coding import Coding, EncodedCodes, decode_codes, encode_codes
from vggquant.codec.kmeans import fit_codebook
from vggquant.errors import ContainerError

Floats = npt.NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

# Codes looked up at once: few enough for the cache, many enough that threads seldom meet at the interpreter's lock.
_PIECE = 1 << 17
_PAIR_TYPES = {2: np.int32, 4: np.int64, 8: np.complex128}  # two entries of a size, moved as one


@dataclass(frozen=True, eq=False)
class PalettizedTensor:
    """A weight as codes and codebook; the codes stay coded until the weight is restored.

    Args:
        codes: One code a weight, in C order of `shape`.
        codebook: float32, 1-D, strictly ascending centroids.
        shape: Shape of the weight, output channels first.
        scale: float32, one factor per output channel, or ``None``.
    """

    codes: EncodedCodes
    codebook: Floats
    shape: tuple[int, ...]
    scale: Floats | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in a file: codes, codebook and scale."""
        return self.codes.stream.nbytes + self.codebook.nbytes + (0 if self.scale is None else self.scale.nbytes)


def palettize(weight: Floats, bits: int, coding: Coding = "planes") -> PalettizedTensor:
    """Give each weight the code of its nearest centroid; the inverse of `dequantize` but for the error.

    Args:
        weight: float32, finite, any shape. A negative zero becomes zero.
        bits: Bits of a code, 1–8: at most ``2**bits`` centroids.
        coding: How codes are laid down, see `coding`.

    Raises:
        OptionError: Unknown width or coding.
    """
    positive = weight + np.float32(0)  # −0.0 + 0.0 is 0.0
    codebook = fit_codebook(positive, 1 << bits)
    codes = _nearest(positive, codebook)
    used = np.flatnonzero(np.bincount(codes.reshape(-1), minlength=codebook.size))
    if used.size < codebook.size:  # a centroid squeezed out by rounding to float32
        codebook = codebook[used]
        codes = np.searchsorted(used, codes).astype(np.uint8)
    return PalettizedTensor(encode_codes(codes, bits, coding), codebook, weight.shape)


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
    # decoded into the end of the memory that they will fill: the first i weights end before the i-th code, since
    # i · itemsize ≤ size · (itemsize − 1) + i; np.take copies the codes of its own piece before it writes there
    room = flat.view(np.uint8)[-flat.size :] if flat.size % 8 == 0 else None
    codes: npt.NDArray[Any] = decode_codes(tensor.codes, room)
    if tensor.codebook.size < 1 << tensor.codes.bits and int(codes.max()) >= tensor.codebook.size:
        raise ContainerError(
            f"codes below {tensor.codebook.size}, the codebook's size",
            int(codes.max()),
            "the file is damaged, get it again",
        )
    if codes.size % 2 == 0:  # two codes at once, in a table of all pairs: half the look-ups
        codebook, codes, flat = _pairs(codebook), codes.view("<u2"), flat.view(_PAIR_TYPES[out.itemsize])
    for start in range(0, codes.size, _PIECE):
        piece = slice(start, start + _PIECE)
        np.take(codebook, codes[piece], out=flat[piece], mode="clip")
    return out


def _pairs(codebook: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Entry i + 256·j holds entries i and j of a codebook, side by side."""
    padded = np.resize(codebook, 256)  # codes are below its size
    table = np.empty((256, 256, 2), codebook.dtype)
    table[..., 0], table[..., 1] = padded, padded[:, None]
    return table.reshape(-1).view(_PAIR_TYPES[codebook.itemsize])


def sqnr_db(reference: npt.ArrayLike, approximation: npt.ArrayLike) -> float:
    """Signal-to-quantization-noise ratio in dB: 10·log₁₀(Σw² / Σ(w − ŵ)²); infinite when equal."""
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
    # as float32 thresholds, rounded down, these compare with float32 weights exactly
    thresholds = middle.astype(np.float32)
    thresholds = np.where(thresholds > middle, np.nextafter(thresholds, np.float32(-np.inf)), thresholds)
    codes = np.searchsorted(thresholds, weight.reshape(-1), side="left").astype(np.uint8)
    return codes.reshape(weight.shape)
