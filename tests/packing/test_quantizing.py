"""Weights to palettized weights: the same on any number of processors, fit to a size, what is lost and changed told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.conftest import Floats
from vggquant.codec.bitstream import Coding
from vggquant.errors import OptionError
from vggquant.files.container import read
from vggquant.files.disk import read_file
from vggquant.files.layouts import write_layout
from vggquant.files.sources import embedded_path, read_source
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.budget import parse_size
from vggquant.packing.packer import pack
from vggquant.packing.unpacker import unpack


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_bytes_do_not_depend_on_jobs(jobs: int, tmp_path: Path, packed_at: dict[int, Path]) -> None:
    pack("vgg19", tmp_path / "x", bits=2, jobs=jobs)
    assert np.array_equal(read_file(tmp_path / "x"), read_file(packed_at[2]))


@pytest.mark.slow
def test_bytes_of_continuous_weights_do_not_depend_on_jobs(vgg11_arrays: dict[str, Floats], tmp_path: Path) -> None:
    arrays = write_layout(vgg11_arrays, "caffe", ARCHITECTURES["vgg11"])
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors")
    for jobs in (1, 2, 8):
        pack(tmp_path / "x.safetensors", tmp_path / f"{jobs}", bits=6, jobs=jobs)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "8").read_bytes()


def test_sqnr_is_recorded(packed_at: dict[int, Path]) -> None:
    embedded, packed = read(embedded_path()), read(packed_at[4])
    assert not embedded.sqnr_db
    assert list(packed.sqnr_db) == list(packed.palettized)
    for name in ("conv1_1.weight", "conv3_3.weight"):
        signal = embedded.array(name).astype(np.float64)
        noise = signal - packed.array(name)
        expected = 10 * np.log10((signal**2).sum() / (noise**2).sum())
        assert packed.sqnr_db[name] == pytest.approx(expected, abs=0.006)


def test_changes_add_up(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    """What licences ask for: true, and nothing forgotten."""
    first = read(embedded_path()).provenance.changes
    assert first == "convolutions alone kept, as codes and codebooks, by vggquant"
    assert read(packed_at[8]).provenance.changes == first
    four = read(packed_at[4]).provenance.changes
    assert four == f"{first}; convolution weights palettized to 4 bits (k-means) by vggquant"
    pack(packed_at[4], tmp_path / "x", bits="conv1_*=2,conv2_*=3,*=4")
    unpack(tmp_path / "x", tmp_path / "y.safetensors")
    expected = f"{four}; convolution weights palettized to 2 to 3 bits (k-means) by vggquant"
    assert read(tmp_path / "x").provenance.changes == expected
    assert read_source(tmp_path / "y.safetensors").weights.provenance.changes == expected


# ---- files made to a size


@pytest.mark.parametrize("size", ["2.6MB", "6MB", "15.0 MiB", 9_000_000])
@pytest.mark.parametrize("coding", ["planes", "huffman"])
def test_a_file_fits_its_size(size: int | str, coding: Coding, tmp_path: Path) -> None:
    budget = parse_size(size)
    report = pack("vgg19", tmp_path / "x", max_size=size, coding=coding, upto="relu3_1")
    whole = pack("vgg19", tmp_path / "y", coding=coding, upto="relu3_1").info.bytes
    assert (tmp_path / "x").stat().st_size == report.info.bytes <= budget
    assert report.info.bytes == whole  # 0.6 MB, all that there is
    if budget < 16_000_000:
        report = pack("vgg19", tmp_path / "x", max_size=budget // 10, coding=coding, upto="relu3_1", force=True)
        assert 0.99 * budget / 10 < report.info.bytes <= budget // 10 or report.info.bytes == whole


def test_the_file_of_a_size_does_not_depend_on_jobs(tmp_path: Path) -> None:
    for jobs in (1, 2, 8):
        pack("vgg19", tmp_path / f"{jobs}", max_size="150kB", upto="relu3_1", jobs=jobs)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes() == (tmp_path / "8").read_bytes()


def test_too_small_a_size_is_refused_with_the_smallest(tmp_path: Path) -> None:
    smallest = pack("vgg19", tmp_path / "x", bits=1, upto="relu2_1").info.bytes
    with pytest.raises(OptionError, match=rf"at least {smallest} bytes, .*got 9000; raise `max_size`"):
        pack("vgg19", tmp_path / "y", max_size=9000, upto="relu2_1")
    assert pack("vgg19", tmp_path / "y", max_size=smallest, upto="relu2_1").info.bytes == smallest
