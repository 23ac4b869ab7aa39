"""The container: lengths, JSON, names and offsets, cases 1 to 23."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.hostile.cases import Cases
from tests.packed import LAYER, SMALL, changed, joined, set_tensor, split

CASES = Cases()


def shifted(suffix: str, by: int) -> bytes:
    """The small file with a tensor said to lie elsewhere."""

    def change(header: dict[str, Any], _: dict[str, Any]) -> None:
        offsets = header[f"{LAYER}.{suffix}"]["data_offsets"]
        offsets[:] = [offset + by for offset in offsets]

    return changed(change)


def renamed(name: str) -> bytes:
    """The small file with a bias of another name."""
    return changed(lambda header, _: header.update({name: header.pop(f"{LAYER}.bias")}))


TEXT, BODY = split(SMALL)  # no checksum matters before the text is read

CASES.packed(1, "empty", b"", "got 0 bytes")
CASES.packed(2, "under 8 bytes", SMALL[:7], "got 7 bytes")
CASES.packed(3, "header length 0", bytes(8) + SMALL[8:], "a header of 0 bytes")
CASES.packed(4, "header over 1 MiB", joined(b"{" + b" " * 2**20, b""), "header of 1048577 bytes")
CASES.packed(
    5,
    "header longer than the file",
    struct.pack("<Q", len(SMALL)) + SMALL[8:],
    "header of 1664 bytes in a file of 1664",
)
CASES.packed(6, "header length 2^63", struct.pack("<Q", 2**63) + SMALL[8:], "header of 9223372036854775808 bytes")
CASES.packed(7, "an HTML page", b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML")
CASES.packed(8, "a git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n", "LFS")
CASES.packed(9, "a renamed pickle", pickle.dumps({"a": 1}, 2) + bytes(99), "got a pickle")
CASES.packed(9, "a renamed zip", b"PK\x03\x04" + bytes(99), "got a zip")
CASES.packed(9, "a renamed h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "got an HDF5")
CASES.packed(10, "truncated", SMALL[:-1], "within 935")
CASES.packed(11, "trailing bytes", SMALL + b"\0", "936 bytes of tensors, got 937")
CASES.packed(
    12,
    "overlapping offsets",
    shifted("weight.codebook", -4),
    "codebook: expected data from byte 256 on, within 936, got 252",
)
CASES.packed(13, "a hole", shifted("bias", 4), "expected data from byte 0 on")
CASES.packed(
    14, "offsets reversed", changed(set_tensor("bias", data_offsets=[256, 0])), "expected 256 bytes .* got -256"
)
CASES.packed(14, "offsets negative", changed(set_tensor("bias", data_offsets=[-256, 0])), "below 0")
CASES.packed(
    14,
    "offsets past the end",
    changed(set_tensor("bias", data_offsets=[10**9, 10**9 + 256])),
    "from byte .* within 936",
)
CASES.packed(15, "offsets that disagree with the shape", changed(set_tensor("bias", shape=[63])), "expected 252 bytes")
CASES.packed(
    16,
    "not UTF-8",
    joined(TEXT.replace(b"conv1_1.bias", b"\xffonv1_1.bias", 1), BODY),
    "header: expected JSON in UTF-8, got .utf-8",
)
CASES.packed(16, "a byte order mark", joined(b"\xef\xbb\xbf" + TEXT, BODY), "xef")
CASES.packed(16, "NUL padding", joined(TEXT + bytes(8), BODY), "Extra data")
CASES.packed(17, "nested 200,000 deep", joined(b"[" * 200_000 + b"]" * 200_000, b""), r"\[\[\[")
CASES.packed(18, "top level not an object", joined(b"[]      ", b""), r"\[\]")
CASES.packed(
    19,
    "duplicate name",
    joined(TEXT.replace(b"{", b'{"conv1_1.bias":{"dtype":"F32","shape":[64],"data_offsets":[0,256]},', 1), BODY),
    "a name given twice",
)
CASES.packed(20, "unknown field", changed(set_tensor("bias", zero=0)), "dtype, shape and data_offsets")
for odd in ("", "\x00", "\ud800", "\x1b[2J\x1b[31m", "../../x"):
    said = f"{LAYER}.bias: expected a tensor of that name" if odd.isprintable() and odd else "expected a printable name"
    said = "header: expected JSON in UTF-8" if odd == "\ud800" else said
    CASES.packed(21, f"the name {odd!r}", renamed(odd), said)
many = {f"t{index}": np.zeros(1, np.float32) for index in range(257)}
CASES.packed(22, "over 256 tensors", safetensors.numpy.save(many), "256")
CASES.packed(
    23,
    "an ordinary safetensors file",
    safetensors.numpy.save({"a": np.zeros(3, np.float32)}),
    "vggquant pack",
)


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
