"""Keras' files, as every Keras lays them out; whatever leads out of one is refused."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import GOLDEN, POSIX, Floats
from tests.files.conftest import UPTO, reads_as
from tests.hostile import test_keras_sources
from vggquant.errors import SourceError
from vggquant.files.hdf5_files import read_here
from vggquant.files.sources import read_source
from vggquant.networks.vgg import require_vgg
from vggquant.packing.unpacker import unpack

KERNEL = "block1_conv1/block1_conv1/kernel:0"


def keras_file(path: Path, arrays: dict[str, Floats], kind: str) -> Path:
    """A weights file as different Keras versions lay it out."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if kind == "whole model" else file
        for name in (name.removesuffix(".weight") for name in arrays if name.endswith(".weight")):
            block = f"block{name[4]}_conv{name[6]}"
            hwio, bias = arrays[f"{name}.weight"].transpose(2, 3, 1, 0), arrays[f"{name}.bias"]
            match kind:
                case "applications":
                    root[f"{block}/{block}_W_1:0"], root[f"{block}/{block}_b_1:0"] = hwio, bias
                case "keras 3":
                    root[f"layers/{block}/vars/0"], root[f"layers/{block}/vars/1"] = hwio, bias
                case "big endian":
                    root[f"{block}/{block}/kernel:0"] = hwio.astype(">f4")
                    root[f"{block}/{block}/bias:0"] = bias.astype(">f4")
                case _:
                    root[f"{block}/{block}/kernel:0"], root[f"{block}/{block}/bias:0"] = hwio, bias
        if kind == "with top":
            root["fc1/fc1/kernel:0"], root["fc1/fc1/bias:0"] = np.zeros((4, 2)), np.zeros(2)
            root["predictions/predictions/kernel:0"] = np.zeros((4, 2))
    return path


def with_more(path: Path, arrays: dict[str, Floats], change: Callable[[Any], object]) -> Path:
    """A weights file that was changed."""
    with h5py.File(keras_file(path, arrays, "tf.keras"), "a") as file:
        change(file)
    return path


@pytest.mark.parametrize("kind", ["applications", "tf.keras", "keras 3", "whole model", "with top", "big endian"])
def test_files_of_every_keras(kind: str, arrays: dict[str, Floats], tmp_path: Path) -> None:
    path = keras_file(tmp_path / "x.h5", arrays, kind)
    assert reads_as(path, arrays)
    source = read_source(path, arch="vgg11", upto=UPTO)
    assert "caffe: what the keras names stand for" in source.notes[0]
    assert any("left out" in note for note in source.notes) == (kind == "with top")


def test_files_of_ours_say_their_preprocessing(tmp_path: Path) -> None:
    unpack(GOLDEN / "planes-4.safetensors", tmp_path / "x.h5")  # of preprocessing torch
    weights = read_source(tmp_path / "x.h5", upto="relu1_1").weights
    assert require_vgg(weights.network).preprocessing == "torch"
    assert weights.provenance.attribution == "Drawn at random, free of rights"


def test_h5py_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py.File(tmp_path / "x.h5", "w").close()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"expected h5py .*, got no such package; pip install 'vggquant\[keras\]'"):
        read_here(io.BytesIO((tmp_path / "x.h5").read_bytes()))


def test_groups_too_deep_and_of_optimizers_are_not_entered(arrays: dict[str, Floats], tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file["optimizer_weights/x/block1_conv1/kernel:0"] = np.zeros(3)
        file["/".join("abcdefghij")] = np.zeros(3)

    assert reads_as(with_more(tmp_path / "x.h5", arrays, change), arrays)


def test_data_sets_of_no_layer_are_named(arrays: dict[str, Floats], tmp_path: Path) -> None:
    path = with_more(tmp_path / "x.h5", arrays, lambda file: file.__setitem__("other/data", np.zeros(3)))
    with pytest.raises(SourceError, match="other/data: expected only vgg11's layers"):
        read_source(path, arch="vgg11", upto=UPTO)


def test_damaged_data_are_refused(arrays: dict[str, Floats], tmp_path: Path) -> None:
    path = keras_file(tmp_path / "x.h5", arrays, "tf.keras")
    with h5py.File(path, "a") as file:
        weight = file[KERNEL][()]
        del file[KERNEL]
        data = file.create_dataset(KERNEL, data=weight, compression="gzip", chunks=weight.shape)
        place, size = data.id.get_chunk_info(0).byte_offset, data.id.get_chunk_info(0).size
    raw = bytearray(path.read_bytes())
    raw[place : place + size] = bytes(size)
    path.write_bytes(raw)
    with pytest.raises(SourceError, match=r"block1_conv1/kernel: expected readable data"):
        read_source(path, arch="vgg11", upto=UPTO)


@pytest.mark.parametrize("compression", ["gzip", None])
@pytest.mark.parametrize("size", [100, 8000])
@pytest.mark.parametrize("skipped", [0, 1])
def test_chunks_of_another_size_than_they_should_have(
    compression: str | None, size: int, skipped: int, arrays: dict[str, Floats], tmp_path: Path
) -> None:
    """HDF5 would fill what lacks with memory as it happens to be."""

    def change(file: Any) -> None:
        del file[KERNEL]
        shape = (3, 3, 3, 64)  # 6,912 bytes
        data = file.create_dataset(KERNEL, shape, "f4", chunks=shape, compression=compression)
        stored = zlib.compress(bytes(size)) if compression and not skipped else bytes(size)
        data.id.write_direct_chunk((0, 0, 0, 0), stored, filter_mask=skipped if compression else 0)

    path = with_more(tmp_path / "x.h5", arrays, change)
    with pytest.raises(SourceError, match=r"expected readable data, got a chunk of .* bytes (instead of|for) 6912"):
        read_source(path, arch="vgg11", upto=UPTO)


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"shuffle": True, "compression": 9}])
@pytest.mark.parametrize("fletcher32", [False, True])
def test_chunks_are_read(options: dict[str, Any], fletcher32: bool, arrays: dict[str, Floats], tmp_path: Path) -> None:
    def change(file: Any) -> None:
        weight = file[KERNEL][()]
        del file[KERNEL]
        file.create_dataset(KERNEL, data=weight, chunks=(2, 3, 3, 50), fletcher32=fletcher32, **options)

    assert reads_as(with_more(tmp_path / "x.h5", arrays, change), arrays)


def test_floats_of_a_form_that_no_machine_has(arrays: dict[str, Floats], tmp_path: Path) -> None:
    """The exponent of these is biased by one more, which h5py allows for."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(128)

    def change(file: Any) -> None:
        weight = file[KERNEL][()]
        del file[KERNEL]
        space = h5py.h5s.create_simple(weight.shape)
        h5py.h5d.create(file["block1_conv1/block1_conv1"].id, b"kernel:0", kind, space)
        file[KERNEL][...] = weight

    assert reads_as(with_more(tmp_path / "x.h5", arrays, change), arrays)


@POSIX
def test_ctrl_c_while_the_library_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = test_keras_sources.CASES.made["117 a text whose length makes the library loop"](tmp_path)
    monkeypatch.setattr("vggquant.files.hdf5_files._SECONDS", 60.0)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        read_source(str(made[1]))
    assert time.monotonic() - began < 20


def soft_link(file: Any) -> None:
    file["block1_conv1/soft"] = h5py.SoftLink("/block2_conv1")


def external_link(file: Any) -> None:
    file["block1_conv1/other"] = h5py.ExternalLink("other.h5", "/x")


def external_data(file: Any) -> None:
    file.create_dataset("block1_conv2/x", (4,), "f4", external=[("raw", 0, 16)])


def twice(file: Any) -> None:
    file["block1_conv1/again/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (soft_link, "a link"),
        (external_link, "a link"),
        (external_data, "external data"),
        (twice, "one data set of that role"),
    ],
)
def test_files_that_lead_elsewhere_are_refused(
    change: Callable[[Any], object], match: str, arrays: dict[str, Floats], tmp_path: Path
) -> None:
    path = with_more(tmp_path / "x.h5", arrays, change)
    with pytest.raises(SourceError, match=match):
        read_source(path, arch="vgg11", upto=UPTO)
