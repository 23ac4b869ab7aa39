"""Packed files taken apart, and put together again with all checksums right, whatever else is wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

Json = dict[str, Any]

BLOBS = ("codes", "codebooks", "scales", "plain")


def unseal(data: bytes) -> tuple[Json, Json, bytes]:
    """Header, metadata and data of a packed file."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["vggquant"]), data[8 + length :]


def reseal(header: Json, metadata: Json, body: bytes, edit: Callable[[bytes], bytes] | None = None) -> bytes:
    """A file with all checksums right, whatever else is wrong; `edit` changes the header's text before."""
    layers = metadata.get("layers")
    for name, layer in layers.items() if isinstance(layers, dict) else ():
        if isinstance(layer, dict) and "crc32" in layer:
            suffixes = ("weight.codes", "weight.codebook", "weight.scale", "bias")
            layer["crc32"] = _checksum(header, body, [f"{name}.{suffix}" for suffix in suffixes])
    if "data_crc32" in metadata:
        metadata["data_crc32"] = _checksum(header, body, BLOBS)
    if "header_crc32" in metadata:
        metadata["header_crc32"] = "00000000"
    if isinstance(header.get("__metadata__"), dict) and "vggquant" in header["__metadata__"]:
        header["__metadata__"]["vggquant"] = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode("utf-8", "surrogatepass")
    text = edit(text) if edit is not None else text
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text
    seal = f"{crc32(data):08x}".encode()
    return data.replace(b'header_crc32\\":\\"00000000', b'header_crc32\\":\\"' + seal, 1) + body


def _checksum(header: Json, body: bytes, names: Any) -> str:
    crc = 0
    for name in names:
        entry = header.get(name)
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets):
            crc = crc32(body[max(0, offsets[0]) : max(0, offsets[1])], crc)
    return f"{crc:08x}"
