"""Checkpoints: the state of a training in a file, whole or not at all, tied to what was asked for.

They are torch's files and hold nothing that runs code. What the state consists of is left to `trainer`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import torch

from vggquant.errors import SourceError, located
from vggquant.files.contents import is_marked
from vggquant.files.disk import PathLike, read_file, write_file
from vggquant.training.options import CommonOptions

ENDING = ".checkpoint"
_MARK = "vggquant training 1"
_OVERHEAD = 2**20  # bytes beside the parameters, of which a checkpoint holds three times as many, in float32


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training is for; a checkpoint goes on with this and nothing else.

    Args:
        options: Settled.
        sources: What it is trained with, by name: pictures as the SHA-256 of their file, folders of them in words,
            and as ``start`` the SHA-256 of the network that was begun with, if there was one.
    """

    options: CommonOptions
    sources: Mapping[str, str | None]

    @property
    def record(self) -> dict[str, Any]:
        """All of it by name, as a checkpoint holds it."""
        return {"options": dataclasses.asdict(self.options), **self.sources}

    @property
    def words(self) -> str:
        """How long it is trained and on what, for people."""
        crops = f"{self.options.batch} crop{'s' * (self.options.batch != 1)}"
        return f"{self.options.steps} steps of {crops} of {self.options.size} pixels{self.beginning}"

    @property
    def beginning(self) -> str:
        """What it began with, for the end of a sentence."""
        start = self.sources["start"]
        return "" if start is None else f", beginning with the network of SHA-256 {start}"


def write_checkpoint(path: PathLike, task: Task, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, in place of an older one.

    Raises:
        StorageError: It cannot be written, or what is there is no checkpoint.
    """
    whole = {"mark": _MARK, **task.record, "state": dict(state)}
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    write_file(path, [buffer.getvalue()], force=is_checkpoint(path))


def read_checkpoint(path: PathLike, task: Task, parameters: int) -> Mapping[str, Any]:
    """Read the state of a training of a network of so many parameters.

    Raises:
        SourceError: The file is no checkpoint, or one of another training.
        StorageError: It cannot be read.
    """
    data = read_file(path, most=_OVERHEAD + 16 * parameters)
    cure = "name a checkpoint of this training"
    with located(path):
        try:
            whole = torch.load(io.BytesIO(data.tobytes()), map_location="cpu", weights_only=True)
        except Exception:  # whatever a file can bring about
            raise SourceError("a checkpoint of a training", "another file", cure) from None
        parts = {"options": dict, "state": dict}
        marked = isinstance(whole, dict) and whole.get("mark") == _MARK
        if not marked or not all(isinstance(whole.get(name), kind) for name, kind in parts.items()):
            raise SourceError("a checkpoint of a training", "another file", cure)
        asked = task.record
        asked, held = ({**asked.pop("options"), **asked}, {**whole.pop("options"), **whole})
        for name, value in asked.items():
            if held.get(name) != value:
                raise SourceError(f"{value}, as asked for now", held.get(name), "ask for the same", tensor=name)
        state: Mapping[str, Any] = whole["state"]
        return state


def is_checkpoint(path: PathLike) -> bool:
    """Whether a file is a checkpoint, and not something else of that name."""
    return is_marked(path, _MARK)
