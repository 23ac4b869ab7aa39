"""Small packed files of version 1 for tests to change, with checksums made right again by `tests.sealing`."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import safetensors.numpy

from tests.conftest import GOLDEN
from tests.sealing import reseal, unseal
from vggquant.files.container import from_bytes
from vggquant.files.weights import Weights

SMALL = (GOLDEN / "planes-3.safetensors").read_bytes()
HUFFMAN = (GOLDEN / "huffman-2.safetensors").read_bytes()
LAYER = "conv1_1"  # the only layer of the golden files
ASCENDING = np.arange(8, dtype=np.float32)

Change = Callable[[dict[str, Any], dict[str, Any]], object]
"""Changes the header and the metadata of a file."""


def parse(data: bytes) -> Weights:
    """Read a packed file that was never on a disk."""
    return from_bytes(np.frombuffer(data, np.uint8))


def changed(change: Change, data: bytes = SMALL) -> bytes:
    """A file of another structure, with checksums that are right."""
    header, metadata, body = unseal(data)
    change(header, metadata)
    return reseal(header, metadata, body)


def set_layer(**fields: Any) -> Change:
    return lambda header, metadata: metadata["layers"][LAYER].update(fields)


def set_field(**fields: Any) -> Change:
    return lambda header, metadata: metadata.update(fields)


def set_tensor(suffix: str, **fields: Any) -> Change:
    return lambda header, metadata: header[f"{LAYER}.{suffix}"].update(fields)


def rebuilt(**arrays: Any) -> bytes:
    """The small file with other tensors: `weight_codebook` for ``conv1_1.weight.codebook``; ``None`` for no such."""
    header, metadata, _ = unseal(SMALL)
    tensors = safetensors.numpy.load(SMALL)
    for name, array in arrays.items():
        key = f"{LAYER}.{name.replace('_', '.')}"
        if array is None:
            del tensors[key]
        else:
            tensors[key] = np.asarray(array)
    text, body = split(safetensors.numpy.save(tensors, {"format": "pt", "vggquant": ""}))
    return reseal({**json.loads(text), "__metadata__": header["__metadata__"]}, metadata, body)


def unaligned(data: bytes = SMALL) -> bytes:
    """A file without the padding of its header, so that every float32 lies at an odd address."""
    text, body = split(data)
    text = text.rstrip()
    text += b" " * (1 - len(text) % 2)
    seal = re.compile(rb'(?<=header_crc32\\":\\")[0-9a-f]{8}')
    unsealed = struct.pack("<Q", len(text)) + seal.sub(b"00000000", text)
    return seal.sub(f"{crc32(unsealed):08x}".encode(), unsealed) + body


def split(data: bytes) -> tuple[bytes, bytes]:
    """Text of the header, and data."""
    length = struct.unpack("<Q", data[:8])[0]
    return data[8 : 8 + length], data[8 + length :]


def joined(text: bytes, body: bytes) -> bytes:
    """A file of a header's text and data; the inverse of `split`."""
    return struct.pack("<Q", len(text)) + text + body
