"""Mutants of packed files against the slow decoder: `python -m tests.fuzz --mutants 1000000`.

Half stay as mutated and must be refused; half get their checksums made right, and must be refused with a typed error
or restore exactly what `tests.reference` says, and be read by safetensors too. Mutant N of a seed is always the same.
What fails is kept in tests/regressions, where a test tries it again.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import multiprocessing
import os
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zlib import compressobj, crc32

import numpy as np
import safetensors.numpy

from tests import reference
from vggquant.codec.palette import dequantize
from vggquant.errors import VggQuantError
from vggquant.files.container import from_bytes

GOLDEN = Path(__file__).parent / "golden"
REGRESSIONS = Path(__file__).parent / "regressions"
SEEDS = [path.read_bytes() for path in sorted(GOLDEN.glob("*.safetensors"))]
SLOWEST = 2.0  # seconds

Json = dict[str, Any]

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
VALUES: list[Any] = [*NUMBERS, True, False, None, "", "x", "planes", "huffman", "vgg11", "vgg16", "caffe", 1.5, -0.0]
VALUES += [[], {}, [0], [64, 3, 3, 3], [2**32, 2**32], "\x00", "\ud800", "00000000", "../../x"]
FLOATS = [0x7FC00000, 0x7F800000, 0xFF800000, 0x80000000, 0x00000001, 0x7F7FFFFF, 0x3F800000, 0x00000000]


class WrongEndError(Exception):
    """A mutant came to another end than it should."""


def unseal(data: bytes) -> tuple[Json, Json, bytes]:
    """Header, metadata and data of a packed file."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["vggquant"]), data[8 + length :]


def reseal(header: Json, metadata: Json, body: bytes, edit: Callable[[bytes], bytes] | None = None) -> bytes:
    """A file with all checksums right, whatever else is wrong; `edit` changes the header's text before."""
    layers = metadata.get("layers")
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        crc = 0
        for suffix in ("weight.codes", "weight.codebook", "weight.scale", "bias"):
            entry = header.get(f"{name}.{suffix}")
            offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
            if isinstance(offsets, list) and len(offsets) == 2 and all(type(o) is int for o in offsets):
                crc = crc32(body[max(0, offsets[0]) : max(0, offsets[1])], crc)
        if isinstance(layer, dict) and "crc32" in layer:
            layer["crc32"] = f"{crc:08x}"
    if "header_crc32" in metadata:
        metadata["header_crc32"] = "00000000"
    if isinstance(header.get("__metadata__"), dict) and "vggquant" in header["__metadata__"]:
        header["__metadata__"]["vggquant"] = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    text = (edit or _as_it_is)(json.dumps(header, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text
    seal = f"{crc32(data):08x}".encode()
    return data.replace(b'header_crc32\\":\\"00000000', b'header_crc32\\":\\"' + seal, 1) + body


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
            body = _rebuild(rng, header, metadata, body)
        elif kind == 7:
            body = _change_stream(rng, header, metadata, body)
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


def mutant(seed: int, number: int) -> tuple[bytes, bool]:
    """A file, and whether its checksums were made right."""
    rng = random.Random(f"{seed}/{number}")
    data = rng.choice(SEEDS)
    if number % 2:
        return resealed_mutant(rng, data), True
    return raw_mutant(rng, data), False


def judge(data: bytes, resealed: bool) -> str:
    """How a mutant ended.

    Raises:
        WrongEndError: Neither refused as it should nor read as it should.
    """
    began = time.perf_counter()
    try:
        weights = from_bytes(np.frombuffer(data, np.uint8))
        restored = {name: dequantize(tensor) for name, tensor in weights.palettized.items()}
    except VggQuantError as error:
        if "\n" in str(error) or len(str(error)) > 2000 or not str(error).isprintable():
            raise WrongEndError(f"a message of several lines: {error!r}") from error
        outcome = "refused"
    except BaseException as error:
        raise WrongEndError(f"{type(error).__name__}: {error}") from error
    else:
        outcome = "accepted"
    if time.perf_counter() - began > SLOWEST:
        raise WrongEndError(f"{time.perf_counter() - began:.1f} s")
    if outcome == "refused":
        return outcome
    if not resealed and data not in SEEDS:
        raise WrongEndError("accepted with wrong checksums")
    try:
        safetensors.numpy.load(data)
        expected = reference.restore(data)
    except Exception as error:
        raise WrongEndError(f"accepted, but refused by safetensors or the slow decoder: {error}") from error
    found = {**restored, **weights.plain}
    if found.keys() != expected.keys():
        raise WrongEndError(f"{sorted(found)} in the place of {sorted(expected)}")
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise WrongEndError(f"{name}: values that are not finite")
        if not np.array_equal(array, expected[name]):
            raise WrongEndError(f"{name}: other values than the slow decoder's")
    return "read as resealed" if resealed else "unchanged"


def try_range(seed: int, numbers: Iterable[int], keep: bool = True) -> Counter[str]:
    """Judge mutants; count how they ended."""
    ends: Counter[str] = Counter()
    for number in numbers:
        data, resealed = mutant(seed, number)
        try:
            ends[judge(data, resealed)] += 1
        except WrongEndError as error:
            ends["wrong"] += 1
            print(f"seed {seed}, mutant {number}: {error}", file=sys.stderr, flush=True)
            if keep:
                kind = "resealed" if resealed else "raw"
                (REGRESSIONS / f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)
    return ends


def _share(task: tuple[int, int, int]) -> Counter[str]:
    seed, begin, end = task
    return try_range(seed, range(begin, end))


def main() -> None:
    """Try many, on all processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    REGRESSIONS.mkdir(exist_ok=True)
    began = time.monotonic()
    step = 10_000
    tasks = [(given.seed, at, min(at + step, given.mutants)) for at in range(0, given.mutants, step)]
    ends: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for found in pool.imap_unordered(_share, tasks):
            ends += found
            print(f"\r{ends.total():,} mutants, {time.monotonic() - began:.0f} s: {dict(ends)}", end="", flush=True)
    print()
    sys.exit(1 if ends["wrong"] else 0)


if __name__ == "__main__":
    main()
