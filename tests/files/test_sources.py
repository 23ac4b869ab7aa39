"""Corners of other programs' files that need no command: what is missing, too old, or of another kind."""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from tests.conftest import GOLDEN, random_layers
from tests.fuzz import reseal, unseal
from vggquant.errors import ContainerError, SourceError
from vggquant.files import storage
from vggquant.files.layouts import write_layout
from vggquant.files.sources import describe, read_source
from vggquant.files.weights import FloatWeights, Provenance
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.inspection import info, verify

VGG11 = ARCHITECTURES["vgg11"]


@pytest.fixture
def floats() -> FloatWeights:
    return FloatWeights(VGG11, "torch", random_layers(VGG11, upto="relu1_1"), Provenance("0" * 64, "vggquant"))


def written(weights: FloatWeights, path: Path, **metadata: str) -> Path:
    arrays = write_layout(weights.layers, "vggquant", VGG11)
    safetensors.numpy.save_file(dict(arrays), path, {**describe(weights), **metadata})
    return path


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cu117", "2.4.0a0"])
def test_pth_needs_a_torch_without_the_hole(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved({"conv1_1.weight": torch.zeros(3)}, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(SourceError) as caught:
        read_source(path)
    assert str(caught.value) == (
        f"{path}: expected torch 2.10 or newer to read a .pth, got torch {version}, whose reader can be made to run "
        "code (CVE-2026-24747); upgrade torch, or convert the file to safetensors where you trust it"
    )


def test_other_files_need_no_such_torch(floats: FloatWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.0")
    assert read_source(written(floats, tmp_path / "x"), upto="relu1_1").weights.architecture == VGG11
    assert read_source(GOLDEN / "planes-3.safetensors").weights.architecture == VGG11


def test_torch_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a torch state dict, got list; save model"):
        read_source(saved([torch.zeros(3)], tmp_path / "x.pth"))
    with pytest.raises(SourceError, match="got no tensors"):
        read_source(saved({"epoch": 3}, tmp_path / "x.pth"))


def test_h5_files_need_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py.File(tmp_path / "x.h5", "w").close()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"expected h5py .*, got no such package; pip install 'vggquant\[keras\]'"):
        read_source(tmp_path / "x.h5")


def keras(path: Path, change: Callable[[Any], object]) -> Path:
    with h5py.File(path, "w") as file:
        for name, layer in random_layers(VGG11, upto="relu1_1").items():
            block = f"block{name[4]}_conv{name[6]}"
            file[f"{block}/kernel:0"] = layer.weight.transpose(2, 3, 1, 0)
            file[f"{block}/bias:0"] = layer.bias
        change(file)
    return path


def test_h5_groups_too_deep_and_of_optimizers_are_not_entered(tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file["optimizer_weights/x/block1_conv1/kernel:0"] = np.zeros(3)
        file["/".join("abcdefghij")] = np.zeros(3)

    found = read_source(keras(tmp_path / "x.h5", change), arch="vgg11", upto="relu1_1").weights
    assert set(found.layers) == {"conv1_1"}


def test_h5_data_sets_of_no_layer_are_named(tmp_path: Path) -> None:
    path = keras(tmp_path / "x.h5", lambda file: file.__setitem__("other/data", np.zeros(3)))
    with pytest.raises(SourceError, match="other/data: expected only vgg11's layers"):
        read_source(path, arch="vgg11", upto="relu1_1")


@pytest.mark.parametrize(
    ("recorded", "found"),
    [('{"conv1_1": 20.5}', 20.5), ("[]", None), ("{", None), ("[" * 99999, None), ('{"conv1_1": NaN}', None)],
)
def test_strange_records_of_sqnr_are_passed_over(
    recorded: str, found: float | None, floats: FloatWeights, tmp_path: Path
) -> None:
    weights = read_source(written(floats, tmp_path / "x", sqnr_db=recorded), upto="relu1_1").weights
    assert weights.layers["conv1_1"].sqnr_db == found


@pytest.mark.parametrize("attribution", [None, "somebody"])
def test_attribution_is_recorded_only_where_known(
    attribution: str | None, floats: FloatWeights, tmp_path: Path
) -> None:
    weights = replace(floats, provenance=replace(floats.provenance, attribution=attribution))
    assert ("attribution" in describe(weights)) == (attribution is not None)
    assert read_source(written(weights, tmp_path / "x"), upto="relu1_1").weights.provenance.attribution == attribution


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = saved({"conv1_1.weight": torch.zeros(999)}, tmp_path / "x.pth")
    data = bytearray(path.read_bytes())
    place = data.index(bytes(3000))
    data[place + 1500] ^= 1  # not in what pads its header
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"got a damaged member x/data/0; get it again"):
        read_source(path)


def test_a_file_of_zeros_is_refused_by_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**9)
    filled: list[int] = []
    original = storage._fill

    def fill(file: Any, part: storage.Bytes) -> bool:
        filled.append(part.size)
        return original(file, part)

    monkeypatch.setattr(storage, "_fill", fill)
    for read in (read_source, verify, info):
        with pytest.raises(ContainerError, match="expected a safetensors file, got bytes beginning"):
            read(tmp_path / "x")
    assert sum(filled) <= 3 * storage.HEAD_BYTES


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_texts_that_no_file_should_pass_on_are_refused(text: str, tmp_path: Path) -> None:
    header, metadata, body = unseal((GOLDEN / "planes-3.safetensors").read_bytes())
    metadata["attribution"] = text
    (tmp_path / "x").write_bytes(reseal(header, metadata, body))
    with pytest.raises(ContainerError):
        read_source(tmp_path / "x")


def test_a_folder_that_does_not_flush_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fsync

    def flush(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    storage.write_file(tmp_path / "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"new"


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", bytes(1000))
    data = (tmp_path / "x.pth").read_bytes()
    begin, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[begin:end]
    directory = entry + entry.replace(b"x/data", b"y/data")
    record = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, len(directory), begin, 0)
    (tmp_path / "x.pth").write_bytes(data[:begin] + directory + record)
    with pytest.raises(SourceError, match="got members that overlap"):
        read_source(tmp_path / "x.pth")
