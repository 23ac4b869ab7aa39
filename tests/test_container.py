from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import safetensors.numpy

from tests import reference
from tests.conftest import GOLDEN
from tests.fuzz import reseal, unseal
from tests.golden.make import digests
from vggquant.container import from_bytes, read, to_bytes, write
from vggquant.errors import ContainerError, StorageError
from vggquant.palette import dequantize
from vggquant.sources import embedded_path
from vggquant.storage import read_file
from vggquant.weights import QuantizedWeights

RECORDED = json.loads((GOLDEN / "golden.json").read_text())


def parse(data: bytes) -> QuantizedWeights:
    return from_bytes(np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("name", RECORDED)
def test_golden_files_stay_readable(name: str) -> None:
    assert digests(GOLDEN / name) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_golden_files_restore_as_the_slow_decoder_says(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    expected = reference.restore(data)
    layer = parse(data).layers["conv1_1"]
    assert np.array_equal(dequantize(layer.weight), expected["conv1_1.weight"])
    assert np.array_equal(layer.bias, expected["conv1_1.bias"])


@pytest.mark.parametrize("name", [name for name in RECORDED if not name.startswith("huffman")])
def test_golden_files_are_written_the_same(name: str, tmp_path: Path) -> None:
    """zlib's releases may deflate differently, so huffman is read alike but not written alike."""
    write(tmp_path / name, read(GOLDEN / name))
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_safetensors_loads_the_same(name: str) -> None:
    layer = read(GOLDEN / name).layers["conv1_1"]
    tensors = safetensors.numpy.load_file(GOLDEN / name)
    assert np.array_equal(tensors["conv1_1.weight.codes"].ravel(), layer.weight.codes.stream)
    assert np.array_equal(tensors["conv1_1.weight.codebook"], layer.weight.codebook)
    assert np.array_equal(tensors["conv1_1.bias"], layer.bias)
    assert ("conv1_1.weight.scale" in tensors) == (layer.weight.scale is not None)


def test_provenance_and_preprocessing_come_back(tmp_path: Path) -> None:
    weights = read(GOLDEN / "planes-4.safetensors")
    assert weights.preprocessing == "torch"
    assert weights.provenance.attribution == "Drawn at random, free of rights"
    assert weights.layers["conv1_1"].sqnr_db == 12.5
    assert not weights.complete
    changed = replace(weights, provenance=replace(weights.provenance, attribution=None, folded_batch_norm=True))
    write(tmp_path / "x", changed)
    assert read(tmp_path / "x").provenance == changed.provenance


SMALL = (GOLDEN / "planes-3.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["planes-3.safetensors", "huffman-2.safetensors", "scale.safetensors"])
def test_every_flipped_bit_is_refused(name: str) -> None:
    data = np.frombuffer((GOLDEN / name).read_bytes(), np.uint8).copy()
    for place in range(data.size):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(ContainerError):
                from_bytes(data)
            data[place] ^= 1 << bit
    from_bytes(data)


def test_every_truncation_and_extension_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(ContainerError):
            parse(SMALL[:length])
    with pytest.raises(ContainerError):
        parse(SMALL + b"\0")


def test_resealing_alone_changes_nothing() -> None:
    assert reseal(*unseal(SMALL)) == SMALL


LAYER = "conv1_1"
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def set_layer(**fields: Any) -> Change:
    return lambda header, metadata: metadata["layers"][LAYER].update(fields)


def set_field(**fields: Any) -> Change:
    return lambda header, metadata: metadata.update(fields)


def set_tensor(suffix: str, **fields: Any) -> Change:
    return lambda header, metadata: header[f"{LAYER}.{suffix}"].update(fields)


RESEALED: dict[str, tuple[Change, str]] = {
    "version missing": (lambda h, m: m.pop("format_version"), "format_version"),
    "version newer": (set_field(format_version=2), "upgrade vggquant"),
    "version zero": (set_field(format_version=0), "format_version"),
    "version true": (set_field(format_version=True), "format_version"),
    "seal missing": (lambda h, m: m.pop("header_crc32"), "header_crc32"),
    "unknown architecture": (set_field(architecture="vgg12"), "one of vgg11"),
    "architecture is a list": (set_field(architecture=["vgg11"]), "one of vgg11"),
    "unknown preprocessing": (set_field(preprocessing="bgr"), "caffe or torch"),
    "attribution is a number": (set_field(attribution=7), "a text or null"),
    "provenance is a list": (set_field(provenance=[]), "folded_batch_norm"),
    "provenance without hash": (set_field(provenance={"layout": "x", "folded_batch_norm": False}), "sha256"),
    "an unknown field": (set_field(author="x"), "fields of version 1"),
    "layers is a list": (set_field(layers=[]), "layers"),
    "no layers": (set_field(layers={}), "first layers"),
    "another architecture's layers": (lambda h, m: m["layers"].update(conv9_9={}), "first layers"),
    "a layer is null": (lambda h, m: m["layers"].update({LAYER: None}), "an entry"),
    "bits 0": (set_layer(bits=0), "1 to 8"),
    "bits 9": (set_layer(bits=9), "1 to 8"),
    "bits -1": (set_layer(bits=-1), "below 0"),
    "bits true": (set_layer(bits=True), "1 to 8"),
    "bits 3.0": (set_layer(bits=3.0), "1 to 8"),
    "bits a text": (set_layer(bits="3"), "1 to 8"),
    "other bits": (set_layer(bits=4), "shape"),
    "unknown coding": (set_layer(coding="lzma"), "planes or huffman"),
    "huffman without grouping": (set_layer(coding="huffman"), "codes_per_byte"),
    "huffman with a wrong grouping": (set_layer(coding="huffman", codes_per_byte=4), "codes_per_byte"),
    "huffman that is no smaller": (set_layer(coding="huffman", codes_per_byte=2), "a stream under"),
    "planes with a grouping": (set_layer(codes_per_byte=1), "fields of version 1"),
    "another shape": (set_layer(shape=[64, 3, 3, 4]), "shape"),
    "true in the shape": (set_layer(shape=[64, 3, 3, 3.0]), "shape"),
    "sqnr is a text": (set_layer(sqnr_db="1"), "a number or null"),
    "sqnr is infinite": (set_layer(sqnr_db=float("inf")), "JSON"),
    "sqnr is a whole number": (set_layer(sqnr_db=12), "a number or null"),
    "an unknown layer field": (set_layer(zero=0), "fields of version 1"),
    "checksum missing": (lambda h, m: m["layers"][LAYER].pop("crc32"), "crc32"),
    "codes of another type": (set_tensor("weight.codes", dtype="I8"), "expected U8"),
    "codebook of another type": (set_tensor("weight.codebook", dtype="I32"), "expected F32"),
    "codebook of rank 2": (set_tensor("weight.codebook", shape=[8, 1]), "centroids"),
    "bias of rank 2": (set_tensor("bias", shape=[64, 1]), "shape"),
    "codes of rank 2": (set_tensor("weight.codes", shape=[1, 648]), "shape"),
    "entry without tensor": (lambda h, m: h.update({"x": h.pop(f"{LAYER}.bias")}), "a tensor of that name"),
    "more metadata": (lambda h, m: h["__metadata__"].update(author="x"), "canonical"),
    "another format": (lambda h, m: h["__metadata__"].update(format="tf"), "canonical"),
}


@pytest.mark.parametrize(("change", "match"), RESEALED.values(), ids=RESEALED)
def test_resealed_mutants_are_refused(change: Change, match: str) -> None:
    header, metadata, body = unseal(SMALL)
    change(header, metadata)
    with pytest.raises(ContainerError, match=match):
        parse(reseal(header, metadata, body))


def rebuilt(**arrays: Any) -> bytes:
    """The small file with other tensors."""
    header, metadata, _ = unseal(SMALL)
    tensors = safetensors.numpy.load(SMALL)
    for name, array in arrays.items():
        key = f"{LAYER}.{name.replace('_', '.')}"
        if array is None:
            del tensors[key]
        else:
            tensors[key] = np.asarray(array)
    data = safetensors.numpy.save(tensors, {"format": "pt", "vggquant": ""})
    length = struct.unpack("<Q", data[:8])[0]
    inner = json.loads(data[8 : 8 + length])
    return reseal({**inner, "__metadata__": header["__metadata__"]}, metadata, data[8 + length :])


ASCENDING = np.arange(8, dtype=np.float32)
TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "codebook empty": ({"weight_codebook": np.zeros(0, np.float32)}, "1 to 8 centroids"),
    "codebook too large": ({"weight_codebook": np.arange(9, dtype=np.float32)}, "1 to 8 centroids"),
    "codebook unsorted": ({"weight_codebook": ASCENDING[::-1].copy()}, "ascending"),
    "codebook repeated": ({"weight_codebook": np.repeat(ASCENDING[:4], 2)}, "ascending"),
    "NaN centroid": ({"weight_codebook": np.where(ASCENDING == 7, np.nan, ASCENDING)}, "finite"),
    "infinite centroid": ({"weight_codebook": np.where(ASCENDING == 7, np.inf, ASCENDING)}, "finite"),
    "infinite bias": ({"bias": np.full(64, -np.inf, np.float32)}, "bias: expected finite"),
    "NaN scale": ({"weight_scale": np.full(64, np.nan, np.float32)}, "scale: expected finite"),
    "short scale": ({"weight_scale": np.ones(63, np.float32)}, "shape"),
    "short bias": ({"bias": np.ones(63, np.float32)}, "shape"),
    "short codes": ({"weight_codes": np.zeros(647, np.uint8)}, "shape"),
    "long codes": ({"weight_codes": np.zeros(649, np.uint8)}, "shape"),
    "no codebook": ({"weight_codebook": None}, "a tensor of that name"),
    "a tensor too many": ({"extra": np.zeros(1, np.float32)}, "only tensors of its layers"),
}


@pytest.mark.parametrize(("arrays", "match"), TENSORS.values(), ids=TENSORS)
def test_resealed_tensors_are_refused(arrays: dict[str, Any], match: str) -> None:
    arrays = {name: np.float32(a) if np.asarray(a).dtype == np.float64 else a for name, a in arrays.items()}
    with pytest.raises(ContainerError, match=match):
        parse(rebuilt(**arrays))


def test_a_smaller_codebook_is_read_and_its_codes_are_checked() -> None:
    weights = parse(rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.zeros(648, np.uint8)))
    assert (dequantize(weights.layers[LAYER].weight) == 0).all()
    weights = parse(rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.full(648, 0xFF, np.uint8)))
    with pytest.raises(ContainerError, match="codes below 7"):
        dequantize(weights.layers[LAYER].weight)


def test_an_unaligned_file_loads() -> None:
    """Without the header's padding every float32 lies at an odd address."""
    length = struct.unpack("<Q", SMALL[:8])[0]
    text = SMALL[8 : 8 + length].rstrip()
    text += b" " * (1 - len(text) % 2)
    seal = re.compile(rb'(?<=header_crc32\\":\\")[0-9a-f]{8}')
    unsealed = struct.pack("<Q", len(text)) + seal.sub(b"00000000", text)
    moved = seal.sub(f"{crc32(unsealed):08x}".encode(), unsealed) + SMALL[8 + length :]
    expected = dequantize(parse(SMALL).layers[LAYER].weight)
    assert np.array_equal(dequantize(parse(moved).layers[LAYER].weight), expected)


def test_an_ordinary_safetensors_file_says_use_pack(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ContainerError, match=r"x\.safetensors: expected a packed file, .*vggquant pack"):
        read(path)


def test_errors_name_file_and_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(SMALL[:-1] + bytes([SMALL[-1] ^ 1]))
    with pytest.raises(ContainerError, match=r"x\.safetensors: conv1_1: expected checksum"):
        read(path)


def test_writing_is_deterministic() -> None:
    weights = read(GOLDEN / "planes-5.safetensors")
    first, second = to_bytes(weights), to_bytes(weights)
    assert first[0] == second[0]
    assert all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="--force"):
        write(path, read(GOLDEN / "planes-1.safetensors"))
    assert path.read_bytes() == b"old"
    write(path, read(GOLDEN / "planes-1.safetensors"), force=True)
    assert np.array_equal(read_file(path), read_file(GOLDEN / "planes-1.safetensors"))


def test_every_flipped_bit_of_the_embedded_header_is_refused() -> None:
    data = read_file(embedded_path()).copy()
    length = 8 + int.from_bytes(data[:8].tobytes(), "little")
    for place in range(length):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(ContainerError):
                from_bytes(data)
            data[place] ^= 1 << bit
