"""Any file to weights: what is known of published files, recorded in others, or must be asked; never guessed."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import safetensors.torch
import torch

from tests.conftest import GOLDEN, random_arrays
from tests.files.conftest import UPTO, VGG11
from tests.packed import SMALL
from tests.sealing import reseal, unseal
from vggquant.errors import ContainerError, OptionError, SourceError, VggQuantError
from vggquant.files import disk
from vggquant.files.disk import read_file, sha256
from vggquant.files.known_files import PUBLISHED
from vggquant.files.layouts import write_layout
from vggquant.files.sources import describe, read_source
from vggquant.files.weights import Provenance, Weights
from vggquant.networks.vgg import VGGNetwork, require_vgg
from vggquant.packing.inspection import info, verify
from vggquant.packing.unpacker import unpack

State = dict[str, torch.Tensor]


@pytest.fixture
def floats() -> Weights:
    arrays = random_arrays(VGG11, upto="relu1_1")
    return Weights(VGGNetwork(VGG11, "torch", 1), {}, arrays, Provenance("0" * 64, "vggquant"))


def written(weights: Weights, path: Path, **metadata: str) -> Path:
    arrays = write_layout(weights.plain, "vggquant", VGG11)
    safetensors.numpy.save_file(dict(arrays), path, {**describe(weights), **metadata})
    return path


# ---- preprocessing


def test_unknown_torchvision_names_need_preprocessing(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"torchvision \(torch\) and jcjohnson \(caffe\) share; pass `preprocessing`"):
        read_source(tmp_path / "x.pth", arch="vgg11", upto=UPTO)
    source = read_source(tmp_path / "x.pth", arch="vgg11", upto=UPTO, preprocessing="caffe")
    assert require_vgg(source.weights.network).preprocessing == "caffe"


def test_published_files_are_known_by_their_hash(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state, tmp_path / "renamed.pth")
    prefix = sha256(read_file(tmp_path / "renamed.pth"))[:8]

    def publish(name: str) -> None:
        monkeypatch.setitem(PUBLISHED, prefix, PUBLISHED[name.rpartition("-")[2]])

    def preprocessing(asked: Any = None) -> str:
        weights = read_source(tmp_path / "renamed.pth", arch="vgg11", upto=UPTO, preprocessing=asked).weights
        return require_vgg(weights.network).preprocessing

    publish("vgg19-dcbb9e9d")
    assert preprocessing() == preprocessing("torch") == "torch"
    with pytest.raises(SourceError, match="preprocessing torch, which these weights are known to have, got caffe"):
        preprocessing("caffe")
    publish("vgg19-d01eb7cb")
    assert preprocessing() == "caffe"
    publish("vgg16_features-amdegroot-88682ab5")
    for asked in (None, "torch", "caffe"):
        with pytest.raises(SourceError, match=r"vgg16_features-amdegroot-88682ab5\.pth, which takes RGB"):
            preprocessing(asked)


def test_the_published_names() -> None:
    torch_files = ["8a719046", "19584684", "397923af", "dcbb9e9d", "6002323d", "abd245e5", "6c64b313", "c79401a0"]
    for prefix in torch_files:
        assert PUBLISHED[prefix].preprocessing == "torch"
        assert prefix in PUBLISHED[prefix].name
    for prefix in ("00b39a1b", "d01eb7cb"):
        assert PUBLISHED[prefix].preprocessing == "caffe"
    assert PUBLISHED["88682ab5"].preprocessing is None


def test_recorded_preprocessing_holds(tmp_path: Path) -> None:
    golden = GOLDEN / "planes-4.safetensors"  # of preprocessing torch
    unpack(golden, tmp_path / "x.safetensors")
    source = read_source(tmp_path / "x.safetensors", upto="relu1_1")
    assert require_vgg(source.weights.network).preprocessing == "torch"
    assert "recorded with the weights" in source.notes[0]
    assert source.weights.sqnr_db == {"conv1_1.weight": 12.5}
    for path in (golden, tmp_path / "x.safetensors"):
        with pytest.raises(SourceError, match="preprocessing torch, which these weights are known to have"):
            read_source(path, preprocessing="caffe", upto="relu1_1")
    with pytest.raises(SourceError, match="architecture vgg11"):
        read_source(golden, arch="vgg16")


# ---- other records


def test_spoilt_metadata_of_strangers_is_passed_over(state: State, tmp_path: Path) -> None:
    metadata = {"sqnr_db": "{not json", "preprocessing": "strange"}
    safetensors.torch.save_file(state, tmp_path / "x.safetensors", metadata)
    source = read_source(tmp_path / "x.safetensors", arch="vgg11", upto=UPTO, preprocessing="torch")
    assert not source.weights.sqnr_db


def test_what_was_lost_before_is_not_invented(state: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    source = read_source(tmp_path / "x.safetensors", arch="vgg11", upto=UPTO, preprocessing="torch")
    assert not source.weights.sqnr_db


@pytest.mark.parametrize(
    ("recorded", "found"),
    [
        ('{"conv1_1": 20.5}', {"conv1_1.weight": 20.5}),
        ("[]", {}),
        ("{", {}),
        ("[" * 99999, {}),
        ('{"conv1_1": NaN}', {}),
    ],
)
def test_strange_records_of_sqnr_are_passed_over(
    recorded: str, found: dict[str, float], floats: Weights, tmp_path: Path
) -> None:
    weights = read_source(written(floats, tmp_path / "x", sqnr_db=recorded), upto="relu1_1").weights
    assert weights.sqnr_db == found


@pytest.mark.parametrize("attribution", [None, "somebody"])
def test_attribution_is_recorded_only_where_known(attribution: str | None, floats: Weights, tmp_path: Path) -> None:
    weights = replace(floats, provenance=replace(floats.provenance, attribution=attribution))
    assert ("attribution" in describe(weights)) == (attribution is not None)
    assert read_source(written(weights, tmp_path / "x"), upto="relu1_1").weights.provenance.attribution == attribution


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_texts_that_no_file_should_pass_on_are_refused(text: str, tmp_path: Path) -> None:
    header, metadata, body = unseal(SMALL)
    metadata["attribution"] = text
    (tmp_path / "x").write_bytes(reseal(header, metadata, body))
    with pytest.raises(ContainerError):
        read_source(tmp_path / "x")


# ---- what is refused at once


@pytest.mark.parametrize("options", [{"layout": "x"}, {"preprocessing": "x"}, {"arch": "x"}, {"upto": "relu9_9"}])
def test_unknown_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        read_source("vgg19", **options)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04" + bytes(99), b"\x80\x02" + bytes(99), b"\x89HDF\r\n\x1a\n" + bytes(99)]
)
def test_damaged_files_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(VggQuantError) as caught:
        read_source(tmp_path / "x")
    assert str(tmp_path / "x") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_zeros_is_refused_by_its_first_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(10**9)
    filled: list[int] = []
    original = disk.RegularFile.fill

    def fill(file: disk.RegularFile, begin: int, part: disk.Bytes) -> None:
        filled.append(part.size)
        original(file, begin, part)

    monkeypatch.setattr(disk.RegularFile, "fill", fill)
    for read in (read_source, verify, info):
        with pytest.raises(ContainerError, match="expected a safetensors file, got bytes beginning"):
            read(tmp_path / "x")
    assert 0 < sum(filled) < 4 * disk.HEAD_BYTES


def test_a_folder_that_does_not_flush_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.fsync

    def flush(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    disk.write_file(tmp_path / "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"new"
