"""Fuzzing that coverage guides: `python -m tests.fuzz_guided packed -max_total_time=600`; needs `pip install atheris`.

Kinds of files are packed, safetensors, torch and h5; what follows goes to libFuzzer. Any end but weights or a typed
error of one line stops it, and the input is left as crash-….
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import atheris

with atheris.instrument_imports(include=["vggquant"]):
    import h5py
    import numpy as np
    import safetensors.numpy
    import torch

    from tests.conftest import random_arrays
    from tests.fuzz import WrongEndError
    from tests.fuzz_packed import judge
    from tests.mutants import SEEDS
    from vggquant.errors import VggQuantError
    from vggquant.files import container, sources
    from vggquant.files.contents import Content
    from vggquant.files.convolutions import read_layout
    from vggquant.files.layouts import write_layout
    from vggquant.networks.vgg import ARCHITECTURES

VGG11 = ARCHITECTURES["vgg11"]


def try_packed(data: bytes) -> None:
    """A packed file whose checksums are taken as right, so that what is behind them is reached."""
    with mock.patch.object(container, "_check_seal"), mock.patch.object(container, "crc32", Anything):
        judge(data, "resealed")


class Anything(str):
    """Any checksum."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Anything:
        return super().__new__(cls)

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = str.__hash__


def try_import(data: bytes) -> None:
    """Other programs' weights."""
    try:
        file = sources._read_weightfile(Content(np.frombuffer(data, np.uint8)))
        read_layout(file.tensors, architecture=VGG11, upto="relu1_1")
    except VggQuantError as error:
        if not str(error).isprintable():
            raise WrongEndError(f"not one line: {error!r}") from error


def seeds(kind: str) -> list[bytes]:
    """Sound files to begin from."""
    if kind == "packed":
        return SEEDS
    weights = random_arrays(VGG11, upto="relu1_1")
    buffer = io.BytesIO()
    if kind == "h5":
        with h5py.File(buffer, "w") as file:
            for name, array in write_layout(weights, "keras", VGG11).items():
                file[name] = array
        return [buffer.getvalue()]
    arrays = dict(write_layout(weights, "torchvision", VGG11))
    if kind == "safetensors":
        return [safetensors.numpy.save(arrays)]
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(tensors, buffer)
    legacy = io.BytesIO()
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    return [buffer.getvalue(), legacy.getvalue()]


def main() -> None:
    """Fuzz one kind until libFuzzer's limits, or a wrong end."""
    kind, *options = sys.argv[1:] or [""]
    if kind not in ("packed", "safetensors", "torch", "h5"):
        raise SystemExit(__doc__)
    target: Callable[[bytes], Any] = try_packed if kind == "packed" else try_import
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds(kind)):
            (Path(folder) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-timeout=2", "-rss_limit_mb=2048", "-max_len=16384", *options, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
