"""Trains a painter from files to a file: `train`. Brings the other modules of this folder together.

On the way it writes checkpoints and previews; one step of the training is left to `trainer`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch.utils.data import DataLoader

from vggquant.errors import OptionError, StorageError, VggQuantError, located
from vggquant.files.container import write
from vggquant.files.disk import PathLike, check_output, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.files.weights import Weights
from vggquant.models.devices import computes_bf16, require_device
from vggquant.models.johnson import Johnson
from vggquant.models.painters import load_stylizer
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.packing.inspection import describe_file
from vggquant.packing.widths import Bits
from vggquant.pictures.files import Picture, check_ending, read_picture, write_picture
from vggquant.progress import Progress, ProgressCallback
from vggquant.style.loading import load_network
from vggquant.training.checkpoints import ENDING, Task, is_checkpoint, read_checkpoint, write_checkpoint
from vggquant.training.checks import check_options
from vggquant.training.crops import Crops, Photographs
from vggquant.training.objective import PainterLoss
from vggquant.training.options import EVERY, TrainingOptions
from vggquant.training.packing import palettized, unquantized
from vggquant.training.processes import Processes, together
from vggquant.training.trainer import Trainer


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


def train(
    style: PathLike,
    out: PathLike,
    options: TrainingOptions | None = None,
    *,
    images: PathLike | None = None,
    bits: Bits | None = None,
    max_size: int | str | None = None,
    start: PathLike | None = None,
    checkpoint: PathLike | None = None,
    resume: PathLike | None = None,
    preview: PathLike | None = None,
    every: int = EVERY,
    device: str = "cpu",
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> TrainReport:
    """Train a network that paints pictures in one style in one pass, and pack it.

    Under torchrun several processes train together, each on its share of a batch; the first of them writes.

    Args:
        style: A picture in the manner of which it is to paint.
        out: The packed file to write.
        options: Of the network and its training.
        images: A folder of photographs to train on; generated pictures if not given.
        bits: Bits per code, as for `pack`; 8 if not given.
        max_size: Instead, the largest size of the file.
        start: A packed painter of the same shape, or an embedded one's name, to begin with: a fraction of the steps.
        checkpoint: From where training can go on later; beside `out` if not given, and removed in the end.
        resume: A checkpoint to go on from, exactly. The options must be the same.
        preview: A picture to write on the way: what the painter makes of the first of the photographs.
        every: Steps from one checkpoint, and preview, to the next.
        device: Where to compute.
        force: Whether existing files may be replaced.
        progress: Called after each step.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, or an option has no meaning.
        TrainingInterrupted: Ctrl-C was pressed; the checkpoint was written.
    """
    options = options or TrainingOptions()
    check_options(options, every)
    files = _Files(out, checkpoint, resume, preview, force)
    files.check(style, images, start)
    picture = read_picture(style, pixels=options.style_pixels)
    photographs = Photographs(images)
    beginning, begun = _start(start, options)
    with together(require_device(device)) as processes:
        options = options.settled(bf16=computes_bf16(processes.device))
        task = Task(options, str(picture.sha256), photographs.description, begun)
        trainer = Trainer(options, _loss(style, picture, options, processes), processes, beginning)
        palettized(unquantized(trainer.painter, ""), bits, max_size)  # which refuses them now, and not in hours
        files.go_on(trainer, task)
        run = _Run(trainer, task, files, photographs, processes)
        run.train(every, progress)
        weights = palettized(unquantized(trainer.painter.cpu(), _made(task, style)), bits, max_size)
        size = files.write(weights) if processes.first else 0
    return TrainReport(size, options.shape.parameters, trainer.terms, (*run.notes, *photographs.notes))


def _start(start: PathLike | None, options: TrainingOptions) -> tuple[Johnson | None, str | None]:
    """The painter to begin with, if there is one, and the SHA-256 of its file."""
    if start is None:
        return None, None
    painter = load_stylizer(start)
    if painter.network != options.shape:
        found, cure = painter.network.configuration, "choose `network`, `alpha` and `blocks` likewise"
        with located(start):
            raise OptionError(f"a network of {options.shape.configuration}", found, cure, tensor="start")
    return painter, sha256(read_file(resolve(start)))


def _loss(style: PathLike, picture: Picture, options: TrainingOptions, processes: Processes) -> PainterLoss:
    """What is minimised."""
    vgg = load_network(options.precision, upto=STYLE_LAYERS[-1], device=processes.device)
    with located(style):
        return PainterLoss(vgg, picture.pixels.to(processes.device), options.weights, options.precision)


def _made(task: Task, style: PathLike) -> str:
    """How a painter was trained, for its file."""
    options = task.options
    start = "" if task.start is None else f", beginning with the painter of SHA-256 {task.start}"
    return (
        f"trained by vggquant {version('vggquant')} for the style of {os.path.basename(os.fspath(style))} "
        f"(SHA-256 {task.style}) on {task.photographs}, {options.steps} steps of {options.batch} crops of "
        f"{options.size} pixels{start}"
    )


@dataclass(frozen=True)
class _Files:
    """What a training writes, and what it goes on from."""

    out: PathLike
    named_checkpoint: PathLike | None
    resume: PathLike | None
    preview: PathLike | None
    force: bool

    @property
    def checkpoint(self) -> PathLike:
        return f"{os.fspath(self.out)}{ENDING}" if self.named_checkpoint is None else self.named_checkpoint

    def check(self, style: PathLike, images: PathLike | None, start: PathLike | None) -> None:
        """Refuse, before anything is computed, what could not be written in the end."""
        written = [os.path.realpath(path) for path in (self.out, self.checkpoint, self.preview) if path is not None]
        if len(set(written)) < len(written):
            expected = "three different files for `out`, `checkpoint` and `preview`"
            raise OptionError(expected, "one of them twice", "choose another name", tensor="out")
        if None not in (images, self.preview) and os.path.dirname(written[-1]) == os.path.realpath(images or ""):
            cure = "choose another folder, or it becomes one of the photographs"
            raise OptionError("a place outside of `images`", "that folder", cure, tensor="preview")
        sources = [style, *(resolve(path) for path in (self.resume, start) if path is not None)]
        check_output(self.out, force=self.force, sources=sources)
        if self.preview is not None:
            check_ending(self.preview)
            check_output(self.preview, force=self.force or self.resume is not None, sources=[style])
        there = is_checkpoint(self.checkpoint)
        again = self.resume is not None and os.path.realpath(self.resume) == os.path.realpath(self.checkpoint)
        if there and not self.force and not again:
            expected, cure = "a new file", "go on from it with `resume`, or pass `force=True`"
            raise StorageError(expected, "a checkpoint of before", cure, path=self.checkpoint)
        check_output(self.checkpoint, force=there, sources=[style])

    def go_on(self, trainer: Trainer, task: Task) -> None:
        """Take a trainer to where the checkpoint is, if there is one to go on from."""
        if self.resume is not None:
            with located(self.resume):
                trainer.go_on(read_checkpoint(self.resume, task))

    def write(self, weights: Weights) -> int:
        """Write the packed file, and remove the checkpoint, if nobody asked for it; gives the file's size."""
        size = describe_file(weights, write(self.out, weights, force=self.force)).bytes
        if self.named_checkpoint is None and is_checkpoint(self.checkpoint):
            os.remove(self.checkpoint)
        return size


class _Run:
    """The steps of one call of `train`, with what is written on the way.

    Args:
        trainer: At its beginning, or where a checkpoint left it.
        task: What it trains for.
        files: What is written.
        photographs: What it trains on.
        processes: That train together.
    """

    def __init__(
        self, trainer: Trainer, task: Task, files: _Files, photographs: Photographs, processes: Processes
    ) -> None:
        self.trainer, self.task, self.files, self.processes = trainer, task, files, processes
        self.photographs = photographs
        self.notes: list[str] = []
        self._reached: dict[str, object] | None = None  # the state after the last whole step

    def train(self, every: int, progress: ProgressCallback | None) -> None:
        """Make all steps that are still to be made."""
        options, first = self.task.options, self.trainer.done
        numbers = self.processes.numbers(
            options.batch, [step % self.trainer.epoch for step in range(first, options.steps)]
        )
        crops = Crops(self.photographs, options.size, options.seed, numbers)
        started = time.monotonic()
        try:
            for photographs in DataLoader(crops, options.batch // self.processes.count):
                self.trainer.step(photographs)
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
            write_checkpoint(self.files.checkpoint, self.task, self._reached)
            held = f"{os.fspath(self.files.checkpoint)} holds what was reached, to go on from with `resume`"
            reached = f"step {self._reached['done']} of {options.steps}"
            raise TrainingInterrupted(f"Interrupted after {reached}; {held}") from None

    def _save(self) -> None:
        """Write a checkpoint and a preview; a training is not given up because one of them cannot be written."""
        self._try(lambda: write_checkpoint(self.files.checkpoint, self.task, self.trainer.state()))
        if self.files.preview is not None:
            self._try(self._preview, self.files.preview)

    def _preview(self, path: PathLike) -> None:
        photograph = self.photographs[0][None].float() / 255
        with torch.no_grad():
            painting = self.trainer.painter(photograph.to(self.trainer.device)).cpu()
        write_picture(path, Picture(painting), force=True)

    def _try(self, write: Callable[..., object], *arguments: PathLike) -> None:
        try:
            write(*arguments)
        except VggQuantError as error:
            if not any(note.endswith(str(error)) for note in self.notes):  # each cause once
                self.notes.append(f"not written after step {self.trainer.done}: {error}")
