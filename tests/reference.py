"""A slow, obvious decoder of docs/format.md, bit by bit; shares no code with the package."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

PLANES = {1: [1], 2: [2], 3: [2, 1], 4: [4], 5: [4, 1], 6: [4, 2], 7: [4, 2, 1], 8: [8]}


def field(data: bytes, width: int, per_byte: int, count: int, index: int) -> int:
    """Field `index` of `count`, bit by bit."""
    size = (count + per_byte - 1) // per_byte
    byte, place = index % size, index // size
    value = 0
    for bit in range(width):
        value += ((data[byte] >> (place * width + bit)) & 1) << bit
    return value


def decode(stream: bytes, count: int, bits: int, codes_per_byte: Any = None, centre: int | None = None) -> list[int]:
    """All codes of a stream; `codes_per_byte` is given for huffman alone, `centre` where that is nested."""
    if centre is not None:
        signed = [(rank + 1) // 2 * (-1 if rank % 2 else 1) for rank in ranks(stream, count, list(codes_per_byte))]
        return [(centre + distance) % 256 for distance in signed]
    if codes_per_byte is not None:
        data = zlib.decompress(stream, -15)
        return [field(data, bits, codes_per_byte, count, index) for index in range(count)]
    codes = [0] * count
    start = 0
    for width in PLANES[bits]:
        size = (count * width + 7) // 8
        plane = stream[start : start + size]
        start += size
        for index in range(count):
            codes[index] = codes[index] * 2**width + field(plane, width, 8 // width, count, index)
    assert start == len(stream)
    return codes


def ranks(stream: bytes, count: int, levels: list[int]) -> list[int]:
    """Ranks of nested huffman: those of the first level, to which the rest of those that go on is added."""
    per_byte, *deeper = levels
    inflater = zlib.decompressobj(-15)
    data = inflater.decompress(stream)
    found = [field(data, 8 // per_byte, per_byte, count, index) for index in range(count)]
    if not deeper:
        assert not inflater.unused_data
        return found
    most = 2 ** (8 // per_byte) - 1
    rest = iter(ranks(inflater.unused_data, found.count(most), deeper))
    return [rank + next(rest) if rank == most else rank for rank in found]


def restore(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Every tensor of a packed file of either version."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["vggquant"])
    tensors = {
        name: data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]]
        for name, entry in header.items()
    }
    return (
        restore_version_1(metadata, tensors)
        if metadata["format_version"] == 1
        else restore_version_2(metadata, tensors)
    )


def restore_version_1(metadata: Any, tensors: dict[str, bytes]) -> dict[str, npt.NDArray[np.float32]]:
    """A VGG: tensors by layer."""
    restored = {}
    for name, layer in metadata["layers"].items():
        count = int(np.prod(layer["shape"]))
        codes = decode(
            tensors[f"{name}.weight.codes"], count, layer["bits"], layer.get("codes_per_byte"), layer.get("centre")
        )
        codebook = np.frombuffer(tensors[f"{name}.weight.codebook"], "<f4")
        scale = tensors.get(f"{name}.weight.scale")
        weight = look_up(codes, codebook, layer["shape"], None if scale is None else np.frombuffer(scale, "<f4"))
        restored[f"{name}.weight"] = weight
        restored[f"{name}.bias"] = np.frombuffer(tensors[f"{name}.bias"], "<f4")
    return restored


def restore_version_2(metadata: Any, tensors: dict[str, bytes]) -> dict[str, npt.NDArray[np.float32]]:
    """A toy network: everything one behind the other, each taken from the front of what is left."""
    configuration = metadata["network"]["configuration"]
    channels, classes = configuration["channels"], configuration["classes"]
    shapes = {
        "conv.weight": (channels, 3, 3, 3),
        "norm.weight": (channels,),
        "norm.bias": (channels,),
        "depthwise.weight": (channels, 1, 3, 3),
        "fc.weight": (classes, channels),
        "fc.bias": (classes,),
    }
    left = {name: tensors.get(name, b"") for name in ("codes", "codebooks", "scales", "plain")}

    def take(name: str, count: int) -> bytes:
        assert len(left[name]) >= count
        taken, left[name] = left[name][:count], left[name][count:]
        return taken

    codebooks = [np.frombuffer(take("codebooks", 4 * size), "<f4") for size in metadata["codebooks"]]
    restored = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        entry = metadata["weights"].get(name)
        if entry is None:
            restored[name] = np.frombuffer(take("plain", 4 * count), "<f4").reshape(shape)
            continue
        bits = entry["bits"]
        size = entry.get("bytes", sum((count * width + 7) // 8 for width in PLANES[bits]))
        codes = decode(take("codes", size), count, bits, entry.get("codes_per_byte"), entry.get("centre"))
        scale = np.frombuffer(take("scales", 4 * shape[0]), "<f4") if entry.get("scaled") else None
        restored[name] = look_up(codes, codebooks[entry["codebook"]], shape, scale)
    assert not any(left.values())
    return restored


def look_up(
    codes: list[int], codebook: npt.NDArray[np.float32], shape: Any, scale: npt.NDArray[np.float32] | None
) -> npt.NDArray[np.float32]:
    """Weights of codes, one by one."""
    weight: npt.NDArray[np.float32] = np.array([codebook[code] for code in codes], np.float32).reshape(shape)
    if scale is None:
        return weight
    scaled: npt.NDArray[np.float32] = np.stack([row * factor for row, factor in zip(weight, scale, strict=True)])
    return scaled
