"""Trains a painter of one style from files to a file: `train`.

What is written is left to `running`, one step of the training to `trainer`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import Tensor

from vggquant.errors import OptionError, located
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.models.devices import computes_bf16, require_device
from vggquant.models.johnson import Johnson
from vggquant.models.painters import load_stylizer
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.packing.widths import Bits
from vggquant.pictures.files import Picture, read_picture
from vggquant.progress import ProgressCallback
from vggquant.style.loading import load_network
from vggquant.training.checkpoints import Task
from vggquant.training.checks import check_painter_options
from vggquant.training.crops import Crops, Photographs
from vggquant.training.objective import PainterLoss, epoch_of
from vggquant.training.options import EVERY, TrainingOptions
from vggquant.training.processes import together
from vggquant.training.running import Files, Lesson, Packing, TrainReport, teach


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
    check_painter_options(options, every)
    files = Files(out, checkpoint, resume, preview, force)
    files.check([style], [images], start)
    with together(require_device(device)) as processes:
        photographs = Photographs(images, processes.device)
        options = options.settled(bf16=computes_bf16(processes.device))
        lesson = _lesson(style, start, options, photographs, processes.device)
        report = teach(lesson, files, Packing(bits, max_size), processes, every=every, progress=progress)
    return replace(report, notes=(*report.notes, *photographs.notes))


def _lesson(
    style: PathLike,
    start: PathLike | None,
    options: TrainingOptions,
    photographs: Photographs,
    device: torch.device,
) -> Lesson:
    picture = read_picture(style, pixels=options.style_pixels)
    painter, begun = _begun(start, options, picture, device)
    task = Task(options, {"style": picture.sha256, "photographs": photographs.description, "start": begun})
    vgg = load_network(options.precision, upto=STYLE_LAYERS[-1], device=device)
    epoch = epoch_of(options.batch)
    with located(style):
        loss = PainterLoss(vgg, picture.pixels.to(device), options.weights, options.precision, epoch)

    def crops(numbers: Sequence[int]) -> Crops:
        return Crops(photographs, options.size, options.seed, numbers)

    def shown() -> Tensor:
        found: Tensor = painter(photographs.first)
        return found

    return Lesson(painter, loss, task, crops, shown, _made(task, style), epoch=epoch)


def _begun(
    start: PathLike | None, options: TrainingOptions, picture: Picture, device: torch.device
) -> tuple[Johnson, str | None]:
    """The painter as training begins with it, and the SHA-256 of the file that it comes from, if there is one."""
    if start is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            painter = Johnson(options.shape)
        painter.begin_with(picture.pixels)
        return painter.to(device), None
    found = load_stylizer(start, device=device)
    if found.network != options.shape:
        got, cure = found.network.configuration, "choose `network`, `alpha` and `blocks` likewise"
        with located(start):
            raise OptionError(f"a network of {options.shape.configuration}", got, cure, tensor="start")
    assert isinstance(found, Johnson)
    return found.train().requires_grad_(True), sha256(read_file(resolve(start)))


def _made(task: Task, style: PathLike) -> str:
    """How a painter was trained, for its file."""
    return (
        f"trained by vggquant {version('vggquant')} for the style of {os.path.basename(os.fspath(style))} "
        f"(SHA-256 {task.sources['style']}) on {task.sources['photographs']}, {task.words}"
    )
