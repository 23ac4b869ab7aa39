"""Codes, codebooks and scales of a packed file, cases 36 to 52, 121 and 123."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import compressobj

import numpy as np
import pytest

from tests.hostile.cases import Cases, Prepared
from tests.packed import ASCENDING, HUFFMAN, LAYER, changed, rebuilt, set_layer, set_tensor, unaligned
from tests.sealing import reseal, unseal
from vggquant.codec.bitstream import EncodedCodes, decode_codes
from vggquant.errors import ContainerError

CASES = Cases()

for bits in (0, 9, -1):
    CASES.packed(
        36,
        f"bits {bits}",
        changed(set_layer(bits=bits)),
        "below 0" if bits < 0 else f"bits: expected an integer from 1 to 8, got {bits}",
    )
CASES.packed(37, "stream one byte short", rebuilt(weight_codes=np.zeros(647, np.uint8)), "shape")
CASES.packed(37, "stream one byte long", rebuilt(weight_codes=np.zeros(649, np.uint8)), "shape")
CASES.packed(39, "dtype not uint8", changed(set_tensor("weight.codes", dtype="I8")), "U8")
CASES.packed(
    40,
    "a code beyond the codebook",
    rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.full(648, 0xFF, np.uint8)),
    "codes below 7",
)
CASES.packed(41, "codebook empty", rebuilt(weight_codebook=ASCENDING[:0]), "centroids")
CASES.packed(41, "codebook over 2^bits", rebuilt(weight_codebook=np.arange(9, dtype=np.float32)), "centroids")
CASES.packed(42, "codebook of another type", changed(set_tensor("weight.codebook", dtype="I32")), "F32")
CASES.packed(
    42, "codebook of another rank", changed(set_tensor("weight.codebook", shape=[8, 1])), r"centroids, got \(8, 1\)"
)
for name, value in (
    ("weight_codebook", ASCENDING),
    ("weight_scale", np.ones(64, np.float32)),
    ("bias", np.ones(64, np.float32)),
):
    for wrong in (np.nan, np.inf):
        spoilt = value.copy()
        spoilt[-1] = wrong
        CASES.packed(43, f"{wrong} in {name}", rebuilt(**{name: spoilt}), "finite")
CASES.packed(
    43,
    "a scale that overflows",
    rebuilt(weight_codebook=ASCENDING * 1e30, weight_scale=np.full(64, 1e30, np.float32)),
    "weight.scale: expected weights within float32",
)
CASES.packed(44, "centroids unsorted", rebuilt(weight_codebook=ASCENDING[::-1].copy()), "ascending")
CASES.packed(44, "centroids repeated", rebuilt(weight_codebook=np.repeat(ASCENDING[:4], 2)), "ascending")
CASES.packed(45, "shape product overflow", changed(set_tensor("bias", shape=[2**62, 2**62])), "elements, got 2")
CASES.packed(46, "offsets up to 2^64 - 1", changed(set_tensor("bias", data_offsets=[0, 2**64 - 1])), "two offsets")
CASES.packed(47, "rank over 8", changed(set_tensor("bias", shape=[64, *[1] * 8])), "rank 8 at most")
CASES.packed(48, "shape not the architecture's", changed(set_layer(shape=[64, 3, 3, 4])), "shape")


def shared_stream(header: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata["layers"]["conv2_1"] = dict(metadata["layers"][LAYER])
    for suffix in ("weight.codes", "weight.codebook", "bias"):
        header[f"conv2_1.{suffix}"] = dict(header[f"{LAYER}.{suffix}"])


CASES.packed(49, "one stream shared by two layers", changed(shared_stream), "conv2_1.bias: expected data from byte")


def with_stream(stream: bytes) -> bytes:
    """A file of huffman codes with another stream in their place."""
    header, metadata, body = unseal(HUFFMAN)
    codes = header[f"{LAYER}.weight.codes"]
    begin, end = codes["data_offsets"]
    body = body[:begin] + stream + body[end:]
    by = len(stream) - (end - begin)
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]
    codes["data_offsets"], codes["shape"] = [begin, begin + len(stream)], [len(stream)]
    return reseal(header, metadata, body)


def deflated(size: int) -> bytes:
    """So many zeros, deflated."""
    packer = compressobj(9, 8, -15)
    return packer.compress(bytes(size)) + packer.flush()


CASES.packed(50, "output over budget", with_stream(deflated(2**18)), "runs on")
CASES.packed(52, "a huffman stream that ends early", with_stream(deflated(10)), "ends early")
CASES.packed(52, "a huffman stream that runs on", with_stream(deflated(864) + b"\0"), "runs on")
CASES.packed(52, "a huffman stream that expands too far", with_stream(deflated(10**5)), "runs on")


CASES.packed(51, "an unaligned codebook", unaligned(), None)


HUGE = np.float32(3e38)
CASES.packed(
    123,
    "centroids further apart than float32 reaches",
    rebuilt(weight_codebook=np.linspace(-1, 1, 8, dtype=np.float32) * HUGE),
    None,
)
CASES.packed(
    123,
    "such centroids in the wrong order",
    rebuilt(weight_codebook=np.array([-HUGE, HUGE, -HUGE, *range(5)], np.float32)),
    "ascending",
)


@CASES.case(121)
def codes_beyond_the_codebook_packed_again(folder: Path) -> Prepared:
    data = rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.full(648, 0xFF, np.uint8))
    (folder / "x.safetensors").write_bytes(data)
    return ("pack", folder / "x.safetensors", folder / "out.safetensors", "--bits", "3"), "codes below 7"


def test_38_nonzero_padding_is_refused() -> None:
    """VGG's layers have no padding: `bitstream` alone can show it."""
    stream = np.array([0b1000_0001], np.uint8)
    with pytest.raises(ContainerError, match="padding"):
        decode_codes(EncodedCodes(stream=stream, bits=1, count=7, coding="planes"))


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
