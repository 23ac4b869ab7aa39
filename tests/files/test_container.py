"""What every packed file is held to: golden bytes, seals, checksums, and how it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests import reference
from tests.conftest import GOLDEN
from tests.golden.make import digests
from tests.packed import ASCENDING, SMALL, parse, rebuilt, unaligned
from tests.sealing import reseal, unseal
from vggquant.errors import ContainerError, StorageError
from vggquant.files.container import from_bytes, read, to_bytes, write
from vggquant.files.disk import read_file
from vggquant.files.safetensors import split_file
from vggquant.files.sources import embedded_path
from vggquant.networks.vgg import require_vgg

RECORDED = json.loads((GOLDEN / "golden.json").read_text())


@pytest.mark.parametrize("name", RECORDED)
def test_golden_files_stay_readable(name: str) -> None:
    assert digests(GOLDEN / name) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED)
def test_golden_files_restore_as_the_slow_decoder_says(name: str) -> None:
    data = (GOLDEN / name).read_bytes()
    expected = reference.restore(data)
    weights = parse(data)
    assert np.array_equal(weights.array("conv1_1.weight"), expected["conv1_1.weight"])
    assert np.array_equal(weights.array("conv1_1.bias"), expected["conv1_1.bias"])


@pytest.mark.parametrize("name", [name for name in RECORDED if not name.startswith("huffman")])
def test_golden_files_are_written_the_same(name: str, tmp_path: Path) -> None:
    """zlib's releases may deflate differently, so huffman is read alike but not written alike."""
    write(tmp_path / name, read(GOLDEN / name))
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", RECORDED)
def test_safetensors_loads_the_same(name: str) -> None:
    weights = read(GOLDEN / name)
    weight = weights.palettized["conv1_1.weight"]
    tensors = safetensors.numpy.load_file(GOLDEN / name)
    assert np.array_equal(tensors["conv1_1.weight.codes"].ravel(), weight.codes.stream)
    assert np.array_equal(tensors["conv1_1.weight.codebook"], weight.codebook)
    assert np.array_equal(tensors["conv1_1.bias"], weights.plain["conv1_1.bias"])
    assert ("conv1_1.weight.scale" in tensors) == (weight.scale is not None)


def test_provenance_and_preprocessing_come_back(tmp_path: Path) -> None:
    weights = read(GOLDEN / "planes-4.safetensors")
    network = require_vgg(weights.network)
    assert network.preprocessing == "torch"
    assert not network.complete
    assert weights.provenance.attribution == "Drawn at random, free of rights"
    assert weights.sqnr_db == {"conv1_1.weight": 12.5}
    changed = replace(weights, provenance=replace(weights.provenance, attribution=None, folded_batch_norm=True))
    write(tmp_path / "x", changed)
    assert read(tmp_path / "x").provenance == changed.provenance


# ---- damage


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


def test_every_flipped_bit_of_the_embedded_header_is_refused() -> None:
    data = read_file(embedded_path()).copy()
    length = 8 + int.from_bytes(data[:8].tobytes(), "little")
    for place in range(length):
        for bit in range(8):
            data[place] ^= 1 << bit
            with pytest.raises(ContainerError):
                from_bytes(data)
            data[place] ^= 1 << bit


def test_every_truncation_and_extension_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(ContainerError):
            parse(SMALL[:length])
    with pytest.raises(ContainerError):
        parse(SMALL + b"\0")


def test_resealing_alone_changes_nothing() -> None:
    assert reseal(*unseal(SMALL)) == SMALL


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
    header, metadata, body = unseal(SMALL)
    data = reseal(header, metadata, body, lambda text: text.replace(old.encode(), new.encode(), 1))
    assert data != reseal(header, metadata, body)
    with pytest.raises(ContainerError, match=expected):
        parse(data)


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


# ---- what is odd but sound


def test_a_smaller_codebook_is_read_and_its_codes_are_checked() -> None:
    weights = parse(rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.zeros(648, np.uint8)))
    assert (weights.array("conv1_1.weight") == 0).all()
    weights = parse(rebuilt(weight_codebook=ASCENDING[:7], weight_codes=np.full(648, 0xFF, np.uint8)))
    with pytest.raises(ContainerError, match="codes below 7"):
        weights.array("conv1_1.weight")
    with pytest.raises(ContainerError, match=r"^conv1_1: expected codes below 7"):
        weights.restored()


def test_an_unaligned_file_loads() -> None:
    expected = parse(SMALL).array("conv1_1.weight")
    assert np.array_equal(parse(unaligned()).array("conv1_1.weight"), expected)


def test_what_is_just_within_bounds_is_read() -> None:
    one = rebuilt(weight_codebook=ASCENDING[:1], weight_codes=np.zeros(648, np.uint8))
    assert set(parse(one).array("conv1_1.weight").flat) == {ASCENDING[0]}
    many = {f"t{index}": np.zeros([1] * 8, np.float32) for index in range(256)}
    assert len(split_file(np.frombuffer(safetensors.numpy.save(many), np.uint8))[1]) == 256
    split_file(np.frombuffer(safetensors.numpy.save({}), np.uint8))


# ---- writing


def test_writing_is_deterministic() -> None:
    weights = read(GOLDEN / "planes-5.safetensors")
    first, second = to_bytes(weights), to_bytes(weights)
    assert first[0] == second[0]
    assert all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="pass `force=True`"):
        write(path, read(GOLDEN / "planes-1.safetensors"))
    assert path.read_bytes() == b"old"
    write(path, read(GOLDEN / "planes-1.safetensors"), force=True)
    assert np.array_equal(read_file(path), read_file(GOLDEN / "planes-1.safetensors"))
