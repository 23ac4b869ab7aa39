"""Another program's weights file as named tensors that are not yet read, and safetensors files read and written so.

Torch and HDF5 files have readers of their own, `torch_files` and `hdf5_files`; names and axes are left to `layouts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.files.disk import Bytes, Chunk
from vggquant.files.safetensors import join_file, split_file

Array = npt.NDArray[Any]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # what checkpoints call the state dict in them
FLOATING = ("float16", "bfloat16", "float32", "float64")
_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "U8": "uint8"}


@dataclass(frozen=True, eq=False)
class SourceTensor:
    """A tensor that is not yet read.

    Args:
        shape: Shape.
        dtype: Element type in NumPy's words, or ``bfloat16``.
        read: Returns the elements; bfloat16 comes as float32.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]


@dataclass(frozen=True, eq=False)
class WeightFile:
    """What a weights file holds.

    Args:
        tensors: By name.
        metadata: Strings that travel with them, in files of types that have a place for them.
    """

    tensors: Mapping[str, SourceTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def numbers(data: Bytes, kind: str) -> Array:
    """Bytes as numbers of a type in NumPy's words; copied only if they do not lie where such numbers may."""
    size = np.dtype(kind).itemsize
    aligned = data if data.ctypes.data % size == 0 else data.copy()
    found: Array = aligned.view(kind)
    return found


def read_safetensors(data: Bytes) -> WeightFile:
    """Read a safetensors file."""
    _, tensors, metadata = split_file(data)
    found = {
        name: SourceTensor(raw.shape, _NAMES.get(raw.dtype, raw.dtype), raw.array) for name, raw in tensors.items()
    }
    return WeightFile(found, metadata)


def write_safetensors(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Chunk]:
    """Bytes of a safetensors file that torch users can load."""
    header, chunks = join_file(arrays, {"format": "pt", **metadata})
    return [header, *chunks]
