"""Keras' HDF5 files, and what leads out of one or takes too much, cases 63, 75 to 77 and 117 to 119."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import random_arrays
from tests.hostile.cases import UPTO, VGG11, Cases, Prepared
from vggquant.files.hdf5_files import METADATA
from vggquant.files.layouts import write_layout

CASES = Cases()


def keras(folder: Path, change: Callable[[Any], object], dtype: str = "<f4") -> tuple[object, ...]:
    """A Keras file that was changed, and the command that packs it."""
    with h5py.File(folder / "x.h5", "w") as file:
        for name, array in write_layout(random_arrays(VGG11, upto=UPTO), "keras", VGG11).items():
            file[f"{name.partition('/')[0]}/{name}:0"] = array.astype(dtype)
        change(file)
    return ("pack", folder / "x.h5", folder / "out.safetensors", "--arch", "vgg11", "--upto", UPTO)


def keras_case(number: int, name: str, match: str | None, change: Callable[[Any], object], dtype: str = "<f4") -> None:
    CASES.add(number, name, lambda folder: (keras(folder, change, dtype), match))


KERNEL = "block1_conv1/block1_conv1/kernel:0"


def huge(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**20, 2**20), "f4", chunks=(1024, 1024))


def expanding(file: Any) -> None:
    del file[KERNEL]
    size = (3, 3, 3, 64)
    file.create_dataset(KERNEL, size, "f4", maxshape=(None,) * 4, chunks=(3, 3, 3, 2**16), compression="gzip")


def short(file: Any) -> None:
    del file[KERNEL]
    data = file.create_dataset(KERNEL, (3, 3, 3, 64), "f4", chunks=(3, 3, 3, 64))
    data.id.write_direct_chunk((0, 0, 0, 0), bytes(100))  # HDF5 would fill the rest with uninitialised memory


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 64), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 3, 3, 64))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 3, 64), "f4", external=[("/etc/passwd", 0, 6912)])


keras_case(63, "big-endian h5", None, lambda file: None, ">f4")
keras_case(75, "h5 external link", "link", lambda file: file.__setitem__("a", h5py.ExternalLink("o.h5", "/x")))
keras_case(75, "h5 soft link", "link", lambda file: file.__setitem__("a", h5py.SoftLink("/block2_conv1")))
keras_case(75, "h5 of groups within themselves", "a group in two places", lambda file: file.__setitem__("a", file["/"]))
keras_case(
    75, "h5 of too many groups", "at most 4096 objects", lambda f: [f.create_group(f"g{n}") for n in range(5000)]
)
keras_case(76, "h5 that expands", "odd chunks", expanding)
keras_case(76, "h5 of a type alone", "something else", lambda file: file.__setitem__("t", np.dtype("f4")))
keras_case(76, "h5 of nothing", "something else", lambda file: file.__setitem__("n", h5py.Empty("f4")))
keras_case(76, "h5 external data set", "external|virtual", external)
keras_case(76, "h5 of a short chunk", "a chunk of", short)
keras_case(76, "h5 virtual data set", "external|virtual", virtual)
keras_case(77, "h5 that claims a huge shape", "shape", huge)


@CASES.case(117)
def a_text_whose_length_makes_the_library_loop(folder: Path) -> Prepared:
    command = keras(folder, lambda file: file.attrs.create("attribution", "somebody", dtype=h5py.string_dtype()))
    data = bytearray((folder / "x.h5").read_bytes())
    first = data.index(b"GCOL") + 16  # the first object of the heap that holds texts: number, uses and length
    data[first + 8 : first + 16] = struct.pack("<Q", 2**64 - 16)
    (folder / "x.h5").write_bytes(data)
    return command, "one that takes too long to read"


@CASES.case(118)
def a_chunk_that_inflates_to_gigabytes(folder: Path) -> Prepared:
    def bomb(file: Any) -> None:
        del file[KERNEL]
        data = file.create_dataset(KERNEL, (3, 3, 3, 64), "f4", chunks=(3, 3, 3, 64), compression="gzip")
        packer = zlib.compressobj(9)
        first, next_one = (packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
        packed = first + 95 * next_one + packer.flush()
        data.id.write_direct_chunk((0, 0, 0, 0), packed)

    return keras(folder, bomb), "readable data|too much memory|too long"


@CASES.case(118)
def attributes_that_are_all_one_large_text(folder: Path) -> Prepared:
    def large(file: Any) -> None:
        for name in METADATA:
            file.attrs[name] = "x" * 2**24 + "\U0001f600" if name == "changes" else "y"  # in Python 4 bytes each

    command = keras(folder, large)
    data = bytearray((folder / "x.h5").read_bytes())
    heaps = [struct.pack("<Q", found.start()) for found in re.finditer(b"GCOL", data)]
    begins = {}  # of the length, the heap and the number of each text
    for name in METADATA:
        place = data.index(name.encode() + b"\0")
        begins[name] = min(found for heap in heaps if (found := data.find(heap, place)) >= 0) - 4
    text = data[begins["changes"] :][:16]
    for begin in begins.values():
        data[begin : begin + 16] = text
    (folder / "x.h5").write_bytes(data)
    return command, "readable data|too much memory|memory allocation failed"


@CASES.case(119)
def a_thousand_references_to_one_text(folder: Path) -> Prepared:
    def refer(file: Any) -> None:
        file.attrs.create("attribution", ["x" * 2**21, *["y"] * 999], dtype=h5py.string_dtype())

    command = keras(folder, refer)
    data = (folder / "x.h5").read_bytes()
    heaps = [struct.pack("<IQ", 2**21, found.start()) for found in re.finditer(b"GCOL", data)]
    begin = next(data.index(reference) for reference in heaps if reference in data)  # its length and place
    (folder / "x.h5").write_bytes(data[:begin] + data[begin : begin + 16] * 1000 + data[begin + 16_000 :])
    with h5py.File(folder / "x.h5") as file:
        assert file.attrs.get_id("attribution").shape == (1000,)
    return command, None


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
