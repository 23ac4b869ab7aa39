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
import numpy.typing as npt
import pytest
import safetensors.numpy

from tests import reference
from tests.conftest import GOLDEN
from tests.fuzz import reseal, unseal
from tests.golden.make import digests
from vggquant.codec.palette import dequantize
from vggquant.errors import ContainerError, StorageError
from vggquant.files.container import from_bytes, read, to_bytes, write
from vggquant.files.safetensors import split_file
from vggquant.files.sources import embedded_path
from vggquant.files.storage import read_file
from vggquant.files.weights import QuantizedWeights

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


def changed(
    change: Callable[[dict[str, Any], dict[str, Any]], object], data: bytes | None = None
) -> npt.NDArray[np.uint8]:
    """A file whose header is changed, with checksums made right."""
    header, metadata, body = unseal(data or (GOLDEN / "planes-3.safetensors").read_bytes())
    change(header, metadata)
    return np.frombuffer(reseal(header, metadata, body), np.uint8)


@pytest.mark.parametrize(
    ("where", "key", "wrong", "expected"),
    [
        ((), "architecture", "vgg12", "architecture: expected one of vgg11, vgg13, vgg16, vgg19, got vgg12"),
        ((), "architecture", None, "architecture: expected one of vgg11, vgg13, vgg16, vgg19, got None"),
        ((), "preprocessing", "keras", "preprocessing: expected caffe or torch, got keras"),
        ((), "attribution", 3, "attribution: expected a text or null, got 3"),
        ((), "changes", [], "changes: expected a text or null, got []"),
        ((), "layers", [], "layers: expected layers, got []"),
        ((), "provenance", "x", "provenance: expected folded_batch_norm, layout and sha256, got x"),
        (("provenance",), "sha256", "A" * 64, "provenance: expected folded_batch_norm, layout and sha256"),
        (("provenance",), "layout", 1, "provenance: expected folded_batch_norm, layout and sha256"),
        (("provenance",), "folded_batch_norm", 1, "provenance: expected folded_batch_norm, layout and sha256"),
        ((), "format_version", None, "format_version: expected a whole number, got None"),
        ((), "format_version", 0, "format_version: expected a whole number, got 0"),
        (("layers", LAYER), "bits", 0, "conv1_1.bits: expected an integer from 1 to 8, got 0"),
        (("layers", LAYER), "coding", "zip", "conv1_1.coding: expected planes or huffman, got zip"),
        (("layers", LAYER), "shape", [64, 3, 3], "conv1_1.shape: expected [64, 3, 3, 3], got [64, 3, 3]"),
        (("layers", LAYER), "sqnr_db", 3, "conv1_1.sqnr_db: expected a number or null, got 3"),
        (("layers",), LAYER, 3, "conv1_1: expected an entry, got int"),
    ],
)
def test_wrong_fields_are_named(where: tuple[str, ...], key: str, wrong: object, expected: str) -> None:
    def change(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        for part in where:
            metadata = metadata[part]
        metadata[key] = wrong

    with pytest.raises(ContainerError) as caught:
        from_bytes(changed(change))
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("; the file is damaged, get it again")


@pytest.mark.parametrize("wrong", [3, 3.5, "4", None, True])
def test_a_wrong_number_of_codes_a_byte_is_named(wrong: object) -> None:
    data = (GOLDEN / "huffman-2.safetensors").read_bytes()
    with pytest.raises(ContainerError, match=r"conv1_1\.codes_per_byte: expected one of \(1, 2, 4\), got"):
        from_bytes(changed(lambda _, metadata: metadata["layers"][LAYER].update(codes_per_byte=wrong), data))


@pytest.mark.parametrize("wrong", [3, "ab", {"0": 0, "1": 256}, None, [0], [0, 256, 256], [0, True]])
def test_offsets_of_another_form_are_named(wrong: object) -> None:
    with pytest.raises(ContainerError, match=r"conv1_1\.bias: expected two offsets"):
        from_bytes(changed(lambda header, _: header["conv1_1.bias"].update(data_offsets=wrong)))


def test_what_is_just_within_bounds_is_read() -> None:
    one = np.frombuffer(rebuilt(weight_codebook=ASCENDING[:1], weight_codes=np.zeros(648, np.uint8)), np.uint8)
    assert set(dequantize(from_bytes(one).layers[LAYER].weight).flat) == {ASCENDING[0]}
    many = {f"t{index}": np.zeros([1] * 8, np.float32) for index in range(256)}
    assert len(split_file(np.frombuffer(safetensors.numpy.save(many), np.uint8))[1]) == 256
    split_file(np.frombuffer(safetensors.numpy.save({}), np.uint8))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '\\"changes\\":\\"none\\",\\"format_version\\":1',
            '\\"format_version\\":1,\\"changes\\":\\"none\\"',
            "canonical",
        ),
        ('\\"bits\\":3', '\\"bits\\": 3', "canonical"),
        ('\\"none\\"', '\\"\\ud800\\"', "JSON in UTF-8"),
    ],
)
def test_metadata_of_another_form_is_refused(old: str, new: str, expected: str) -> None:
    header, metadata, body = unseal((GOLDEN / "planes-3.safetensors").read_bytes())
    data = reseal(header, metadata, body, lambda text: text.replace(old.encode(), new.encode(), 1))
    assert data != reseal(header, metadata, body)
    with pytest.raises(ContainerError, match=expected):
        from_bytes(np.frombuffer(data, np.uint8))
