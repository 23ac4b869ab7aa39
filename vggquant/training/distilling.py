"""Distils networks that paint in any style, from files to a file: `distil`.

What a pupil learns is left to `distil_objective`, one step of it to `trainer`, and what is written to `running`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vggquant.errors import OptionError, located
from vggquant.files.container import read
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import resolve
from vggquant.files.weights import Provenance
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
from vggquant.training.options import EVERY, TAUGHT, DistilOptions
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
    """
    options = options or DistilOptions()
    check_distil_options(options, every)
    files = Files(out, checkpoint, resume, preview, force)
    sources = [] if isinstance(teacher, Teacher) else [resolve(teacher)]
    files.check(sources, [images, styles], start)
    with together(require_device(device)) as processes:
        known, begun = _known(teacher, start, processes.device)
        paintings, photographs = (Photographs(folder, processes.device) for folder in (styles, images))
        options = options.settled(bf16=computes_bf16(processes.device))
        lesson = _lesson(known, begun, options, photographs, paintings, processes.device)
        report = teach(lesson, files, Packing(bits, max_size), processes, every=every, progress=progress)
    other = next(part for part in TAUGHT if part != options.part)
    untaught = [] if begun else [f"its {other} knows nothing yet: go on with `start`"]
    return replace(report, notes=(*report.notes, *photographs.notes, *paintings.notes, *untaught))


def _known(teacher: PathLike | Teacher, start: PathLike | None, device: torch.device) -> tuple[Teacher, _Opened | None]:
    """The teacher, and the network to begin with."""
    begun = None if start is None else _opened(start, device, "start")
    if isinstance(teacher, Teacher):
        return teacher, begun
    opened = _opened(teacher, device, "teacher")
    return opened.teacher(told=begun is not None), begun or opened


@dataclass(frozen=True)
class _Opened:
    """A network of a file.

    Args:
        network: On the device.
        digest: SHA-256 of the file.
        provenance: What the file says of its making.
    """

    network: Arbitrary
    digest: str
    provenance: Provenance

    def teacher(self, *, told: bool) -> Teacher:
        """The network as one that another learns from.

        Args:
            told: Whether its name tells how it was made.
        """
        changes = f" ({self.provenance.changes})" if told and self.provenance.changes else ""
        name = f"the network of SHA-256 {self.digest}{changes}"
        return Teacher(self.network.predictor, self.network.transfer, name, self.provenance.attribution)


def _opened(path: PathLike, device: torch.device, asked: str) -> _Opened:
    """The network of a file, which must be one of this family."""
    file = resolve(path)
    network = load_stylizer(file, device=device)
    if not isinstance(network, Arbitrary):
        with located(path):
            family = network.network.family
            raise OptionError("a network of the family arbitrary", family, "name another", tensor=asked)
    return _Opened(network, sha256(read_file(file)), read(file).provenance)


def _lesson(
    teacher: Teacher,
    begun: _Opened | None,
    options: DistilOptions,
    photographs: Photographs,
    paintings: Photographs,
    device: torch.device,
) -> Lesson:
    pupil = _pupil(None if begun is None else begun.network, options, device)
    described = {"photographs": photographs.description, "paintings": paintings.description}
    task = Task(options, {"teacher": teacher.name, **described, "start": None if begun is None else begun.digest})

    def crops(numbers: Sequence[int]) -> Dataset[Any]:
        if options.part == "predictor":
            return StyleViews(paintings, photographs, options.seed, numbers)
        return StyledCrops(photographs, paintings, (options.size, options.style_size), options.seed, numbers)

    def shown() -> Tensor:
        found: Tensor = pupil(photographs.first, [paintings.first])
        return found

    loss: CodeLoss | PaintingLoss = CodeLoss(teacher, options.precision)
    if options.part == "transfer":
        looks = options.content_weight > 0 or options.style_weight > 0
        vgg = load_network(options.precision, upto=STYLE_LAYERS[-1], device=device) if looks else None
        loss = PaintingLoss(teacher, vgg, options.weights, options.precision)
    before = [] if begun is None else [begun.provenance]
    authors = filter(None, [*(each.attribution for each in before), teacher.attribution])
    made = "; ".join(filter(None, [*(each.changes for each in before), _made(task, options, teacher)]))
    told = "; ".join(dict.fromkeys(authors))  # each once
    return Lesson(pupil, loss, task, crops, shown, made, told or None, part=options.part)


def _pupil(begun: Arbitrary | None, options: DistilOptions, device: torch.device) -> Arbitrary:
    """The network as its training begins, one part of it ready to learn."""
    shape = ArbitraryNetwork(predictor=mobilenet(WIDTH)) if begun is None else begun.network
    if options.part == "predictor" and options.width is not None:
        shape = replace(shape, predictor=mobilenet(options.width))
    if options.part == "transfer" and options.separable:
        if shape.separable == steered_names():
            raise OptionError("a network with plain convolutions", "one without", "leave it out", tensor="separable")
        shape = replace(shape, separable=steered_names())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        pupil = Arbitrary(shape)
    new = set(TAUGHT)
    if begun is not None:
        new.remove("transfer")
        begin_with(pupil.transfer, begun.transfer)
        if begun.network.predictor == shape.predictor:
            new.remove("predictor")
            pupil.predictor.load_state_dict(begun.predictor.state_dict())
    if options.part in new:
        normalised(pupil.get_submodule(options.part), but=("code",))
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


def _made(task: Task, options: DistilOptions, teacher: Teacher) -> str:
    """How a network was distilled, for its file."""
    part, pictures = {
        "predictor": ("its predictor", f"{options.batch} styles"),
        "transfer": (
            "its transfer network",
            f"{options.batch} crops of {options.size} pixels in styles of {options.style_size}",
        ),
    }[options.part]
    return (
        f"{part} distilled from {teacher.name} by vggquant {version('vggquant')} on {task.sources['photographs']} and "
        f"paintings, {task.sources['paintings']}, {options.steps} steps of {pictures}{task.beginning}"
    )
