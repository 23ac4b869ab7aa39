"""Converts between the bytes of a safetensors file and named arrays with metadata.

This reader is stricter than that of the safetensors package. It refuses duplicate names, holes, overlaps and
non-standard fields, and it bounds the size of the header, the number of tensors and their shapes before it looks at
anything else. Whatever it accepts, safetensors accepts too, with the same content.

What the tensors and the metadata mean is left to `container`, reading and writing the file itself to `disk`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from vggquant.errors import DAMAGED, ContainerError, located
from vggquant.networks.network import MAX_ELEMENTS, MAX_RANK, MAX_TENSORS

Bytes = npt.NDArray[np.uint8]
JsonObject = dict[str, Any]

MAX_HEADER_BYTES = 2**20
PACK_FIRST = "run vggquant pack on it first"  # the cure where a packed file belongs and other weights are given
NAME_WEIGHTS = "name a file of weights"

# bytes per element of every type that safetensors 0.8 knows
_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_NUMPY_TYPES = {"U8": "u1", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
# the types that are written; NumPy lacks bfloat16, so its bits come as uint16
_DTYPES = {"uint8": "U8", "float16": "F16", "uint16": "BF16", "float32": "F32", "float64": "F64"}


@dataclass(frozen=True, eq=False)
class RawTensor:
    """One tensor as it lies in a file.

    Args:
        dtype: The element type by the name that safetensors gives it, for instance ``F32``.
        shape: Shape of the tensor.
        data: The bytes of its elements: uint8, 1-D.
        end: Where these bytes end, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Bytes
    end: int

    def array(self) -> npt.NDArray[Any]:
        """The elements. BF16 is widened to float32, which is exact.

        Raises:
            ContainerError: The type is neither U8 nor F16, BF16, F32 or F64.
        """
        if self.dtype not in _NUMPY_TYPES:
            raise ContainerError("floating-point weights", self.dtype, "convert the file first")
        # copied if it is not aligned, because a file may place its data anywhere
        array = np.require(self.data.view(_NUMPY_TYPES[self.dtype]), requirements="A")
        if self.dtype == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return array.reshape(self.shape)


def split_file(data: Bytes) -> tuple[Bytes, dict[str, RawTensor], dict[str, str]]:
    """Split a file into its tensors and metadata; the inverse of `join_file`.

    Args:
        data: The whole file: uint8, 1-D.

    Returns:
        ``(header, tensors, metadata)``: the raw header, beginning with the 8 bytes of its length; the tensors by name,
        as views into `data`; and the strings of ``__metadata__``.

    Raises:
        ContainerError: The file is not well-formed, or exceeds the bounds of this module.
    """
    header = check_header(data)
    entries = parse_json(bytes(header[8:]).rstrip(b" "), "header")
    metadata = entries.pop("__metadata__", {})
    texts = metadata.values() if isinstance(metadata, dict) else [None]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ContainerError("strings", "something else", DAMAGED, tensor="__metadata__")
    if len(entries) > MAX_TENSORS:
        raise ContainerError(f"at most {MAX_TENSORS} tensors", len(entries), "this is no network's file")
    body = data[header.size :]
    tensors = {}
    covered = 0
    for name, (dtype, shape, begin, end) in sorted(_entries(entries), key=lambda entry: entry[1][2:]):
        if begin != covered or end > body.size:
            raise ContainerError(
                f"data from byte {covered} on, within {body.size}", f"{begin} to {end}", DAMAGED, tensor=name
            )
        covered = end
        tensors[name] = RawTensor(dtype, shape, body[begin:end], end)
    if covered != body.size:
        raise ContainerError(f"{covered} bytes of tensors", body.size, DAMAGED)
    return header, tensors, metadata


def join_file(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> tuple[bytes, list[Bytes]]:
    """Join tensors and metadata into a file; the inverse of `split_file`.

    The bytes are those of the safetensors package's own writer, except that the metadata is sorted.

    Args:
        arrays: uint8, float16, float32 and float64 arrays by name, in any memory order; uint16 stands for bfloat16.
        metadata: ASCII strings by name.

    Returns:
        ``(header, chunks)``: the header, beginning with the 8 bytes of its length, and the data that follows it.
    """
    header: JsonObject = {"__metadata__": dict(sorted(metadata.items()))}
    chunks = []
    begin = 0
    # the widest types come first, which keeps every tensor aligned
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = np.ascontiguousarray(arrays[name])
        end = begin + array.nbytes
        shape = list(arrays[name].shape)  # ascontiguousarray turns a scalar into one dimension
        header[name] = {"dtype": _DTYPES[array.dtype.name], "shape": shape, "data_offsets": [begin, end]}
        chunks.append(array.reshape(-1).view(np.uint8))
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, chunks


def parse_json(text: bytes, what: str) -> JsonObject:
    """Parse a JSON object more strictly than `json` does: without duplicate keys, NaN or negative integers.

    Args:
        text: The JSON, in UTF-8.
        what: What an error calls the text.

    Raises:
        ContainerError: The text is anything but one strict JSON object.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_int=_count, parse_constant=_no_constant
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # fails where an escape stands for half a character
    except (ValueError, RecursionError) as error:
        raise ContainerError("JSON in UTF-8", f"{error}", DAMAGED, tensor=what) from None
    if not isinstance(value, dict):
        raise ContainerError("a JSON object", type(value).__name__, DAMAGED, tensor=what)
    return value


def is_count(value: object, below: int = 2**63) -> bool:
    """Whether a JSON value is a whole number from 0 up and below `below`; ``true`` does not count as one."""
    return type(value) is int and 0 <= value < below


def check_header(data: Bytes) -> Bytes:
    """Find the header of a file, without parsing it.

    Args:
        data: The file: uint8, 1-D. Only its header needs to be filled in.

    Returns:
        The header, beginning with the 8 bytes of its length.

    Raises:
        ContainerError: The file does not begin as a safetensors file does.
    """
    start = bytes(data[:64])
    if start.startswith(b"version https://git-lfs"):
        raise ContainerError("weights", "a git-LFS pointer", "run git lfs pull")
    if data.size < 8:
        raise ContainerError("a safetensors file", f"{data.size} bytes", DAMAGED)
    length = struct.unpack("<Q", start[:8])[0]
    if not 2 <= length <= min(MAX_HEADER_BYTES, data.size - 8) or start[8:9] != b"{":
        raise ContainerError("a safetensors file", *_looks_like(start, length, data.size))
    return data[: 8 + length]


def _looks_like(start: bytes, length: int, size: int) -> tuple[str, str]:
    """What a file is instead, and what can be done about it."""
    known = {
        b"PK\x03\x04": ("a zip or torch file", PACK_FIRST),
        b"\x80\x02": ("a pickle", PACK_FIRST),
        b"\x89HDF": ("an HDF5 file", PACK_FIRST),
        b"<": ("an HTML or XML page", "check the path"),
        b"\x89PNG": ("a picture", NAME_WEIGHTS),
        b"\xff\xd8\xff": ("a picture", NAME_WEIGHTS),
    }
    for magic, found in known.items():
        if start.lstrip().startswith(magic):
            return found
    if start[8:9] != b"{":
        return f"bytes beginning {start[:16]!r}", "check the path"
    return f"a header of {length} bytes in a file of {size}", "check the path"


def _entries(entries: JsonObject) -> Iterator[tuple[str, tuple[str, tuple[int, ...], int, int]]]:
    for name, entry in entries.items():
        with located(tensor=name):
            if not name.isprintable() or not name:
                raise ContainerError("a printable name", "something else", DAMAGED)
            if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
                raise ContainerError("dtype, shape and data_offsets", "other fields", DAMAGED)
            dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
            if not isinstance(dtype, str) or dtype not in _ITEM_SIZES:
                raise ContainerError("a known element type", dtype, DAMAGED)
            if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(is_count, shape)):
                raise ContainerError(f"a shape of rank {MAX_RANK} at most", shape, DAMAGED)
            if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(is_count, offsets)):
                raise ContainerError("two offsets", offsets, DAMAGED)
            elements = math.prod(shape)
            if elements > MAX_ELEMENTS:
                raise ContainerError(f"at most {MAX_ELEMENTS} elements", elements, "this is no network's file")
            if offsets[1] - offsets[0] != elements * _ITEM_SIZES[dtype]:
                raise ContainerError(
                    f"{elements * _ITEM_SIZES[dtype]} bytes for {dtype} {shape}", offsets[1] - offsets[0], DAMAGED
                )
            yield name, (dtype, tuple(shape), offsets[0], offsets[1])


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name given twice")
    return found


def _count(digits: str) -> int:
    if not digits.isdecimal() or len(digits) > 20:
        raise ValueError("an integer below 0 or beyond 64 bits")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON has not")
