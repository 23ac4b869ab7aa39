"""Teaches a network: the steps of a training, with what is written on the way and in the end.

One step is left to `trainer`; what is trained on what, and for what, is told by `training`, `adain` and `distilling`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vggquant.errors import OptionError, StorageError, VggQuantError, located
from vggquant.files.container import write
from vggquant.files.disk import PathLike, check_output
from vggquant.files.sources import resolve
from vggquant.files.weights import Weights
from vggquant.models.painters import Painter
from vggquant.packing.inspection import describe_file
from vggquant.packing.widths import Bits
from vggquant.pictures.files import Picture, check_ending, write_picture
from vggquant.progress import Progress, ProgressCallback
from vggquant.training.checkpoints import ENDING, Task, is_checkpoint, read_checkpoint, write_checkpoint
from vggquant.training.normalising import folded
from vggquant.training.packing import palettized, unquantized
from vggquant.training.processes import Processes
from vggquant.training.rounded import round_weights, settle_weights
from vggquant.training.trainer import Objective, Trainer


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a training; its message says where it goes on."""


@dataclass(frozen=True)
class TrainReport:
    """What was trained.

    Args:
        bytes: Size of the file; 0 in all processes but the one that wrote it.
        parameters: How many numbers the network has.
        loss: Terms of the loss, means over the last steps, by name.
        notes: Sentences for the caller.
    """

    bytes: int
    parameters: int
    loss: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Files:
    """What a training writes, and what it goes on from."""

    out: PathLike
    named_checkpoint: PathLike | None
    resume: PathLike | None
    preview: PathLike | None
    force: bool

    @property
    def checkpoint(self) -> PathLike:
        return f"{os.fspath(self.out)}{ENDING}" if self.named_checkpoint is None else self.named_checkpoint

    def check(self, sources: Sequence[PathLike], folders: Sequence[PathLike | None], start: PathLike | None) -> None:
        """Refuse, before anything is computed, what could not be written in the end.

        Args:
            sources: Pictures that are read.
            folders: Of pictures that are read.
            start: The network to begin with.
        """
        written = [os.path.realpath(path) for path in (self.out, self.checkpoint, self.preview) if path is not None]
        if len(set(written)) < len(written):
            expected = "three different files for `out`, `checkpoint` and `preview`"
            raise OptionError(expected, "one of them twice", "choose another name", tensor="out")
        read = [os.path.realpath(folder) for folder in folders if folder is not None]
        if self.preview is not None and os.path.dirname(written[-1]) in read:
            cure = "choose another folder, or it becomes one of them"
            raise OptionError("a place outside of the pictures' folders", "such a folder", cure, tensor="preview")
        begun = [resolve(path) for path in (self.resume, start) if path is not None]
        check_output(self.out, force=self.force, sources=[*sources, *begun])
        if self.preview is not None:
            check_ending(self.preview)
            check_output(self.preview, force=self.force or self.resume is not None, sources=sources)
        there = is_checkpoint(self.checkpoint)
        again = self.resume is not None and os.path.realpath(self.resume) == os.path.realpath(self.checkpoint)
        if there and not self.force and not again:
            expected, cure = "a new file", "go on from it with `resume`, or pass `force=True`"
            raise StorageError(expected, "a checkpoint of before", cure, path=self.checkpoint)
        check_output(self.checkpoint, force=there, sources=sources)

    def go_on(self, trainer: Trainer, task: Task) -> None:
        """Take a trainer to where the checkpoint is, if there is one to go on from."""
        if self.resume is not None:
            with located(self.resume):
                parameters = sum(parameter.numel() for parameter in trainer.painter.parameters())
                trainer.go_on(read_checkpoint(self.resume, task, parameters))

    def write(self, weights: Weights) -> int:
        """Write the packed file, and remove the checkpoint, if nobody asked for it; gives the file's size."""
        size = describe_file(weights, write(self.out, weights, force=self.force)).bytes
        if self.named_checkpoint is None and is_checkpoint(self.checkpoint):
            os.remove(self.checkpoint)
        return size


@dataclass(frozen=True)
class Lesson:
    """What a network is taught.

    Args:
        painter: The network, as it begins.
        objective: What it is trained for.
        task: What checkpoints are tied to.
        crops: What it is trained on, by the numbers of crops.
        shown: What previews show.
        made: How it was made, for its file.
        attribution: Authors and licence of what it was made from, for its file too.
        epoch: Steps after which the same crops come again; never if not given.
        rounded: Width of the codebooks that its weights are rounded to meanwhile; not at all if not given.
        part: The module of it that learns; all of it if not given.
    """

    painter: Painter
    objective: Objective
    task: Task
    crops: Callable[[Sequence[int]], Dataset[Any]]
    shown: Callable[[], Tensor]
    made: str
    attribution: str | None = None
    epoch: int | None = None
    rounded: int | None = None
    part: str = ""


@dataclass(frozen=True)
class Packing:
    """How a network is packed in the end.

    Args:
        bits: Bits per code, as for `pack`; 8 if neither this nor a size is given.
        max_size: Instead, the largest size of the file.
    """

    bits: Bits | None
    max_size: int | str | None

    def pack(self, painter: Painter, made: str = "", attribution: str | None = None) -> Weights:
        """The weights of a network, palettized.

        Raises:
            OptionError: A width or a size has no meaning, or both are given.
        """
        return palettized(unquantized(painter, made, attribution), self.bits, self.max_size)


def teach(
    lesson: Lesson,
    files: Files,
    packing: Packing,
    processes: Processes,
    *,
    every: int,
    progress: ProgressCallback | None,
) -> TrainReport:
    """Make all steps of a training that are still to be made, and write what it gives.

    Args:
        lesson: What is trained.
        files: What is written.
        packing: How.
        processes: That train together.
        every: Steps from one checkpoint, and preview, to the next.
        progress: Called after each step.
    """
    painter = lesson.painter
    parameters = painter.network.parameters
    packing.pack(folded(painter))  # which refuses what has no meaning now, and not in hours
    if lesson.rounded is not None:
        round_weights(painter, lesson.rounded)
    trainer = Trainer(painter.get_submodule(lesson.part), lesson.objective, lesson.task.options, processes)
    files.go_on(trainer, lesson.task)
    run = _Run(trainer, lesson, files, processes)
    run.train(every, progress)
    settle_weights(painter)
    weights = packing.pack(folded(painter).cpu(), lesson.made, lesson.attribution)
    size = files.write(weights) if processes.first else 0
    return TrainReport(size, parameters, trainer.terms, tuple(run.notes))


class _Run:
    """The steps of one training.

    Args:
        trainer: At its beginning, or where a checkpoint left it.
        lesson: What is trained.
        files: What is written.
        processes: That train together.
    """

    def __init__(self, trainer: Trainer, lesson: Lesson, files: Files, processes: Processes) -> None:
        self.trainer, self.lesson, self.files, self.processes = trainer, lesson, files, processes
        self.notes: list[str] = []
        self._reached: dict[str, object] | None = None  # the state after the last whole step

    def train(self, every: int, progress: ProgressCallback | None) -> None:
        """Make all steps that are still to be made."""
        options, first = self.lesson.task.options, self.trainer.done
        steps = [step % (self.lesson.epoch or options.steps) for step in range(first, options.steps)]
        crops = self.lesson.crops(self.processes.numbers(options.batch, steps))
        started = time.monotonic()
        try:
            for batch in DataLoader(crops, options.batch // self.processes.count):
                self.trainer.step(batch)
                self._reached = copy.deepcopy(self.trainer.state())
                if self.processes.first:
                    done = self.trainer.done
                    if progress is not None:
                        elapsed = time.monotonic() - started
                        left = elapsed / (done - first) * (options.steps - done)
                        progress(Progress("train", done, options.steps, elapsed, values=self.trainer.terms, left=left))
                    if done % every == 0 or done == options.steps:
                        self._save()
        except KeyboardInterrupt:
            if self._reached is None or not self.processes.first:
                raise
            write_checkpoint(self.files.checkpoint, self.lesson.task, self._reached)
            held = f"{os.fspath(self.files.checkpoint)} holds what was reached, to go on from with `resume`"
            reached = f"step {self._reached['done']} of {options.steps}"
            raise TrainingInterrupted(f"Interrupted after {reached}; {held}") from None

    def _save(self) -> None:
        """Write a checkpoint and a preview; a training is not given up because one of them cannot be written."""
        self._try(lambda: write_checkpoint(self.files.checkpoint, self.lesson.task, self.trainer.state()))
        if self.files.preview is not None:
            self._try(self._preview, self.files.preview)

    def _preview(self, path: PathLike) -> None:
        painter = self.lesson.painter.eval()  # or rounded weights would count it as a step, and go on otherwise
        with torch.no_grad():
            shown = self.lesson.shown().cpu()
        painter.train()
        write_picture(path, Picture(shown), force=True)

    def _try(self, write: Callable[..., object], *arguments: PathLike) -> None:
        try:
            write(*arguments)
        except VggQuantError as error:
            if not any(note.endswith(str(error)) for note in self.notes):  # each cause once
                self.notes.append(f"not written after step {self.trainer.done}: {error}")
