"""A slow, obvious decoder of docs/format.md, bit by bit; shares no code with the package."""

from __future__ import annotations

import json
import zlib

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


def decode(stream: bytes, count: int, bits: int, codes_per_byte: int | None) -> list[int]:
    """All codes of a stream; `codes_per_byte` is given for huffman alone."""
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


def restore(data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Every weight and bias of a packed file."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")["vggquant"])

    def tensor(name: str) -> bytes:
        begin, end = header[name]["data_offsets"]
        return data[8 + length + begin : 8 + length + end]

    restored = {}
    for name, layer in metadata["layers"].items():
        count = int(np.prod(layer["shape"]))
        codes = decode(tensor(f"{name}.weight.codes"), count, layer["bits"], layer.get("codes_per_byte"))
        codebook = np.frombuffer(tensor(f"{name}.weight.codebook"), "<f4")
        weight = np.array([codebook[code] for code in codes], np.float32).reshape(layer["shape"])
        if f"{name}.weight.scale" in header:
            scale = np.frombuffer(tensor(f"{name}.weight.scale"), "<f4")
            weight = np.stack([channel * factor for channel, factor in zip(weight, scale, strict=True)])
        restored[f"{name}.weight"] = weight
        restored[f"{name}.bias"] = np.frombuffer(tensor(f"{name}.bias"), "<f4")
    return restored
