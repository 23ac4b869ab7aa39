"""Fields and tensors of a file of version 1: whatever is not as specified is refused, checksums right or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.packed import (
    ASCENDING,
    HUFFMAN,
    LAYER,
    Change,
    changed,
    parse,
    rebuilt,
    set_field,
    set_layer,
    set_tensor,
)
from vggquant.errors import ContainerError

RESEALED: dict[str, tuple[Change, str]] = {
    "version missing": (lambda h, m: m.pop("format_version"), "format_version"),
    "version newer": (set_field(format_version=3), "expected format version 1 or 2, got 3; upgrade vggquant"),
    "another version's number": (set_field(format_version=2), "fields of version 2"),
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
    with pytest.raises(ContainerError, match=match):
        parse(changed(change))


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
        parse(changed(change))
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("; the file is damaged, get it again")


@pytest.mark.parametrize("wrong", [3, 3.5, "4", None, True])
def test_a_wrong_number_of_codes_a_byte_is_named(wrong: object) -> None:
    with pytest.raises(ContainerError, match=r"conv1_1\.codes_per_byte: expected one of \(1, 2, 4\), got"):
        parse(changed(set_layer(codes_per_byte=wrong), HUFFMAN))


@pytest.mark.parametrize("wrong", [3, "ab", {"0": 0, "1": 256}, None, [0], [0, 256, 256], [0, True]])
def test_offsets_of_another_form_are_named(wrong: object) -> None:
    with pytest.raises(ContainerError, match=r"conv1_1\.bias: expected two offsets"):
        parse(changed(set_tensor("bias", data_offsets=wrong)))
