"""Picture files to a painted picture file, with intermediate pictures on the way.

This module brings the others together: reading is left to `inputs`, the text of a PNG and resuming to `resuming`,
loading to `loading`, and the painting itself to `transfer`.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from vggquant.errors import OptionError, PictureError, located
from vggquant.files.disk import PathLike, check_output, make_folder
from vggquant.models.devices import require_device
from vggquant.models.vgg import VGG, Pooling
from vggquant.networks.vgg import LAYERS, require_layer
from vggquant.pictures.files import WRITABLE, Picture, check_ending, write_picture
from vggquant.style.any_style import begun_by
from vggquant.style.checks import check_options, check_reached, check_scales, check_side
from vggquant.style.inputs import Inputs, Pictures, Sizes, read_pictures
from vggquant.style.loading import all_compute_bf16, deterministic_algorithms, load_network, place
from vggquant.style.memory import memory_per_pixel, require_memory
from vggquant.style.options import StyleOptions
from vggquant.style.resuming import Record, make_record
from vggquant.style.scales import size_of
from vggquant.style.states import NewestState, read_state, remove_state, state_path
from vggquant.style.task import Task
from vggquant.style.transfer import Interrupted, StyleProgress, optimise


@dataclass(frozen=True)
class Saves:
    """Intermediate pictures to be written.

    Args:
        every: Steps from one to the next.
        folder: Where they go; made if missing.
        prefix: How their names begin, before the step.
    """

    every: int
    folder: PathLike = "."
    prefix: str = ""

    def path(self, step: int, steps: int) -> str:
        """Where the picture after a step goes, of so many steps in all."""
        return os.path.join(os.fspath(self.folder), f"{self.prefix}{step:0{len(str(steps))}d}.png")

    def paths(self, steps: range) -> list[str]:
        """Where the pictures after some steps go, of which the last is the last of all."""
        return [self.path(step, steps.stop - 1) for step in steps if step % self.every == 0]


@dataclass(frozen=True)
class PaintReport:
    """What was painted.

    Args:
        width: In pixels.
        height: In pixels.
        loss: Terms of the loss before the last step, by name; empty if no step was made.
        notes: Sentences for the caller.
    """

    width: int
    height: int
    loss: dict[str, float]
    notes: tuple[str, ...] = ()


def paint(
    content: PathLike,
    styles: Sequence[PathLike],
    out: PathLike,
    options: StyleOptions | None = None,
    *,
    weights: PathLike | None = None,
    pooling: Pooling = "max",
    size: int | None = None,
    pixels: int | None = None,
    style_size: int | None = None,
    style_pixels: int | None = None,
    masks: Sequence[PathLike] = (),
    start: PathLike | None = None,
    resume: PathLike | None = None,
    device: str = "cpu",
    supplemental_devices: Sequence[tuple[str, str]] = (),
    deterministic: bool = False,
    saves: Saves | None = None,
    force: bool = False,
    progress: Callable[[StyleProgress], None] | None = None,
) -> PaintReport:
    """Paint a picture in the manner of others, from files to a file.

    The result has the content's transparency and colour profile. If it is a PNG, its text tells what made it.

    Args:
        content: Picture to paint.
        styles: Pictures in whose manner.
        out: Picture to write; its ending decides the type.
        options: Of the transfer.
        weights: A packed file; the embedded VGG-19 if not given.
        pooling: ``max`` or ``avg``.
        size: Longer side of the result in pixels.
        pixels: Its area, if `size` is not given; the content's own, but at most 250,000, if neither is.
        style_size: Longer side of the styles in pixels.
        style_pixels: Their area; the content's if neither is given.
        masks: One for each style, or none at all; the word ``none`` stands for everywhere.
        start: A picture to optimise from, instead of what the options say, or ``adain``: what that network paints.
        resume: A picture on the way to go on from, exactly if its state lies beside it. `steps` may be more now.
        device: Where to compute.
        supplemental_devices: Device and layer (a name, or an index from 1) from which it is used.
        deterministic: Whether to use only algorithms that always give the same result.
        saves: Intermediate pictures to be written, at the sizes that are worked at.
        force: Whether existing files may be replaced.
        progress: Called after each step.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, or an option has no meaning.
        Interrupted: Ctrl-C was pressed; the picture reached was written to `out`.
    """
    inputs = Inputs.named(content, styles, masks, start, resume, weights)
    painting = _Painting(inputs, out, options or StyleOptions(), saves, force)
    bf16 = all_compute_bf16(device, supplemental_devices)
    pictures, record = painting.read(Sizes(size, pixels, style_size, style_pixels), pooling, bf16=bf16)
    painting = replace(painting, options=record.options)
    task = _going_on(pictures.task(require_device(device), record.done, record.planned), inputs, record)
    with deterministic_algorithms(deterministic):
        vgg = painting.load_network(pooling, device, supplemental_devices)
        return painting.make(vgg, task, pictures, record, progress)


@dataclass(frozen=True)
class _Painting:
    """One call of `paint`: the files, and what is wanted of them.

    Args:
        inputs: Files to paint from.
        out: Picture to write.
        options: Of the transfer.
        saves: Intermediate pictures to be written, or ``None``.
        force: Whether existing files may be replaced.
    """

    inputs: Inputs
    out: PathLike
    options: StyleOptions
    saves: Saves | None
    force: bool

    def read(self, sizes: Sizes, pooling: Pooling, *, bf16: bool) -> tuple[Pictures, Record]:
        """Read the pictures; whatever can be refused before is refused."""
        check_ending(self.out)
        check_output(self.out, force=self.force, sources=self.inputs.sources)
        self.inputs.check()
        _check_layers(self.options)
        check_options(self.options, len(self.inputs.styles))
        pictures = read_pictures(self.inputs, sizes)
        check_ending(self.out, max(pictures.content.size))
        record = make_record(self.inputs, pictures, self.options, pooling, bf16=bf16)
        if self.saves is not None:
            self._check_saves(self.saves, record.done)
        return pictures, record

    @property
    def kind(self) -> str:
        """The type of the picture to write."""
        return WRITABLE[Path(self.out).suffix.lower()]

    def load_network(self, pooling: Pooling, device: str, supplemental_devices: Sequence[tuple[str, str]]) -> VGG:
        """Load as much of the network as the layers need."""
        deepest = max(self.options.layers, key=LAYERS.index)
        vgg = load_network(self.options.precision, self.inputs.weights, upto=deepest, pooling=pooling, device=device)
        place(vgg, supplemental_devices)
        return vgg

    def make(
        self,
        vgg: VGG,
        task: Task,
        pictures: Pictures,
        record: Record,
        progress: Callable[[StyleProgress], None] | None,
    ) -> PaintReport:
        """Paint, and write the pictures."""
        writer = _Writer(self, pictures, record)

        def report(made: StyleProgress) -> None:
            writer.note(made)
            if progress is not None:
                progress(made)

        if self.options.steps > task.done:
            self._check_sizes(vgg, task, pictures)
        if self.inputs.painter is not None:
            with located(self.inputs.content):
                task = begun_by(self.inputs.painter, task, self.options)
        if self.saves is not None:
            make_folder(self.saves.folder)
        try:
            writer.finish(optimise(vgg, task, self.options, report))
        except KeyboardInterrupt:
            if writer.latest is None:
                raise
            raise Interrupted(writer.latest, writer.stop(writer.latest)) from None
        height, width = task.size
        terms = {} if writer.latest is None else dict(writer.latest.values)
        notes = (*pictures.notes(self.inputs), *self._notes(pictures, task), *writer.notes())
        return PaintReport(width, height, terms, notes)

    def _check_saves(self, saves: Saves, done: int) -> None:
        """Refuse intermediate pictures that would be written over the result, or over an existing file."""
        for path in saves.paths(range(done + 1, self.options.steps + 1)):
            if os.path.realpath(path) == os.path.realpath(self.out):
                expected = "another name than that of a picture on the way"
                raise OptionError(expected, os.fspath(self.out), "rename it", tensor="out")
            if os.path.isdir(saves.folder):
                check_output(path, force=self.force, sources=self.inputs.sources)

    def _check_sizes(self, vgg: VGG, task: Task, pictures: Pictures) -> None:
        """Refuse pictures that are too small for the network or too large for the memory, and name their files."""
        check_scales(vgg, task, self.options)
        per_pixel = memory_per_pixel(vgg, task.content.device, self.options, task.masked)
        with located(self.inputs.content):
            check_side(vgg.architecture, pictures.content, self.options.layers, "size")
        for index, (path, style) in enumerate(zip(self.inputs.styles, pictures.styles, strict=True)):
            with located(path, f"styles[{index}]"):
                check_side(vgg.architecture, style, self.options.style_layers, "style_size")
        with located(self.inputs.content):
            require_memory(per_pixel, task, self.options.precision)

    def _notes(self, pictures: Pictures, task: Task) -> list[str]:
        notes = []
        if pictures.content.alpha is not None and self.kind == "JPEG":
            notes.append(f"{os.fspath(self.out)}: JPEG keeps no transparency; it is painted over white")
        if self.inputs.resume is not None and self.options.steps > task.done > 0 and task.reached is None:
            path, state = os.fspath(self.inputs.resume), os.path.basename(state_path(self.inputs.resume))
            lost = "the picture was rounded to 8 bits, and what the optimiser had learnt is lost"
            notes.append(f"{path}: gone on from without its state, {state}: {lost}")
        return notes


def _check_layers(options: StyleOptions) -> None:
    """Refuse names that are no VGG's layers."""
    named = [("content_layers", layer) for layer in options.content_layers]
    named += [("style_layers", layer) for layer in options.style_layers]
    for option, layer in named:
        require_layer(option, layer)


class _Writer:
    """Writes the pictures of one painting, each with the content's transparency and profile and with what made it.

    Args:
        painting: What is wanted.
        pictures: That were read.
        record: Of the transfer.
    """

    def __init__(self, painting: _Painting, pictures: Pictures, record: Record) -> None:
        self.painting, self.pictures, self.record = painting, pictures, record
        self.latest: StyleProgress | None = None
        self.states = NewestState()
        self.saved: Counter[str] = Counter()  # how many pictures on the way of each size

    def note(self, made: StyleProgress) -> None:
        """Note a step, and write the picture after it if it is wanted."""
        self.latest, saves = made, self.painting.saves
        if saves is not None and made.done % saves.every == 0:
            path = saves.path(made.done, made.total)
            checksum = self._write(path, made.picture(), made.done)
            self.saved[made.detail] += 1
            self.states.keep(path, checksum, made.reached)

    def finish(self, painted: Tensor) -> None:
        """Write the result."""
        painting = self.painting
        self._write(painting.out, painted, painting.options.steps)
        resume = painting.inputs.resume
        if resume is not None and os.path.realpath(resume) == os.path.realpath(painting.out):
            remove_state(resume)  # of the picture that was just replaced

    def stop(self, made: StyleProgress) -> str:
        """Write the picture reached instead of the result, and say so."""
        out = self.painting.out
        checksum = self._write(out, made.picture(), made.done)
        reached = f"{os.fspath(out)} holds the picture reached, {made.detail} pixels"
        if self.painting.kind == "PNG":
            self.states.keep(out, checksum, made.reached)
            reached += f", to go on from with `resume`{self._lost()}"
        return f"Interrupted after step {made.done} of {made.total}; {reached}"

    def notes(self) -> list[str]:
        """Sentences for the caller about the pictures on the way."""
        saves = self.painting.saves
        if saves is None or not self.saved:
            return []
        sizes = ", ".join(f"{number} of {size}" for size, number in self.saved.items())
        return [f"{os.fspath(saves.folder)}: pictures on the way, {sizes} pixels{self._lost()}"]

    def _lost(self) -> str:
        return f"; a state was not written: {self.states.lost}" if self.states.lost else ""

    def _write(self, path: PathLike, painted: Tensor, step: int) -> str:
        content = self.pictures.content
        alpha = content.alpha
        if alpha is not None and size_of(alpha) != size_of(painted):
            alpha = interpolate(alpha, size_of(painted), mode="bilinear", antialias=True)
        picture = Picture(painted, alpha, content.icc, self.record.text(step))
        return write_picture(path, picture, force=self.painting.force)


def _going_on(task: Task, inputs: Inputs, record: Record) -> Task:
    """The task with the state that lies beside the picture to go on from, if there is one."""
    resume = inputs.resume
    if resume is None or not record.done:
        return task
    with located(state_path(resume), kind=PictureError):
        reached = read_state(resume, record.resumed[-1]["sha256"], math.prod(task.size))
        if reached is None:
            return task
        if (reached.done, reached.planned) != (record.done, record.planned):
            raise PictureError(f"the state after step {record.done}", f"step {reached.done}", "delete it")
        task = task.going_on(reached)
        check_reached(task, record.options)
        return task
