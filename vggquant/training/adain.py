"""Trains AdaIN from files to a file: `train_adain`.

What is written is left to `running`, one step of the training to `trainer`, and leaving out channels to `pruning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import Tensor

from vggquant.errors import OptionError, located
from vggquant.files.container import read
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.models.adain import AdaIN
from vggquant.models.devices import computes_bf16, require_device
from vggquant.models.layout import lay_channels_last
from vggquant.models.painters import load_stylizer
from vggquant.networks.adain import DEEPEST, AdaINNetwork
from vggquant.packing.widths import Bits
from vggquant.progress import ProgressCallback
from vggquant.style.loading import load_network
from vggquant.training.adain_objective import LAYERS, AdaINLoss
from vggquant.training.checkpoints import Task
from vggquant.training.checks import check_adain_options
from vggquant.training.crops import Crops, Pairs, Photographs
from vggquant.training.options import EVERY, AdaINOptions
from vggquant.training.processes import together
from vggquant.training.running import Files, Lesson, Packing, TrainReport, teach

MEASURED = 16  # photographs by which the activations of VGG are scaled


def train_adain(
    styles: PathLike,
    out: PathLike,
    options: AdaINOptions | None = None,
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
    """Train a network that paints pictures in the style of others in one pass, and pack it.

    It begins with VGG-19's own encoder and a decoder that knows nothing, or with a network that was trained or pruned
    before. Everything else is as for `train`.

    Args:
        styles: A folder of paintings.
        out: The packed file to write.
        options: Of the training.
        images: A folder of photographs to train on; generated pictures if not given.
        bits: Bits per code, as for `pack`; 8 if not given, or what weights are rounded to.
        max_size: Instead, the largest size of the file.
        start: A packed network of this family to begin with, or ``adain``.
        checkpoint: From where training can go on later; beside `out` if not given, and removed in the end.
        resume: A checkpoint to go on from, exactly. The options must be the same.
        preview: A picture to write on the way: the first of the photographs in the style of the first painting.
        every: Steps from one checkpoint, and preview, to the next.
        device: Where to compute.
        force: Whether existing files may be replaced.
        progress: Called after each step.

    Raises:
        VggQuantError: A file is missing, not sound or in the way, or an option has no meaning.
        TrainingInterrupted: Ctrl-C was pressed; the checkpoint was written.
    """
    options = options or AdaINOptions()
    check_adain_options(options, every)
    if options.rounded is not None:
        if max_size is not None or bits not in (None, options.rounded, str(options.rounded)):
            got, cure = bits or "a size", "leave it out"
            raise OptionError(f"{options.rounded} bits, to which weights are rounded", got, cure, tensor="bits")
        bits = options.rounded
    files = Files(out, checkpoint, resume, preview, force)
    files.check([], [images, styles], start)
    with together(require_device(device)) as processes:
        photographs, paintings = (Photographs(folder, processes.device) for folder in (images, styles))
        options = options.settled(bf16=computes_bf16(processes.device))
        lesson = _lesson(start, options, photographs, paintings, processes.device)
        report = teach(lesson, files, Packing(bits, max_size), processes, every=every, progress=progress)
    return replace(report, notes=(*report.notes, *photographs.notes, *paintings.notes))


def _lesson(
    start: PathLike | None,
    options: AdaINOptions,
    photographs: Photographs,
    paintings: Photographs,
    device: torch.device,
) -> Lesson:
    painter, begun = _begun(start, options, photographs, device)
    sources = {"photographs": photographs.description, "paintings": paintings.description, "start": begun}
    task = Task(options, sources)
    vgg = load_network(options.precision, upto=LAYERS[-1], device=device)

    def crops(numbers: Sequence[int]) -> Pairs:
        return Pairs(photographs, paintings, options.size, options.seed, numbers)

    def shown() -> Tensor:
        found: Tensor = painter(photographs.first, [paintings.first])
        return found

    loss = AdaINLoss(vgg, options.weights, options.precision)
    before = read(resolve(start)).provenance  # of the network that is begun with, or of VGG
    made = _made(task, options, None if start is None else before.changes)
    return Lesson(painter, loss, task, crops, shown, made, before.attribution, rounded=options.rounded)


def _begun(
    start: PathLike | None, options: AdaINOptions, photographs: Photographs, device: torch.device
) -> tuple[AdaIN, str | None]:
    """The network as training begins with it, and the SHA-256 of the file that it comes from, if there is one."""
    if start is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            painter = AdaIN(AdaINNetwork()).to(device)
        crops = Crops(photographs, options.size, options.seed, range(MEASURED))
        painter.begin_with(
            load_network("float32", upto=DEEPEST, device=device),
            torch.stack([crops[index] for index in range(MEASURED)]),
        )
        digest = None
    else:
        found = load_stylizer(start, device=device)
        if not isinstance(found, AdaIN):
            with located(start):
                family, cure = found.network.family, "name one that train made with `network` adain"
                raise OptionError("a network of the family adain", family, cure, tensor="start")
        painter, digest = found.requires_grad_(True), sha256(read_file(resolve(start)))
    painter.encoder.requires_grad_(options.part == "both")
    lay_channels_last(painter)
    return painter.train(), digest


def _made(task: Task, options: AdaINOptions, before: str | None) -> str:
    """How a network was trained, after what was done to it before, for its file."""
    begun = "its encoder begun with VGG-19's weights" if before is None else before
    part = {"decoder": "its decoder", "both": "encoder and decoder"}[options.part]
    rounded = "" if options.rounded is None else f", with weights rounded to {options.rounded} bits"
    return (
        f"{begun}; {part} trained by vggquant {version('vggquant')} on {task.sources['photographs']} and paintings, "
        f"{task.sources['paintings']}, {task.words}{rounded}"
    )
