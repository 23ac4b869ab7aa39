"""Packed files changed at random, by a seeded generator: bytes anywhere, or the structure with checksums made right.

What must become of them is left to `fuzz`; what only version 2 has is changed by `mutants_version2`.
"""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import compressobj

import numpy as np

from tests import mutants_version2
from tests.sealing import Json, reseal, unseal

GOLDEN = Path(__file__).parent / "golden"
SEEDS_BY_VERSION = [
    [path.read_bytes() for path in sorted(folder.glob("*.safetensors"))] for folder in (GOLDEN, GOLDEN / "version2")
]
SEEDS = [data for seeds in SEEDS_BY_VERSION for data in seeds]

NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    9,
    63,
    64,
    65,
    255,
    256,
    1727,
    1728,
    2**31,
    2**53,
    2**63 - 1,
    2**63,
    2**64 - 1,
    10**400,
]
VALUES: list[Any] = [
    *NUMBERS,
    True,
    False,
    None,
    "",
    "x",
    "planes",
    "huffman",
    "vgg11",
    "vgg16",
    "toy",
    "caffe",
    1.5,
    -0.0,
]
VALUES += [[], {}, [0], [64, 3, 3, 3], [2**32, 2**32], "\x00", "\ud800", "00000000", "../../x"]
FLOATS = [0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x7F7FFFFF, 0x3F800000, 0x00000000]


def _as_it_is(text: bytes) -> bytes:
    return text


def raw_mutant(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed anywhere, checksums as they were."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(found) or 1)
        kind = rng.randrange(7)
        if kind == 0 and found:
            found[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and found:
            found[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            found[place:place] = rng.randbytes(rng.choice((1, 2, 8, 64)))
        elif kind == 3:
            del found[place : place + rng.choice((1, 2, 8, 64))]
        elif kind == 4:
            del found[place:]
        elif kind == 5:
            other = rng.choice(SEEDS)
            begin = rng.randrange(len(other))
            found[place : place + 32] = other[begin : begin + 32]
        else:
            found[:8] = struct.pack("<Q", rng.choice((0, 1, 8, len(found), 2**20, 2**20 + 8, 2**63, 2**64 - 1)))
    return bytes(found)


def resealed_mutant(rng: random.Random, data: bytes) -> bytes:
    """Structure changed, checksums right."""
    header, metadata, body = copy.deepcopy(unseal(data))
    edit: Callable[[bytes], bytes] = _as_it_is
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kind = rng.randrange(9)
        if kind == 0:
            _change_somewhere(rng, metadata)
        elif kind == 1:
            _change_somewhere(rng, header)
        elif kind == 2:
            body = _change_offsets(rng, header, body)
        elif kind == 3:
            body = raw_mutant(rng, body) if rng.random() < 0.3 else _change_bytes(rng, body)
        elif kind == 4:
            body = _change_floats(rng, header, body)
        elif kind in (5, 6):
            rebuild = mutants_version2.rebuild if "network" in metadata else _rebuild
            body = rebuild(rng, header, metadata, body)
        elif kind == 7:
            change = mutants_version2.change_stream if "network" in metadata else _change_stream
            body = change(rng, header, metadata, body)
        else:
            edit = _text_edit(rng)
    return reseal(header, metadata, body, edit)


def _change_somewhere(rng: random.Random, tree: Any) -> None:
    """Another value, a key more, less or renamed, anywhere in a JSON tree."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(tree[key], (dict, list)) and tree[key] and rng.random() < 0.8:
            tree = tree[key]
            continue
        kind = rng.randrange(6)
        if kind == 0:
            del tree[key]
        elif kind == 1 and isinstance(tree, dict):
            tree[rng.choice(("x", "", "conv1_2", "conv1_1.weight.scale", "\x1b[2J", str(key).upper()))] = tree[key]
        elif kind == 2 and type(tree[key]) is int:
            tree[key] += rng.choice((-8, -4, -1, 1, 4, 8, 2**32))
        elif kind == 3 and isinstance(tree[key], str):
            tree[key] = rng.choice((tree[key].upper(), tree[key] + "0", tree[key][:-1], tree[key] + " "))
        else:
            tree[key] = copy.deepcopy(rng.choice(VALUES))
        return


def _tensors(header: Json) -> list[str]:
    return [
        name
        for name, entry in header.items()
        if isinstance(entry, dict)
        and isinstance(entry.get("data_offsets"), list)
        and len(entry["data_offsets"]) == 2
        and all(type(o) is int for o in entry["data_offsets"])
        and 0 <= entry["data_offsets"][0] <= entry["data_offsets"][1] < 2**20
    ]


def _change_offsets(rng: random.Random, header: Json, body: bytes) -> bytes:
    """Two tensors share, swap or overlap; or a hole, or data behind the last."""
    names = _tensors(header)
    if not names:
        return body
    one, other = (header[rng.choice(names)]["data_offsets"] for _ in range(2))
    kind = rng.randrange(5)
    if kind == 0:
        one[:], other[:] = list(other), list(one)
    elif kind == 1:
        one[:] = list(other)
    elif kind == 2:
        one[rng.randrange(2)] += rng.choice((-8, -4, -1, 1, 4, 8))
    elif kind == 3:
        one.reverse()
    else:
        body += rng.randbytes(rng.choice((1, 4, 8)))
    return body


def _change_bytes(rng: random.Random, body: bytes) -> bytes:
    """Other data of the same length."""
    found = bytearray(body)
    for _ in range(rng.choice((1, 4, 64)) if found else 0):
        found[rng.randrange(len(found))] = rng.choice((0, 0xFF, rng.randrange(256)))
    return bytes(found)


def _change_floats(rng: random.Random, header: Json, body: bytes) -> bytes:
    """Strange floats in a codebook, a scale or a bias; or a codebook in another order."""
    names = [name for name in _tensors(header) if not name.endswith("codes")]
    if not names:
        return body
    name = rng.choice(names)
    begin, end = header[name]["data_offsets"]
    count = (end - begin) // 4
    words = list(struct.unpack(f"<{count}I", body[begin : begin + 4 * count].ljust(4 * count, b"\0")))
    if not words:
        return body
    kind = rng.randrange(3)
    if kind == 0:
        words[rng.randrange(len(words))] = rng.choice(FLOATS)
    elif kind == 1:
        rng.shuffle(words)
    else:
        words[-1] = words[0]
    return body[:begin] + struct.pack(f"<{len(words)}I", *words) + body[begin + 4 * len(words) :]


def _rebuild(rng: random.Random, header: Json, metadata: Json, body: bytes) -> bytes:
    """Tensors of other sizes, with offsets that fit: joint edits of bits, shapes and data."""
    names = _tensors(header)
    parts = {name: body[slice(*header[name]["data_offsets"])] for name in names}
    name = rng.choice(names) if names else ""
    if name.endswith("codes") and isinstance(metadata.get("layers"), dict):
        layer = metadata["layers"].get(name.partition(".")[0])
        if isinstance(layer, dict):
            bits = rng.choice((1, 2, 3, 4, 5, 6, 7, 8))
            layer["bits"] = bits
            count = 1728
            size = count * bits // 8 + rng.choice((0, 0, 0, -1, 1))
            parts[name] = rng.randbytes(size)
            header[name]["shape"] = [64, 3, 3, 3] if bits == 8 and rng.random() < 0.8 else [size]
    elif name.endswith("codebook"):
        size = rng.choice((0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 128, 256, 257))
        values = np.sort(np.array([rng.uniform(-1, 1) for _ in range(size)], np.float32))
        parts[name] = values.tobytes()
        header[name]["shape"] = [size]
    elif name:
        size = rng.choice((0, 63, 64, 65))
        parts[name] = np.ones(size, np.float32).tobytes()
        header[name]["shape"] = [size]
    rebuilt = b""
    for name in sorted(parts, key=lambda name: header[name]["data_offsets"][0]):
        header[name]["data_offsets"] = [len(rebuilt), len(rebuilt) + len(parts[name])]
        rebuilt += parts[name]
    return rebuilt


def _change_stream(rng: random.Random, header: Json, metadata: Json, body: bytes) -> bytes:
    """Codes as another deflated stream: of another length, a bomb, or with bytes behind its end."""
    name = next((name for name in _tensors(header) if name.endswith("codes")), None)
    layers = metadata.get("layers")
    if name is None or not isinstance(layers, dict) or not isinstance(layers.get(name.partition(".")[0]), dict):
        return body
    layer = layers[name.partition(".")[0]]
    bits = layer.get("bits")
    if type(bits) is not int or not 1 <= bits <= 8:
        return body
    per_byte = 8 // bits
    length = -(-1728 // per_byte) + rng.choice((0, 0, 0, -1, 1, 10**6))
    packer = compressobj(rng.choice((1, 9)), 8, -15)
    plain = bytes(rng.choice((0, 0, 1)) * rng.randrange(2) for _ in range(min(length, 4000))) + b"\0" * max(
        0, length - 4000
    )
    stream = packer.compress(plain) + packer.flush()
    stream += rng.choice((b"", b"", b"", b"\0", stream))
    stream = stream[: len(stream) - rng.choice((0, 0, 0, 1, 5))]
    layer.update(coding="huffman", codes_per_byte=per_byte)
    parts = {other: body[slice(*header[other]["data_offsets"])] for other in _tensors(header)}
    parts[name] = stream
    header[name]["shape"] = [len(stream)]
    rebuilt = b""
    for other in sorted(parts, key=lambda other: header[other]["data_offsets"][0]):
        header[other]["data_offsets"] = [len(rebuilt), len(rebuilt) + len(parts[other])]
        rebuilt += parts[other]
    return rebuilt


def _text_edit(rng: random.Random) -> Callable[[bytes], bytes]:
    """The header's JSON written otherwise."""
    place, kind = rng.random(), rng.randrange(7)

    def edit(text: bytes) -> bytes:
        at = int(place * len(text))
        if kind == 0:
            return text[:at] + b" " + text[at:]
        if kind == 1:
            return text.replace(b'"dtype"', b'"dtype":"U8","dtype"', 1)
        if kind == 2:
            return text.replace(b"{", b'{"__metadata__":{},', 1)
        if kind == 3:
            return b"\xef\xbb\xbf" + text
        if kind == 4:
            return text + b"\0" * (-len(text) % 8)
        if kind == 5:
            return text.replace(b"[", b"[" * 5000, 1)
        return text[:at] + bytes([text[at] ^ 0x20]) + text[at + 1 :]

    return edit
