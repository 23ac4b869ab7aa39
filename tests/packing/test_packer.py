"""`pack`: how large its files are, what re-packing keeps, and what it refuses before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import GOLDEN
from tests.packed import ASCENDING, rebuilt
from vggquant.codec.bitstream import Coding
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import ContainerError, OptionError, StorageError
from vggquant.files.container import read
from vggquant.files.disk import read_file, sha256
from vggquant.files.sources import embedded_path
from vggquant.packing.inspection import info, verify
from vggquant.packing.packer import pack
from vggquant.progress import Progress

SIZES = (2_524_504, 5_026_992, 7_529_608, 10_032_480, 12_535_864, 15_040_272, 17_546_728, 20_057_280)


def copied(tensors: Mapping[str, PalettizedTensor], others: Mapping[str, PalettizedTensor]) -> bool:
    """Whether two files hold the same codes and codebooks."""
    return list(tensors) == list(others) and all(
        np.array_equal(tensor.codes.stream, others[name].codes.stream)
        and np.array_equal(tensor.codebook, others[name].codebook)
        for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("bits", range(1, 9))
def test_sizes(bits: int, packed_at: dict[int, Path]) -> None:
    assert abs(packed_at[bits].stat().st_size - SIZES[bits - 1]) <= 16 * 1024


def test_huffman_at_8_bits(tmp_path: Path) -> None:
    report = pack("vgg19", tmp_path / "h", coding="huffman")
    assert report.info.bytes <= 18_600_000
    assert {layer.coding for layer in report.info.layers if math.prod(layer.shape) > 10_000} == {"huffman"}
    embedded, packed = read(embedded_path()), read(tmp_path / "h")
    for name in embedded.palettized:
        assert np.array_equal(embedded.array(name), packed.array(name))


def test_bytes_of_a_layer_are_its_codes_codebook_scale_and_bias() -> None:
    found = info(GOLDEN / "scale.safetensors")
    assert found.layers[0].bytes == 1728 * 3 // 8 + 4 * 8 + 4 * 64 + 4 * 64
    header = 8 + int.from_bytes((GOLDEN / "scale.safetensors").read_bytes()[:8], "little")
    assert found.bytes == header + found.layers[0].bytes


# ---- what is packed again


def test_repacking_at_the_same_width_copies(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    pack(packed_at[3], tmp_path / "again", bits=3)
    pack(packed_at[3], tmp_path / "mixed", bits="conv1_*=2,*=3", coding="huffman")
    original, again, mixed = read(packed_at[3]), read(tmp_path / "again"), read(tmp_path / "mixed")
    assert copied(original.palettized, again.palettized)
    assert original.sqnr_db == again.sqnr_db
    for name in original.palettized:
        if name.startswith("conv1_"):
            assert mixed.palettized[name].codes.bits == 2
        else:
            assert np.array_equal(original.array(name), mixed.array(name))
            assert mixed.sqnr_db[name] == original.sqnr_db[name]
    assert again.provenance.sha256 == sha256(read_file(packed_at[3]))
    assert again.provenance.attribution == original.provenance.attribution
    assert "Simonyan" in str(again.provenance.attribution)
    assert "CC BY 4.0" in str(again.provenance.attribution)


def test_repacking_copies_scale(tmp_path: Path) -> None:
    golden = GOLDEN / "scale.safetensors"
    pack(golden, tmp_path / "x", bits=3)
    weights = read(tmp_path / "x")
    assert weights.palettized["conv1_1.weight"].scale is not None
    assert np.array_equal(weights.array("conv1_1.weight"), read(golden).array("conv1_1.weight"))
    pack(golden, tmp_path / "y", bits=8)  # another width: scale goes into the weights
    assert read(tmp_path / "y").palettized["conv1_1.weight"].scale is None


@pytest.mark.parametrize("coding", ["planes", "huffman"])
def test_repacking_leaves_out_centroids_that_nothing_uses(coding: Coding, tmp_path: Path) -> None:
    codes = np.tile(np.array([0b01, 0b11, 0b00, 0b01], np.uint8), 108)
    idle = rebuilt(weight_codebook=ASCENDING, weight_codes=np.concatenate([codes, np.full(216, 0xFF, np.uint8)]))
    (tmp_path / "idle").write_bytes(idle)
    with pytest.raises(ContainerError, match="every centroid used, got"):
        verify(tmp_path / "idle")
    pack(tmp_path / "idle", tmp_path / "out", bits=3, coding=coding)
    verify(tmp_path / "out")
    before, after = read(tmp_path / "idle"), read(tmp_path / "out")
    assert np.array_equal(before.array("conv1_1.weight"), after.array("conv1_1.weight"))
    assert after.palettized["conv1_1.weight"].codebook.size < 8


def test_upto_leaves_out_deeper_layers(tmp_path: Path) -> None:
    report = pack("vgg19", tmp_path / "x", upto="relu5_1")
    assert report.info.layers[-1].name == "conv5_1"
    assert report.info.bytes < 0.66 * SIZES[7]
    with pytest.raises(OptionError, match="a layer up to conv5_1, where the file ends"):
        pack(tmp_path / "x", tmp_path / "y", upto="relu5_2")


# ---- what the caller is told


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    notes = pack("vgg19", tmp_path / "x", bits=1, upto="relu5_1").notes
    assert notes[-1] == "left out conv5_2, conv5_3, conv5_4: 35% of the weights, about 0.9 MB"


def test_the_word_for_the_embedded_weights_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that arguments that were swapped are noticed."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"out: expected a file name, got vgg19, the word .*; .* write ./vgg19$"):
        pack(GOLDEN / "planes-4.safetensors", "vgg19")
    assert not (tmp_path / "vgg19").exists()
    pack(GOLDEN / "planes-4.safetensors", "./vgg19")
    assert (tmp_path / "vgg19").exists()


def test_never_is_all_of_it_said_to_be_left_out(tmp_path: Path) -> None:
    notes = pack("vgg19", tmp_path / "x", bits=1, upto="relu1_1").notes
    assert ": 99% of the weights, about " in notes[-1]


def test_progress_counts_layers(tmp_path: Path) -> None:
    seen: list[Progress] = []
    pack("vgg19", tmp_path / "x", bits=1, upto="relu2_2", progress=seen.append)
    assert [report.done for report in seen] == [1, 2, 3, 4]
    assert {report.total for report in seen} == {4}
    assert any("conv2_1, 1 bits" in report.detail for report in seen)


# ---- what is refused


def test_widths_and_a_size_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="leave out `bits` or `max_size`"):
        pack("vgg19", tmp_path / "x", bits=4, max_size="6MB")


def test_options_are_refused_without_naming_the_file(tmp_path: Path) -> None:
    """Where a width or a size is wrong, the file is not."""
    with pytest.raises(OptionError, match=r"^bits: expected 1 to 8, or layer=width, got 9"):
        pack("vgg19", tmp_path / "x", bits=9, upto="relu1_1")
    with pytest.raises(OptionError, match=r"^max_size: expected a size in bytes"):
        pack("vgg19", tmp_path / "x", max_size="big", upto="relu1_1")
    with pytest.raises(OptionError, match=r"^max_size: expected at least \d+ bytes"):
        pack("vgg19", tmp_path / "x", max_size=9, upto="relu1_1")


def test_damage_that_packing_finds_names_file_and_layer(tmp_path: Path) -> None:
    path = tmp_path / "x"
    codes, codebook = np.full(648, 0xFF, np.uint8), np.arange(7, dtype=np.float32)
    path.write_bytes(rebuilt(weight_codes=codes, weight_codebook=codebook))
    with pytest.raises(ContainerError, match=rf"^{path}: conv1_1: expected codes below 7"):
        pack(path, tmp_path / "y", bits=2)


def test_the_output_is_checked_before_any_work(tmp_path: Path) -> None:
    existing = tmp_path / "x.safetensors"
    existing.write_bytes(b"old")
    with pytest.raises(StorageError, match="pass `force=True`"):
        pack("vgg19", existing)
    with pytest.raises(StorageError, match="create it first"):
        pack("vgg19", tmp_path / "no" / "x.safetensors")
    with pytest.raises(StorageError, match="a folder"):
        pack("vgg19", tmp_path, force=True)
    assert existing.read_bytes() == b"old"


def test_the_output_may_not_be_the_source(tmp_path: Path) -> None:
    source = tmp_path / "x.safetensors"
    source.write_bytes((GOLDEN / "planes-4.safetensors").read_bytes())
    (tmp_path / "soft.safetensors").symlink_to(source)
    (tmp_path / "hard.safetensors").hardlink_to(source)
    for out in ("x", "soft", "hard"):
        with pytest.raises(StorageError, match="the same file"):
            pack(source, tmp_path / f"{out}.safetensors", force=True)
