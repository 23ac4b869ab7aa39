"""Distils networks that paint in any style, from files to a file: `distil`.

What a pupil learns is left to `distil_objective`, one step of it to `trainer`, and what is written to `running`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vggquant.errors import OptionError, located
from vggquant.files.container import read
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.models.arbitrary import Arbitrary, Transfer
from vggquant.models.devices import computes_bf16, require_device
from vggquant.models.layout import lay_channels_last
from vggquant.models.painters import load_stylizer
from vggquant.networks.arbitrary import ArbitraryNetwork, mobilenet, steered_names
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.packing.widths import Bits
from vggquant.progress import ProgressCallback
from vggquant.style.loading import load_network
from vggquant.training.checkpoints import Task
from vggquant.training.checks import check_distil_options
from vggquant.training.crops import Photographs
from vggquant.training.distil_objective import CodeLoss, PaintingLoss, Teacher
from vggquant.training.normalising import normalised
from vggquant.training.options import EVERY, DistilOptions
from vggquant.training.processes import together
from vggquant.training.running import Files, Lesson, Packing, TrainReport, teach
from vggquant.training.views import StyledCrops, StyleViews

WIDTH = 0.6  # of a predictor that is begun without another, times a MobileNetV2


def distil(
    teacher: PathLike | Teacher,
    styles: PathLike,
    out: PathLike,
    options: DistilOptions | None = None,
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
    """Teach a network that paints in any style what another one knows, and pack it.

    One part of it learns at a time, its predictor or its transfer network. It begins with `start`, or with a copy of a
    teacher that is a file, as far as their shapes are the same; a transfer network becomes separable by what is nearest
    to it, and a predictor of another width begins anew. Everything else is as for `train`.

    Args:
        teacher: A packed network of the family ``arbitrary``, or any callables.
        styles: A folder of paintings.
        out: The packed file to write.
        options: Of the training.
        images: A folder of photographs to train on; generated pictures if not given.
        bits: Bits per code, as for `pack`; 8 if not given.
        max_size: Instead, the largest size of the file.
        start: A packed network of this family to begin with, or ``arbitrary``.
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

    Example:
        >>> distil("plain", "paintings", "separable", DistilOptions(separable=True), images="photos")  # doctest: +SKIP
    """
    options = options or DistilOptions()
    check_distil_options(options, every)
    files = Files(out, checkpoint, resume, preview, force)
    begun = teacher if start is None and not isinstance(teacher, Teacher) else start
    files.check([] if isinstance(teacher, Teacher) else [resolve(teacher)], [images, styles], begun)
    with together(require_device(device)) as processes:
        photographs, paintings = (Photographs(folder, processes.device) for folder in (images, styles))
        options = options.settled(bf16=computes_bf16(processes.device))
        lesson = _lesson(teacher, begun, options, photographs, paintings, processes.device)
        report = teach(lesson, files, Packing(bits, max_size), processes, every=every, progress=progress)
    return replace(report, notes=(*report.notes, *photographs.notes, *paintings.notes))


def _lesson(
    teacher: PathLike | Teacher,
    start: PathLike | None,
    options: DistilOptions,
    photographs: Photographs,
    paintings: Photographs,
    device: torch.device,
) -> Lesson:
    known = teacher if isinstance(teacher, Teacher) else _teacher(teacher, device)
    pupil = _begun(start, options, device)
    digest = None if start is None else sha256(read_file(resolve(start)))
    described = {"photographs": photographs.description, "paintings": paintings.description}
    task = Task(options, {"teacher": known.name, **described, "start": digest})

    def crops(numbers: Sequence[int]) -> Dataset[Any]:
        if options.part == "predictor":
            return StyleViews(paintings, photographs, options.seed, numbers)
        return StyledCrops(photographs, paintings, (options.size, options.style_size), options.seed, numbers)

    def shown() -> Tensor:
        first, style = (pictures[0][None].float() / 255 for pictures in (photographs, paintings))
        found: Tensor = pupil(first, [style])
        return found

    loss: CodeLoss | PaintingLoss = CodeLoss(known, options.precision)
    if options.part == "transfer":
        looks = options.content_weight > 0 or options.style_weight > 0
        vgg = load_network(options.precision, upto=STYLE_LAYERS[-1], device=device) if looks else None
        loss = PaintingLoss(known, vgg, options.weights, options.precision)
    before = None if start is None else read(resolve(start)).provenance
    authors = [known.attribution, None if before is None else before.attribution]
    told = "; ".join(dict.fromkeys(filter(None, authors)))  # each once
    made = _made(task, options, known, None if before is None else before.changes)
    return Lesson(pupil, loss, task, crops, shown, made, told or None, part=options.part)


def _teacher(path: PathLike, device: torch.device) -> Teacher:
    """The network of a file as one that another learns from."""
    network = _arbitrary(path, device, "teacher")
    name = f"the network of SHA-256 {sha256(read_file(resolve(path)))}"
    return Teacher(network.predictor, network.transfer, name, read(resolve(path)).provenance.attribution)


def _arbitrary(path: PathLike, device: torch.device, asked: str) -> Arbitrary:
    """The network of a file, which must be one of this family."""
    found = load_stylizer(path, device=device)
    if not isinstance(found, Arbitrary):
        with located(path):
            family = found.network.family
            raise OptionError("a network of the family arbitrary", family, "name another", tensor=asked)
    return found


def _begun(start: PathLike | None, options: DistilOptions, device: torch.device) -> Arbitrary:
    """The pupil as its training begins with it, one part of it ready to learn."""
    before = None if start is None else _arbitrary(start, torch.device("cpu"), "start")
    shape = ArbitraryNetwork(predictor=mobilenet(WIDTH)) if before is None else before.network
    if options.part == "predictor" and options.width is not None:
        shape = replace(shape, predictor=mobilenet(options.width))
    if options.part == "transfer" and options.separable:
        shape = replace(shape, separable=steered_names())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        pupil = Arbitrary(shape)
    new = {"predictor", "transfer"}
    if before is not None:
        new.remove("transfer")
        begin_with(pupil.transfer, before.transfer)
        if before.network.predictor == shape.predictor:
            new.remove("predictor")
            pupil.predictor.load_state_dict(before.predictor.state_dict())
    for part in new & {options.part}:
        normalised(pupil.get_submodule(part), but=("code",))
    pupil.to(device)
    if device.type == "cuda":
        lay_channels_last(pupil)
    return pupil.train()


def begin_with(transfer: Transfer, start: Transfer) -> None:
    """Give a transfer network the weights of another one of the same filters, as far as they fit.

    A plain convolution becomes a separable one by what is nearest to it: for each channel before it, the kernel that
    the channels behind it have most in common.
    """
    state, found = start.state_dict(), transfer.state_dict()
    for name in found:
        if name in state:
            found[name] = state[name]
        elif name.endswith("depthwise.weight"):
            layer = name.removesuffix("depthwise.weight")
            plain = state[f"{layer}convolution.weight"].float()
            outside, inside, kernel, _ = plain.shape
            left, strength, right = torch.linalg.svd(plain.permute(1, 0, 2, 3).flatten(2), full_matrices=False)
            root = strength[:, :1].sqrt()
            found[name] = (root * right[:, 0]).view(inside, 1, kernel, kernel)
            found[f"{layer}pointwise.weight"] = (root * left[:, :, 0]).T.reshape(outside, inside, 1, 1)
    transfer.load_state_dict(found)


def _made(task: Task, options: DistilOptions, teacher: Teacher, before: str | None) -> str:
    """How a network was distilled, after what was done to it before, for its file."""
    part = {"predictor": "its predictor", "transfer": "its transfer network"}[options.part]
    taught = (
        f"{part} distilled from {teacher.name} by vggquant {version('vggquant')} on {task.sources['photographs']} and "
        f"paintings, {task.sources['paintings']}, {task.words}"
    )
    return "; ".join(filter(None, [before, taught]))
