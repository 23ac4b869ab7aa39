"""Files of plain form are read as h5py reads them, without it; all others are left to it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import GOLDEN, Floats
from tests.files.test_hdf5_files import keras_file, with_more
from vggquant.files.disk import read_file
from vggquant.files.hdf5_files import METADATA, read_h5, read_here
from vggquant.files.hdf5_plain import PlainFile, read_plain
from vggquant.packing.unpacker import unpack


def plainly(path: Path) -> PlainFile | None:
    return read_plain(read_file(path), METADATA, "optimizer_weights")


@pytest.mark.parametrize("kind", ["applications", "tf.keras", "keras 3", "whole model", "with top", "big endian"])
def test_files_of_every_keras_are_plain(kind: str, arrays: dict[str, Floats], tmp_path: Path) -> None:
    path = keras_file(tmp_path / "x.h5", arrays, kind)
    found, data = plainly(path), path.read_bytes()
    assert found is not None
    with h5py.File(path) as file:
        for name, item in found.arrays.items():
            end = item.place + file[name].nbytes
            read = np.frombuffer(data[item.place : end], item.kind).reshape(item.shape)
            assert np.array_equal(read, file[name][()])
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert sorted(found.arrays) == sorted(names)


def test_a_plain_file_needs_neither_h5py_nor_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack(GOLDEN / "planes-4.safetensors", tmp_path / "x.h5")
    theirs = read_here(io.BytesIO((tmp_path / "x.h5").read_bytes()))
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setattr("vggquant.files.hdf5_files.read_isolated", None)
    ours = read_h5(read_file(tmp_path / "x.h5"))
    assert ours.metadata == theirs.values["metadata"]
    assert ours.metadata["attribution"] == "Drawn at random, free of rights"
    assert {name: (item.shape, item.dtype) for name, item in ours.tensors.items()} == theirs.values["tensors"]
    assert all(item.read().size for item in ours.tensors.values())


@pytest.mark.parametrize("size", ["<f2", ">f2", "<f8", ">f8"])
def test_floats_of_every_size(size: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["block1_conv1/kernel"] = np.linspace(-2, 2, 24, dtype=size).reshape(2, 3, 4)
    assert plainly(tmp_path / "x.h5") is not None
    read = read_h5(read_file(tmp_path / "x.h5")).tensors["block1_conv1/kernel"].read()
    assert read.dtype == np.dtype(size)
    assert np.array_equal(read, np.linspace(-2, 2, 24, dtype=size).reshape(2, 3, 4))


def cycle(file: Any) -> None:
    file["block1_conv1/again"] = file["/"]


def many(file: Any) -> None:
    for number in range(5000):
        file[f"x{number}"] = file["block1_conv1/block1_conv1/bias:0"]


CHANGES: dict[str, Callable[[Any], object]] = {
    "a chunk": lambda file: file.create_dataset("x", data=np.ones(4, "f4"), chunks=(2,)),
    "a filter": lambda file: file.create_dataset("x", data=np.ones(4, "f4"), compression="gzip"),
    "a compact array": lambda file: h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space(), compact()),
    "an unwritten array": lambda file: file.create_dataset("x", (4,), "f4"),
    "integers": lambda file: file.__setitem__("x", np.ones(4, "i4")),
    "a soft link": lambda file: file.__setitem__("x", h5py.SoftLink("/block2_conv1")),
    "an external link": lambda file: file.__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
    "external data": lambda file: file.create_dataset("x", (4,), "f4", external=[("raw", 0, 16)]),
    "a type of its own": lambda file: file.__setitem__("x", np.dtype("f4")),
    "a group in itself": cycle,
    "a deep group": lambda file: file.__setitem__("/".join("abcdefghijk"), np.ones(3, "f4")),
    "many names": many,
    "two of one role": lambda file: file.__setitem__("block1_conv1/again/kernel:0", np.ones(3, "f4")),
    "a group of the newest format": lambda file: file.create_group("x", track_order=True),
    "an attribute that is no text": lambda file: file.attrs.__setitem__("attribution", 3),
    "an attribute of many texts": lambda file: file.attrs.__setitem__("attribution", ["a", "b"]),
    "an attribute of fixed length": lambda file: file.attrs.__setitem__("attribution", np.bytes_(b"a")),
}


def space() -> Any:
    return h5py.h5s.create_simple((4,))


def compact() -> Any:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_layout(h5py.h5d.COMPACT)
    return settings


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_left_to_the_library(
    name: str, arrays: dict[str, Floats], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_more(tmp_path / "x.h5", arrays, CHANGES[name])

    def asked(*_: object, **__: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("vggquant.files.hdf5_files.read_isolated", asked)
    with pytest.raises(InterruptedError):
        read_h5(read_file(path))


def test_the_newest_format_is_left_to_the_library(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver="latest") as file:
        file["block1_conv1/kernel"] = np.ones((3, 3), "f4")
    assert plainly(tmp_path / "x.h5") is None


def test_a_file_cut_anywhere_is_not_plain(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["attribution"] = "somebody"
        file["block1_conv1/kernel"] = np.ones((3, 3), "f4")
    data = read_file(tmp_path / "x.h5")
    assert plainly(tmp_path / "x.h5") is not None
    assert not any(read_plain(data[:size], METADATA, "") for size in range(0, data.size, 3))


def with_texts(path: Path) -> bytearray:
    """A file of two texts, in one heap."""
    with h5py.File(path, "w") as file:
        file["block1_conv1/kernel"] = np.ones((3, 3), "f4")
        file.attrs["attribution"], file.attrs["changes"] = "somebody", "trifling"
    return bytearray(path.read_bytes())


def test_texts_as_long_as_those_of_packed_files_are_read(tmp_path: Path) -> None:
    for size, plain in ((2**20, True), (2**20 + 1, False)):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["block1_conv1/kernel"] = np.ones((3, 3), "f4")
            file.attrs["attribution"] = "x" * size
        assert (plainly(tmp_path / "x.h5") is not None) is plain


@pytest.mark.parametrize("number", [0, 1])
def test_heaps_that_can_be_read_in_two_ways_are_left_to_the_library(number: int, tmp_path: Path) -> None:
    data = with_texts(tmp_path / "x.h5")
    assert plainly(tmp_path / "x.h5") is not None
    second = data.index(b"GCOL") + 16 + 24  # behind the heap's beginning and its first text
    assert data[second : second + 2] == b"\2\0"
    data[second] = number  # of the first text again, or of what is free
    assert read_plain(np.frombuffer(data, np.uint8), ("attribution",), "") is None


def test_attributes_without_a_value_are_left_to_the_library(tmp_path: Path) -> None:
    data = with_texts(tmp_path / "x.h5")
    name = data.index(b"attribution\0")
    space = name + 16 + -(-data[name - 4] // 8) * 8  # behind the name and the type
    assert data[space : space + 4] == b"\1\0\0\0"
    data[space : space + 4] = b"\2\0\0\2"
    with h5py.File(io.BytesIO(data)) as file:
        assert file.attrs.get_id("attribution").shape is None
    assert read_plain(np.frombuffer(data, np.uint8), ("attribution",), "") is None
