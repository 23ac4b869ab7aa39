"""Changes to files of version 2 that leave all sizes fitting, so that readers get as far as the data."""

from __future__ import annotations

import random
from typing import Any
from zlib import compressobj

import numpy as np

from tests.sealing import BLOBS, Json

PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (8,)}


def rebuild(rng: random.Random, header: Json, metadata: Json, body: bytes) -> bytes:
    """Another network of other widths, codebooks, scales and codes, now and then with one size that does not fit."""
    channels, classes = rng.randrange(1, 12), rng.randrange(1, 9)
    shapes = {
        "conv.weight": (channels, 3, 3, 3),
        "norm.weight": (channels,),
        "norm.bias": (channels,),
        "depthwise.weight": (channels, 1, 3, 3),
        "fc.weight": (classes, channels),
        "fc.bias": (classes,),
    }
    parts: dict[str, list[bytes]] = {name: [] for name in BLOBS}
    entries: Json = {}
    sizes: list[int] = []
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        if len(shape) == 1 or rng.random() < 0.2:
            parts["plain"].append(_floats(rng, count))
            continue
        entry = _entry(rng, sizes, parts["codebooks"])
        if rng.random() < 0.3:
            entry["scaled"] = True
            parts["scales"].append(_floats(rng, shape[0]))
        if rng.random() < 0.3:
            entry["sqnr_db"] = rng.uniform(-5, 60)
        parts["codes"].append(_stream(rng, entry, count, sizes[entry["codebook"]]))
        entries[name] = entry
    if not isinstance(metadata.get("network"), dict):
        metadata["network"] = {"family": "toy"}
    metadata["network"]["configuration"] = {"channels": channels, "classes": classes}
    metadata["weights"], metadata["codebooks"] = entries, sizes
    return _lay_out(rng, header, {name: b"".join(found) for name, found in parts.items()})


def change_stream(rng: random.Random, header: Json, metadata: Json, body: bytes) -> bytes:
    """The bounds between streams moved, an entry changed, or codes of another coding."""
    entries = metadata.get("weights")
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()) or not entries:
        return rebuild(rng, header, metadata, body)
    entry: Any = entries[rng.choice(sorted(entries))]
    kind = rng.randrange(5)
    if kind == 0 and "bytes" in entry:
        other: Any = entries[rng.choice(sorted(entries))]
        step = rng.choice((-1, 1, 2))
        for one, by in ((entry, step), (other, -step)):
            if type(one.get("bytes")) is int:
                one["bytes"] += by
    elif kind == 1:
        entry["codebook"] = rng.choice((0, 1, 2, len(entries)))
    elif kind == 2:
        entry["codes_per_byte"] = rng.choice((1, 2, 4, 8, 3))
    elif kind == 3:
        entry["bits"] = rng.randrange(1, 9)
    else:
        entry.pop(rng.choice(sorted(entry)))
    return body


def _entry(rng: random.Random, sizes: list[int], codebooks: list[bytes]) -> Json:
    """A width, and a codebook: one that is there, or a new one."""
    bits = rng.randrange(1, 9)
    fitting = [number for number, size in enumerate(sizes) if size <= 1 << bits]
    if fitting and rng.random() < 0.4:
        return {"bits": bits, "codebook": rng.choice(fitting)}
    size = rng.choice((1 << bits, rng.randrange(1, (1 << bits) + 1)))
    values = np.unique(np.array([rng.uniform(-1, 1) for _ in range(size)], np.float32))
    sizes.append(values.size)
    codebooks.append(values.tobytes())
    return {"bits": bits, "codebook": len(sizes) - 1}


def _stream(rng: random.Random, entry: Json, count: int, size: int) -> bytes:
    """Random codes below the codebook's size, now and then one above it or bits in the padding."""
    bits = entry["bits"]
    codes = [rng.randrange(size) for _ in range(count)]
    if rng.random() < 0.1:
        codes[rng.randrange(count)] = rng.randrange(1 << bits)
    if rng.random() < 0.3:
        per_byte = rng.choice([m for m in (1, 2, 4, 8) if m * bits <= 8])
        packer = compressobj(9, 8, -15, 9, 2)
        stream = packer.compress(_fields(codes, bits, per_byte)) + packer.flush()
        entry |= {"bytes": len(stream), "codes_per_byte": per_byte}
        return stream
    stream, below = b"", bits
    for width in PLANES[bits]:
        below -= width
        stream += _fields([(code >> below) & ((1 << width) - 1) for code in codes], width, 8 // width)
    if rng.random() < 0.1:
        stream = stream[:-1] + bytes([stream[-1] ^ 1 << rng.randrange(8)])
    return stream


def _fields(fields: list[int], width: int, per_byte: int) -> bytes:
    size = -(-len(fields) // per_byte)
    joined = [0] * size
    for index, value in enumerate(fields):
        joined[index % size] |= value << (index // size * width)
    return bytes(joined)


def _floats(rng: random.Random, count: int) -> bytes:
    return np.array([rng.uniform(-2, 2) for _ in range(count)], np.float32).tobytes()


def _lay_out(rng: random.Random, header: Json, blobs: dict[str, bytes]) -> bytes:
    """The blobs one behind the other, in any order."""
    for name in [name for name in header if name != "__metadata__"]:
        del header[name]
    body = b""
    for name in rng.sample(sorted(blobs), len(blobs)):
        if not blobs[name]:
            continue
        blob = blobs[name] + rng.choice((b"", b"", b"", b"", b"", b"", b"", b"\0" * (1 if name == "codes" else 4)))
        item = 1 if name == "codes" else 4
        entry = {"dtype": "U8" if item == 1 else "F32", "shape": [len(blob) // item]}
        header[name] = {**entry, "data_offsets": [len(body), len(body) + len(blob)]}
        body += blob
    return body
