"""The file of any network but a VGG: golden bytes, every damage, every wrong field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests import reference
from tests.conftest import GOLDEN
from tests.sealing import reseal, unseal
from tests.toy import Floats, ToyNetwork, toy_family, toy_weights
from vggquant.codec.palette import palettize, palettize_together
from vggquant.errors import ContainerError, NetworkError, VggQuantError
from vggquant.files.container import from_bytes, read, to_bytes, write
from vggquant.files.disk import sha256
from vggquant.files.weights import Weights

FOLDER = GOLDEN / "version2"
NAMES = ("huffman.safetensors", "mixed.safetensors", "shared.safetensors")
SHARED = (FOLDER / "shared.safetensors").read_bytes()
HUFFMAN = (FOLDER / "huffman.safetensors").read_bytes()

Json = dict[str, Any]
Change = Callable[[Json, Json], object]


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with toy_family():
        yield


def parse(data: bytes) -> Weights:
    return from_bytes(np.frombuffer(data, np.uint8))


def bytes_of(weights: Weights) -> bytes:
    header, chunks = to_bytes(weights)
    return header + b"".join(chunk.tobytes() for chunk in chunks)


# ---- what is read and written


@pytest.mark.parametrize("name", NAMES)
def test_golden_files_restore_as_ever(name: str) -> None:
    expected = json.loads((FOLDER / "golden.json").read_text())[name]
    data = (FOLDER / name).read_bytes()
    assert sha256(data) == expected.pop("file")
    weights = read(FOLDER / name)
    slow = reference.restore(data)
    assert set(expected) == set(slow) == {spec.name for spec in weights.network.tensors}
    for tensor, digest in expected.items():
        assert sha256(weights.array(tensor).reshape(-1).view(np.uint8)) == digest
        assert np.array_equal(weights.array(tensor), slow[tensor])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_written_again_byte_for_byte(name: str, tmp_path: Path) -> None:
    write(tmp_path / "x", read(FOLDER / name))
    assert (tmp_path / "x").read_bytes() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_reads_it_too(name: str) -> None:
    tensors = safetensors.numpy.load((FOLDER / name).read_bytes())
    assert set(tensors) <= {"codes", "codebooks", "scales", "plain"}
    assert all(tensor.ndim == 1 for tensor in tensors.values())


def test_a_network_of_float32_alone_needs_no_codes() -> None:
    weights = toy_weights()
    again = parse(bytes_of(weights))
    assert not again.palettized
    assert again.network == weights.network
    assert again.provenance == weights.provenance
    assert all(np.array_equal(again.plain[name], array) for name, array in weights.plain.items())


def test_equal_codebooks_are_stored_once_and_shared_ones_stay_shared() -> None:
    weights = toy_weights()
    conv, depthwise = palettize_together([weights.plain["conv.weight"], weights.plain["depthwise.weight"]], 4)
    plain = {name: array for name, array in weights.plain.items() if name not in ("conv.weight", "depthwise.weight")}
    copied = replace(depthwise, codebook=depthwise.codebook.copy())
    made = replace(weights, palettized={"conv.weight": conv, "depthwise.weight": copied}, plain=plain)
    again = parse(bytes_of(made))
    assert unseal(bytes_of(made))[1]["codebooks"] == [16]
    assert again.palettized["conv.weight"].codebook is again.palettized["depthwise.weight"].codebook


def test_the_header_of_a_small_network_is_short() -> None:
    assert int.from_bytes(SHARED[:8], "little") < 900


def test_a_family_that_is_not_known_asks_for_an_upgrade() -> None:
    header, metadata, body = unseal(SHARED)
    metadata["network"]["family"] = "later"
    with pytest.raises(
        NetworkError,
        match=r"network.family: expected a family known here: adain, arbitrary, johnson, vgg, toy, got later; upgrade",
    ):
        parse(reseal(header, metadata, body))


def test_what_only_a_vgg_can_do_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"shared.safetensors: expected a VGG, got a network of the family toy"):
        read(FOLDER / "shared.safetensors", upto="relu1_1")


# ---- damage


@pytest.mark.parametrize("name", ["mixed.safetensors", "shared.safetensors"])
def test_every_flipped_bit_is_refused(name: str) -> None:
    data = np.frombuffer((FOLDER / name).read_bytes(), np.uint8).copy()
    for place in range(data.size):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(VggQuantError):
                from_bytes(data)
            data[place] ^= 1 << bit
    from_bytes(data)


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_and_extension_is_refused(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    for length in range(len(data)):
        with pytest.raises(ContainerError):
            parse(data[:length])
    with pytest.raises(ContainerError):
        parse(data + b"\0")


def set_field(**fields: Any) -> Change:
    return lambda header, metadata: metadata.update(fields)


def set_entry(name: str = "conv.weight", **fields: Any) -> Change:
    return lambda header, metadata: metadata["weights"][name].update(fields)


def set_network(**fields: Any) -> Change:
    return lambda header, metadata: metadata["network"].update(fields)


def set_configuration(**fields: Any) -> Change:
    return lambda header, metadata: metadata["network"]["configuration"].update(fields)


def set_tensor(name: str, **fields: Any) -> Change:
    return lambda header, metadata: header[name].update(fields)


# by name: the file, what is changed, and what the error says
WRONG: dict[str, tuple[bytes, Change, str]] = {
    "version missing": (SHARED, lambda h, m: m.pop("format_version"), "format_version: expected a whole number"),
    "version newer": (SHARED, set_field(format_version=3), "format_version: .* upgrade vggquant"),
    "version 1": (SHARED, set_field(format_version=1), "the fields of version 1"),
    "seal missing": (SHARED, lambda h, m: m.pop("header_crc32"), "header_crc32"),
    "an unknown field": (SHARED, set_field(author="x"), "the fields of version 2, got author"),
    "a field missing": (SHARED, lambda h, m: m.pop("codebooks"), "the fields of version 2, got codebooks"),
    "attribution is a number": (SHARED, set_field(attribution=7), "attribution: expected a text or null, got 7"),
    "changes is a list": (SHARED, set_field(changes=[]), "changes: expected a text or null"),
    "provenance is a list": (SHARED, set_field(provenance=[]), "provenance: expected layout and sha256"),
    "provenance has more": (
        SHARED,
        lambda h, m: m["provenance"].update(folded_batch_norm=False),
        "provenance: expected layout and sha256",
    ),
    "upper-case hash": (SHARED, lambda h, m: m["provenance"].update(sha256="A" * 64), "layout and sha256"),
    "network is a list": (SHARED, set_field(network=[]), "network: expected a record of family and configuration"),
    "network has more": (SHARED, set_network(name="x"), "network: expected a record of family and configuration"),
    "family is a list": (SHARED, set_network(family=["toy"]), "network.family: expected a family known here"),
    "a VGG in version 2": (
        SHARED,
        set_network(family="vgg", configuration={"architecture": "vgg11", "convolutions": 1, "preprocessing": "caffe"}),
        "network.family: expected a network other than a VGG",
    ),
    "configuration is a list": (SHARED, set_network(configuration=[]), "network.configuration: expected an object"),
    "configuration has more": (SHARED, set_configuration(depth=3), "network: expected a configuration of"),
    "channels true": (SHARED, set_configuration(channels=True), "network.channels: expected an integer from 1 to 4096"),
    "channels 8.0": (SHARED, set_configuration(channels=8.0), "network.channels: expected an integer"),
    "no channels": (SHARED, set_configuration(channels=0), "network.channels: expected an integer from 1 to 4096"),
    "too many channels": (SHARED, set_configuration(channels=10**9), "network.channels: expected an integer from 1"),
    "a network out of bounds": (
        SHARED,
        set_configuration(channels=4096, classes=65536),
        "network: expected at most 268435456 elements",
    ),
    "one channel more": (SHARED, set_configuration(channels=9), "shape"),
    "weights is a list": (SHARED, set_field(weights=[]), "weights: expected weights"),
    "an unknown weight": (
        SHARED,
        lambda h, m: m["weights"].update(x=m["weights"]["fc.weight"]),
        "weights of the network",
    ),
    "a bias with codes": (
        SHARED,
        lambda h, m: m["weights"].update({"fc.bias": m["weights"]["fc.weight"]}),
        "weights: expected weights of the network, got fc.bias",
    ),
    "a weight less": (SHARED, lambda h, m: m["weights"].pop("fc.weight"), "codebooks in the order of their use"),
    "an entry is null": (SHARED, lambda h, m: m["weights"].update({"fc.weight": None}), "fc.weight: expected an entry"),
    "an unknown field of a weight": (
        SHARED,
        set_entry(zero=0),
        "the fields of version 2, got zero",
    ),
    "bits 0": (SHARED, set_entry(bits=0), "conv.weight.bits: expected an integer from 1 to 8, got 0"),
    "bits 9": (SHARED, set_entry(bits=9), "conv.weight.bits: expected an integer from 1 to 8, got 9"),
    "bits true": (SHARED, set_entry(bits=True), "conv.weight.bits: expected an integer from 1 to 8"),
    "bits 3.0": (SHARED, set_entry(bits=3.0), "conv.weight.bits: expected an integer from 1 to 8"),
    "other bits": (SHARED, set_entry(bits=4), "codes: expected shape"),
    "too few bits for the codebook": (
        SHARED,
        set_entry(bits=2),
        "a codebook of at most 4 centroids",
    ),
    "codebook missing": (SHARED, lambda h, m: m["weights"]["conv.weight"].pop("codebook"), "fields of version 2"),
    "codebook beyond the last": (SHARED, set_entry(codebook=2), "conv.weight.codebook: expected an integer below 2"),
    "codebook a text": (SHARED, set_entry(codebook="0"), "conv.weight.codebook: expected an integer below 2"),
    "codebooks in another order": (
        SHARED,
        lambda h, m: (m["codebooks"].reverse(), [e.update(codebook=1 - e["codebook"]) for e in m["weights"].values()]),
        "codebooks: expected codebooks in the order of their use",
    ),
    "a codebook that nobody uses": (
        SHARED,
        lambda h, m: m["codebooks"].append(1),
        "codebooks in the order of their use",
    ),
    "codebook of no centroids": (SHARED, set_field(codebooks=[0, 32]), "codebooks: expected sizes from 1 to 256"),
    "codebook of 257 centroids": (SHARED, set_field(codebooks=[8, 257]), "codebooks: expected sizes from 1 to 256"),
    "codebooks is a number": (SHARED, set_field(codebooks=8), "codebooks: expected sizes from 1 to 256"),
    "codebooks of other sizes": (SHARED, set_field(codebooks=[7, 32]), "codebooks: expected shape"),
    "scaled false": (SHARED, set_entry(scaled=False), "conv.weight.scaled: expected true"),
    "scaled without scales": (SHARED, set_entry(scaled=True), "scales: expected a tensor of that name"),
    "sqnr null": (SHARED, set_entry(sqnr_db=None), "conv.weight.sqnr_db: expected a number"),
    "sqnr a whole number": (SHARED, set_entry(sqnr_db=12), "conv.weight.sqnr_db: expected a number"),
    "huffman without its length": (SHARED, set_entry(codes_per_byte=1), "fields of version 2, got bytes"),
    "a length without huffman": (SHARED, set_entry(bytes=81), "fields of version 2, got bytes"),
    "a wrong grouping": (HUFFMAN, set_entry(codes_per_byte=3), r"conv.weight.codes_per_byte: expected one of \(1, 2\)"),
    "grouping true": (HUFFMAN, set_entry(codes_per_byte=True), "conv.weight.codes_per_byte: expected one of"),
    "a stream of no bytes": (HUFFMAN, set_entry(bytes=0), "conv.weight.bytes: expected an integer from"),
    "a stream that is no smaller": (
        HUFFMAN,
        set_entry(bytes=648),
        "expected an integer from 162, below 648",
    ),
    "a stream that expands too far": (HUFFMAN, set_entry(bytes=161), "expected an integer from 162, below"),
    "a stream one byte longer": (
        HUFFMAN,
        lambda h, m: m["weights"]["conv.weight"].update(bytes=m["weights"]["conv.weight"]["bytes"] + 1),
        "codes: expected shape",
    ),
    "codes of another type": (SHARED, set_tensor("codes", dtype="I8"), "codes: expected U8, got I8"),
    "plain of another type": (SHARED, set_tensor("plain", dtype="I32"), "plain: expected F32, got I32"),
    "codebooks of rank 2": (SHARED, set_tensor("codebooks", shape=[40, 1]), "codebooks: expected shape"),
    "codes missing": (SHARED, lambda h, m: h.update(x=h.pop("codes")), "codes: expected a tensor of that name"),
    "more metadata": (SHARED, lambda h, m: h["__metadata__"].update(author="x"), "canonical"),
    "another format": (SHARED, lambda h, m: h["__metadata__"].update(format="tf"), "canonical"),
}


@pytest.mark.parametrize(("data", "change", "match"), WRONG.values(), ids=WRONG)
def test_wrong_headers_with_right_checksums_are_refused(data: bytes, change: Change, match: str) -> None:
    header, metadata, body = unseal(data)
    change(header, metadata)
    with pytest.raises((ContainerError, NetworkError), match=match) as caught:
        parse(reseal(header, metadata, body))
    assert str(caught.value).isprintable()


def with_blob(name: str, change: Callable[[Floats], object], data: bytes = SHARED) -> bytes:
    """A file with other numbers of the same length."""
    header, metadata, body = unseal(data)
    begin, end = header[name]["data_offsets"]
    array = np.frombuffer(body[begin:end], np.uint8 if name == "codes" else "<f4").copy()
    change(array)
    return reseal(header, metadata, body[:begin] + array.tobytes() + body[end:])


def put(index: int, value: float) -> Callable[[Floats], object]:
    return lambda array: array.__setitem__(index, value)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("codebooks", put(0, np.nan), "conv.weight.codebook: expected finite values"),
        ("codebooks", put(7, np.inf), "conv.weight.codebook: expected finite values"),
        ("codebooks", lambda a: a[:8].sort() or a.__setitem__(slice(0, 8), a[:8][::-1].copy()), "ascending centroids"),
        ("codebooks", lambda a: a.__setitem__(1, a[0]), "conv.weight.codebook: expected ascending centroids"),
        ("plain", put(0, np.nan), "norm.weight: expected finite values"),
        ("plain", put(-1, -np.inf), "fc.bias: expected finite values"),
    ],
)
def test_wrong_numbers_with_right_checksums_are_refused(name: str, change: Any, match: str) -> None:
    with pytest.raises(ContainerError, match=match):
        parse(with_blob(name, change))


def test_a_scale_that_overflows_its_weights_is_refused() -> None:
    mixed = (FOLDER / "mixed.safetensors").read_bytes()
    with pytest.raises(ContainerError, match=r"depthwise.weight.scale: expected weights within float32"):
        parse(with_blob("scales", put(0, 3e38), with_blob("codebooks", put(-1, 3e38), mixed)))
    with pytest.raises(ContainerError, match=r"depthwise.weight.scale: expected finite values"):
        parse(with_blob("scales", put(0, np.nan), mixed))


def test_codes_beyond_the_codebook_are_refused_where_they_are_restored() -> None:
    weights = parse(SHARED)
    tensor = weights.palettized["fc.weight"]
    array = weights.array("fc.weight")
    few = palettize(np.where(array > 0, np.float32(1), np.float32(0)), 5)
    made = replace(weights, palettized={**weights.palettized, "fc.weight": replace(few, codes=tensor.codes)})
    with pytest.raises(ContainerError, match=r"expected codes below 2, the codebook's size"):
        parse(bytes_of(made)).array("fc.weight")


def test_padding_that_is_not_zero_is_refused() -> None:
    network = ToyNetwork(1, 1)  # whose 27 codes of a bit leave five bits of their last byte
    arrays = {spec.name: np.full(spec.shape, 0.5, np.float32) for spec in network.tensors}
    tensor = palettize(arrays.pop("conv.weight"), 1)
    tensor.codes.stream[-1] |= 0x80
    weights = Weights(network, {"conv.weight": tensor}, arrays, toy_weights().provenance)
    with pytest.raises(ContainerError, match="expected zero padding"):
        parse(bytes_of(weights)).array("conv.weight")


def test_a_deflate_stream_with_something_behind_its_end_is_refused() -> None:
    header, metadata, body = unseal(HUFFMAN)
    metadata["weights"]["conv.weight"]["bytes"] += 1  # takes a byte of the next stream
    metadata["weights"]["depthwise.weight"]["bytes"] -= 1
    weights = parse(reseal(header, metadata, body))
    with pytest.raises(ContainerError, match=r"deflate stream of \d+ bytes, got one that runs on"):
        weights.array("conv.weight")
    with pytest.raises(ContainerError):
        weights.array("depthwise.weight")


@pytest.mark.parametrize("wrong", ["0000000A", "0", "", None, 7])
def test_a_checksum_of_another_form_is_refused(wrong: object) -> None:
    header, metadata, body = unseal(SHARED)
    digits = json.dumps(metadata["data_crc32"]), json.dumps(wrong)
    old, new = (f'\\"data_crc32\\":{text.replace(chr(34), chr(92) + chr(34))}'.encode() for text in digits)
    data = reseal(header, metadata, body, lambda text: text.replace(old, new))
    assert data != SHARED
    with pytest.raises(ContainerError, match="data_crc32: expected 8 lower-case hexadecimal digits"):
        parse(data)


def test_unaligned_files_load() -> None:
    header, metadata, body = unseal(SHARED)
    order = sorted((entry["data_offsets"][0], name) for name, entry in header.items() if name != "__metadata__")
    parts = {name: body[slice(*header[name]["data_offsets"])] for _, name in order}
    moved = b""
    for name in ("codes", *[name for name in parts if name != "codes"]):  # 121 bytes of codes come first
        header[name]["data_offsets"] = [len(moved), len(moved) + len(parts[name])]
        moved += parts[name]
    assert len(parts["codes"]) % 4
    again, before = parse(reseal(header, metadata, moved)), parse(SHARED)
    assert all(np.array_equal(again.array(spec.name), before.array(spec.name)) for spec in again.network.tensors)
