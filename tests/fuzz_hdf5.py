"""Mutants of Keras' HDF5 files, read through the wall, for `tests.fuzz`.

Each must be refused in one line, or read as h5py itself reads it, in as much time and memory as the limits of the child
process allow; this process must neither hang nor grow. Nearly all of a file is structure here: weights are left out or
small.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from tests.fuzz import WrongEndError
from vggquant.errors import SourceError, VggQuantError
from vggquant.files.hdf5_files import METADATA, read_h5
from vggquant.files.hdf5_plain import read_plain
from vggquant.files.tensors import Array, WeightFile
from vggquant.isolation.messages import Answer, Limits
from vggquant.isolation.parent import OverrunError, read_isolated

try:
    import resource
except ImportError:  # not POSIX
    resource = None  # type: ignore[assignment]

SLOWEST = 10.0  # seconds on the clock, the start of a new child and a busy machine included
LARGEST = 2**28  # bytes by which this process may grow


def saved(fill: Callable[[Any], object], **options: Any) -> bytes:
    """The bytes of an HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        fill(file)
    return buffer.getvalue()


def _keras(file: Any) -> None:
    file.attrs["attribution"], file.attrs["preprocessing"] = "somebody", "caffe"
    file.attrs["layer_names"] = [b"block1_conv1", b"block1_pool"]
    group = file.create_group("block1_conv1/block1_conv1")
    group.attrs["weight_names"] = [b"kernel:0", b"bias:0"]
    group["kernel:0"], group["bias:0"] = np.ones((1, 1, 3, 4), "f4"), np.zeros(4, "f4")


def _packed(file: Any) -> None:
    kernel = np.arange(108, dtype="f4").reshape(3, 3, 3, 4)
    options = {"chunks": (3, 3, 3, 2), "compression": "gzip", "shuffle": True, "fletcher32": True}
    file.create_dataset("layers/block1_conv1/vars/0", data=kernel, **options)
    file["layers/block1_conv1/vars/1"] = np.zeros(4, ">f8")


SEEDS = [saved(_keras), saved(_packed), saved(_keras, libver="latest"), saved(_packed, libver="latest")]


def mutant(seed: int, number: int) -> tuple[bytes, str]:
    """A file, and how it was made: ``raw``, always."""
    rng = random.Random(f"hdf5/{seed}/{number}")
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) - 8)
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                size = rng.choice((1, 2, 4, 8))
                value = rng.choice((0, 1, 16, 2**15, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 16, 2**64 - 1))
                data[at : at + size] = struct.pack("<Q", value)[:size]
            case 3:
                begin, size = rng.randrange(len(data) - 8), rng.choice((4, 8, 24))
                data[at : at + size] = data[begin : begin + size]
            case _:
                del data[at : at + rng.choice((1, 8))]
    return bytes(data), "raw"


def judge(data: bytes, _: str) -> str:
    """How a mutant ended.

    Raises:
        WrongEndError: Not in one line, too late, with too much memory taken here, or as other numbers or texts than
            h5py reads.
    """
    began, before = time.perf_counter(), _peak()
    try:
        file = read_h5(np.frombuffer(data, np.uint8))
        arrays = _arrays(file)
        end = "refused" if arrays is None else "read"
    except VggQuantError as error:
        if len(str(error)) > 5000 or not str(error).isprintable():
            raise WrongEndError(f"a message of several lines: {error!r}") from error
        arrays, end = None, "ended" if "one that " in str(error) else "refused"
    except BaseException as error:
        raise WrongEndError(f"{type(error).__name__}: {error}") from error
    if time.perf_counter() - began > SLOWEST:
        raise WrongEndError(f"{time.perf_counter() - began:.1f} s")
    if _peak() - before > LARGEST:
        raise WrongEndError(f"{_peak() - before} bytes")
    return end if arrays is None else _compared(data, file, arrays)


def _arrays(file: WeightFile) -> dict[str, Array] | None:
    """What a file holds, or nothing if any of it cannot be read: `convolutions` refuses the file for it."""
    try:
        return {name: tensor.read() for name, tensor in file.tensors.items()}
    except ValueError:
        return None


def _compared(data: bytes, file: WeightFile, arrays: dict[str, Array]) -> str:
    """Compare what was read with what h5py reads of it, by path; a mutant may be such that h5py reads nothing."""
    plain = read_plain(np.frombuffer(data, np.uint8), METADATA, "optimizer_weights") is not None
    manner = "read plainly" if plain else "read"
    try:
        answer = read_isolated(f"{__name__}:as_h5py_reads", data, {}, Limits(2**27, 1.5))
    except (VggQuantError, OverrunError):
        return f"{manner}, not by h5py"
    theirs = {(array.shape, array.dtype.str, array.tobytes()) for array in answer.arrays.values()}
    ours = {(array.shape, array.dtype.str, array.tobytes()) for array in arrays.values()}
    if ours != theirs:
        raise WrongEndError("other numbers than h5py reads")
    if dict(file.metadata) != answer.values["texts"]:
        raise WrongEndError("other texts than h5py reads")
    return manner


def as_h5py_reads(data: bytes) -> Answer:
    """All arrays by path, and the texts that are asked for."""
    arrays: dict[str, Array] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[path] = item[()]

    try:
        with h5py.File(io.BytesIO(data)) as file:
            file.visititems(visit)
            texts = {key: str(file.attrs[key]) for key in METADATA if key in file.attrs and file.attrs[key] is not None}
    except Exception as error:
        raise SourceError("a file that h5py reads", f"{error}", "none") from None
    return Answer({"texts": texts}, arrays)


def _peak() -> int:
    """Bytes that this process has held at most."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
