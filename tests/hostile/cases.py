"""What the cases of docs/hostile.md have in common: how each is noted, run through the command line, and judged.

Each section of the document has a module beside this one, with `Cases` of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from tests.conftest import random_arrays, run
from tests.packed import SMALL
from tests.sealing import reseal, unseal
from vggquant.errors import printable
from vggquant.files.layouts import write_layout
from vggquant.networks.vgg import ARCHITECTURES

VGG11 = ARCHITECTURES["vgg11"]
UPTO = "relu2_1"

Array = np.ndarray[Any, Any]
Tensors = dict[str, torch.Tensor]
Prepared = tuple[tuple[object, ...], str | None]
"""A command, and what its one line says, or None if it must work."""
Case = Callable[[Path], Prepared]
"""Prepares a folder for its command."""


class Cases:
    """The cases of one section, by number and name."""

    def __init__(self) -> None:
        self.made: dict[str, Case] = {}

    def add(self, number: int, name: str, made: Case) -> None:
        assert f"{number} {name}" not in self.made
        self.made[f"{number} {name}"] = made

    def case(self, number: int) -> Callable[[Case], Case]:
        """Note a function as a case, which its name describes."""

        def note(made: Case) -> Case:
            self.add(number, made.__name__.strip("_").replace("_", " "), made)
            return made

        return note

    def packed(self, number: int, name: str, data: bytes, match: str | None) -> None:
        """A case that is the bytes of a packed file."""

        def made(folder: Path) -> Prepared:
            (folder / "x.safetensors").write_bytes(data)
            return ("verify", folder / "x.safetensors"), match

        self.add(number, name, made)

    def source(self, number: int, name: str, match: str | None, **changes: Any) -> None:
        """A case that is a safetensors file of other weights, see `state`."""

        def made(folder: Path) -> Prepared:
            safetensors.numpy.save_file(state(**changes), folder / "x.safetensors")
            return packing(folder / "x.safetensors"), match

        self.add(number, name, made)

    def torch_source(self, number: int, name: str, match: str | None, make: Callable[[Tensors, Path], object]) -> None:
        """A case that is a torch file of what `make` returns."""

        def made(folder: Path) -> Prepared:
            torch.save(make(tensors(), folder), folder / "x.pth")
            return packing(folder / "x.pth"), match

        self.add(number, name, made)

    @property
    def names(self) -> list[str]:
        """In the order of their numbers."""
        return sorted(self.made, key=lambda name: (number_of(name), name))

    def check(self, name: str, folder: Path) -> None:
        """Run a case: it works, or is refused in one line and leaves nothing behind."""
        command, match = self.made[name](folder)
        before = sorted(os.listdir(folder))
        result = run(*command)
        if match is None:
            assert result.exit_code == 0, result.output
            return
        assert result.exit_code == 1, result.output
        assert not result.stdout
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert re.fullmatch(r"Error: .*: expected .*, got .*; .*", lines[0]), lines[0]
        assert re.search(match, lines[0]), lines[0]
        files = tuple(
            f"Error: {printable(part)}: " for part in command if os.fspath(folder) in str(part) or part == "/dev/zero"
        )
        assert lines[0].startswith(files), lines[0]
        assert lines[0].isprintable()
        assert sorted(os.listdir(folder)) == before
        assert not (folder / "canary").exists()


def number_of(name: str) -> int:
    """The number of a case in the document."""
    return int(name.partition(" ")[0])


def inner(old: str, new: str) -> bytes:
    """The small file, the text of its metadata changed and sealed."""
    assert old.encode() in SMALL
    header, metadata, body = unseal(SMALL)
    return reseal(header, metadata, body, lambda text: text.replace(old.encode(), new.encode(), 1))


# ---- other programs' files


def state(**changes: Any) -> dict[str, Array]:
    """The first layers of a VGG-11 under torchvision's names, some replaced or, for None, left out.

    Args:
        changes: ``features_0_weight`` for ``features.0.weight``: an array, or what makes it of the old one.
    """
    arrays: dict[str, Array] = dict(write_layout(random_arrays(VGG11, upto=UPTO), "torchvision", VGG11))
    for name, change in changes.items():
        key = name.replace("_", ".")
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays[key]) if callable(change) else change
    return arrays


def tensors() -> Tensors:
    """The same in torch."""
    return {name: torch.from_numpy(array) for name, array in state().items()}


def packing(source: Path, *more: object) -> tuple[object, ...]:
    """The command that packs a source of the first layers of a VGG-11."""
    out = source.parent / "out.safetensors"
    return ("pack", source, out, "--preprocessing", "torch", "--arch", "vgg11", "--upto", UPTO, *more)


class Canary:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))
