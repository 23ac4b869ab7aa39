from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from vggquant.errors import ContainerError
from vggquant.files.safetensors import join_file, split_file


def build(header: Any, data: bytes = b"") -> bytes:
    """A file from a header given as text, bytes or JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int = 0, end: int = 4, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def split(data: bytes) -> dict[str, Any]:
    _, tensors, _ = split_file(np.frombuffer(data, np.uint8))
    return {name: tensor.array() for name, tensor in tensors.items()}


def test_our_files_are_byte_for_byte_those_of_safetensors() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "b.codes": rng.integers(0, 9, (3, 5)).astype(np.uint8),
        "a.codebook": rng.normal(size=7).astype(np.float32),
        "c.bias": rng.normal(size=3).astype(np.float32),
        "turned": rng.normal(size=(4, 2)).astype(np.float32).T,
    }
    header, chunks = join_file(arrays, {"format": "pt"})
    data = header + b"".join(chunk.tobytes() for chunk in chunks)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    assert data == safetensors.numpy.save(contiguous, {"format": "pt"})
    found = split(data)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_half_types_are_read_exactly() -> None:
    bfloat = np.array([0x3F80, 0xC040], "<u2")
    data = build(
        {"h": entry(0, 4, (2,), "F16"), "b": entry(4, 8, (2,), "BF16"), "d": entry(8, 16, (1,), "F64")},
        np.array([1.5, -2], "<f2").tobytes() + bfloat.tobytes() + np.array([0.1]).tobytes(),
    )
    found = split(data)
    assert found["h"].tolist() == [1.5, -2]
    assert found["b"].tolist() == [1, -3]
    assert found["d"].tolist() == [0.1]


def test_unaligned_data_is_read() -> None:
    data = build({"c": entry(0, 1, (1,), "U8"), "f": entry(1, 5)}, b"\x07" + np.array([2.5], "<f4").tobytes())
    assert split(data)["f"].tolist() == [2.5]


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01"])
def test_a_picture_in_the_place_of_weights_is_called_so(start: bytes) -> None:
    with pytest.raises(ContainerError, match=r"^expected a safetensors file, got a picture; name a file of weights$"):
        split(start + bytes(64))


GOOD = build({"x": entry()}, b"1234")
REFUSED: dict[str, bytes] = {
    "empty": b"",
    "under 8 bytes": GOOD[:7],
    "header length 0": bytes(8),
    "header over 1 MiB": struct.pack("<Q", 2**20 + 1) + b"{" * (2**20 + 1),
    "header longer than the file": struct.pack("<Q", 999) + GOOD[8:],
    "length 2^63": struct.pack("<Q", 2**63) + GOOD[8:],
    "an HTML page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "a git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 20063848\n",
    "a pickle": b"\x80\x02}q\x00." + bytes(64),
    "a zip": b"PK\x03\x04" + bytes(64),
    "trailing bytes": GOOD + b"!",
    "overlap": build({"x": entry(), "y": entry(2, 6)}, b"123456"),
    "a hole": build({"x": entry(), "y": entry(5, 9)}, b"123456789"),
    "offsets reversed": build({"x": entry(4, 0)}, b"1234"),
    "offsets negative": build({"x": entry(-4, 0)}),
    "offsets past the end": build({"x": entry(0, 4)}, b"123"),
    "offsets up to 2^64": build({"x": entry(0, 2**64 - 1)}, b"1234"),
    "offsets that disagree with the shape": build({"x": entry(shape=(2,))}, b"1234"),
    "shape product overflow": build({"x": entry(shape=(2**62, 2**62))}, b"1234"),
    "rank 9": build({"x": entry(shape=(1,) * 9)}, b"1234"),
    "a fraction in the shape": build({"x": entry(shape=(1.0,))}, b"1234"),
    "true in the shape": build({"x": entry(shape=(True,))}, b"1234"),
    "minus zero": build(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[-0,4]}}', b"1234"),
    "a huge integer": build(b'{"x":{"dtype":"F32","shape":[' + b"9" * 4301 + b'],"data_offsets":[0,4]}}', b"1234"),
    "not UTF-8": build(b'{"\xff":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "a byte order mark": build(b"\xef\xbb\xbf" + json.dumps({"x": entry()}).encode(), b"1234"),
    "NUL padding": build(json.dumps({"x": entry()}).encode() + b"\0", b"1234"),
    "nested 200,000 deep": build(b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "no object": build([1, 2]),
    "a duplicate name": build(
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"1234",
    ),
    "an unknown field": build({"x": {**entry(), "crc": 1}}, b"1234"),
    "an unknown type": build({"x": entry(dtype="F31")}, b"1234"),
    "an empty name": build({"": entry()}, b"1234"),
    "a terminal escape in a name": build({"\x1b[2J": entry()}, b"1234"),
    "a surrogate in a name": build({"\ud800": entry()}, b"1234"),
    "over 256 tensors": build({f"t{i}": entry(4 * i, 4 * i + 4) for i in range(257)}, bytes(4 * 257)),
    "metadata that is no map": build({"__metadata__": [], "x": entry()}, b"1234"),
    "metadata that is no text": build({"__metadata__": {"a": 1}, "x": entry()}, b"1234"),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes) -> None:
    with pytest.raises(ContainerError) as caught:
        split(data)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_good_file_is_accepted() -> None:
    assert list(split(GOOD)) == ["x"]


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(ContainerError):
        split(GOOD[:length])


def test_whatever_is_accepted_safetensors_accepts_too() -> None:
    """Random single-byte changes of a header: what we read, safetensors reads alike."""
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(3000):
        data = bytearray(build({"__metadata__": {"a": "b"}, "x": entry(), "y": entry(4, 6, (2,), "U8")}, b"123456"))
        data[int(rng.integers(8, len(data)))] = int(rng.integers(32, 127))
        try:
            ours = split(bytes(data))
        except ContainerError:
            continue
        accepted += 1
        try:
            theirs = safetensors.numpy.load(bytes(data))
        except SafetensorError as error:  # pragma: no cover
            pytest.fail(f"accepted, but refused by safetensors: {bytes(data)!r}: {error}")
        assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in theirs)
    assert accepted > 20
