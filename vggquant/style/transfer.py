"""The transfer of Gatys et al. (CVPR 2016), with any module that gives `{layer name: activation}`.

A picture is optimised from coarse to fine, in units of 0–255 and unclipped. What is minimised is left to `losses`, a
single step to `descent`, the sizes to `scales`; reading and writing pictures is left to `painting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from vggquant.errors import OptionError, PictureError
from vggquant.models.devices import computes_bf16
from vggquant.models.features import Features
from vggquant.networks.vgg import CAFFE_MEAN
from vggquant.pictures.colors import luminance, match_colors, match_luminance, with_luminance
from vggquant.progress import Progress
from vggquant.style.checks import check_scales, check_task
from vggquant.style.descent import Curvature, Descent
from vggquant.style.losses import TransferLoss
from vggquant.style.memory import memory_per_pixel, require_memory
from vggquant.style.options import PreserveColor, StyleOptions
from vggquant.style.scales import Stage, enlarge, resize, shrink_style, size_of, stages
from vggquant.style.task import Reached, Task

# RGB in [0, 1]. Three digits, because every seed's noise has been made with as many.
NOISE_MEAN = tuple(round(value / 255, 3) for value in reversed(CAFFE_MEAN))


@dataclass(frozen=True, kw_only=True)
class StyleProgress(Progress):
    """A report of `stylize` after a step; `values` are the terms of the loss before that step.

    Args:
        picture: Gives the picture after the step, (1, 3, H, W), RGB, at the size being worked at.
        reached: What the transfer can go on from later, see `stylize`.
    """

    picture: Callable[[], Tensor]
    reached: Reached


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a transfer after a step or more.

    Args:
        progress: The report of the last whole step, from which the picture can be had and the transfer go on.
        message: What became of it, in one line.
    """

    def __init__(self, progress: StyleProgress, message: str = "") -> None:
        super().__init__(message or f"Interrupted after step {progress.done} of {progress.total}.")
        self.progress = progress


StyleCallback = Callable[[StyleProgress], None]


def stylize(
    vgg: Features,
    content: Tensor,
    styles: Sequence[Tensor],
    options: StyleOptions | None = None,
    *,
    masks: Sequence[Tensor | None] | None = None,
    start: Tensor | None = None,
    done: int = 0,
    resume: Reached | None = None,
    progress: StyleCallback | None = None,
) -> Tensor:
    """Paint the content picture in the manner of the style pictures.

    Args:
        vgg: Gives activations by layer name, for instance a `VGG`.
        content: (1, 3, H, W), RGB in [0, 1].
        styles: One or more pictures of the same form and of any size; they are scaled down as the content is.
        options: Layers, weights, steps, optimiser, scales, precision, colours.
        masks: For each style ``None`` or (1, 1, H, W) in [0, 1]: where in the result it is wanted.
        start: A picture to optimise from, of any size, instead of `StyleOptions.start`. Finer scales get its details.
        done: To resume a transfer from a picture: how many of its steps led to `start`. These are not made again.
        resume: To resume a transfer as if it had never stopped: what `StyleProgress.reached` was after a step. The
            options are to be the same, but for more steps, which are made at the full size.
        progress: Called after each step.

    Returns:
        (1, 3, H, W), RGB, mostly in [0, 1].

    Raises:
        OptionError: An option has no meaning, a layer is unknown, or the loss is no longer finite.
        PictureError: A picture or mask is not of the form asked for, or too large for the memory.
        Interrupted: Ctrl-C was pressed. This `KeyboardInterrupt` holds the picture and what the transfer goes on from.
    """
    options = options or StyleOptions()
    task = Task(content, tuple(styles), tuple(masks or [None] * len(styles)), start, done)
    if resume is not None:
        if start is not None or done:
            raise OptionError("a picture to start or a transfer to resume", "both", "pass one", tensor="resume")
        if not isinstance(resume, Reached):
            cure = "pass what a report had, or a picture's name to paint"
            raise OptionError("the state of a transfer", type(resume).__name__, cure, tensor="resume")
        task = task.going_on(resume)
    check_task(task, options)
    options = options.settled(bf16=computes_bf16(task.content.device))
    check_scales(vgg, task, options)
    if options.steps > task.done:
        per_pixel = memory_per_pixel(vgg, content.device, options, task.masked)
        require_memory(per_pixel, task, options.precision)
    return optimise(vgg, task, options, progress)


def picture_loss(
    vgg: Features, content: Tensor, styles: Sequence[Tensor], picture: Tensor, options: StyleOptions | None = None
) -> float:
    """The loss of a finished picture at its own size, whoever painted it, as `stylize` would start from it.

    Args:
        vgg: Gives activations by layer name, for instance a `VGG`.
        content: (1, 3, H, W), RGB in [0, 1].
        styles: One or more pictures of the same form, of any size.
        picture: (1, 3, H, W), RGB, mostly in [0, 1].
        options: Layers, weights, colours and precision, of which ``auto`` is float32 here, so that losses can be
            compared.
    """
    options = options or StyleOptions()
    task = Task(content, tuple(styles), (None,) * len(styles), picture)
    check_task(task, options)
    if size_of(picture) != task.size:
        height, width = task.size
        got = f"{picture.shape[3]} × {picture.shape[2]}"
        raise PictureError(f"the content's {width} × {height} pixels", got, "resize one of them", tensor="picture")
    task = recoloured(task.copied(), options.preserve_color)
    assert task.start is not None
    with torch.no_grad():
        loss, _ = TransferLoss(vgg, task.content, task.styles, task.masks, options)(255 * task.start)
    return loss.item()


def optimise(vgg: Features, task: Task, options: StyleOptions, progress: StyleCallback | None = None) -> Tensor:
    """Do the work of `stylize` on a task that was checked before.

    Raises:
        OptionError: A layer is unknown, or the loss is no longer finite.
        PictureError: A picture is too small for the network.
    """
    with torch.inference_mode(False), torch.enable_grad():  # also where the caller has turned gradients off
        task = task.copied()
        shown = partial(_shown_pixels, colored=task.content if options.preserve_color == "luminance" else None)
        task = recoloured(task, options.preserve_color)
        first = _first_picture(task, options)
        planned = stages(*task.size, options, task.planned)
        remaining = [stage for stage in planned if stage.without(task.done)]
        report = _Reporter(remaining, task, options.steps, first, shown, progress)
        pixels, curvature = _begun(task)
        try:
            for stage in remaining:
                loss = _loss_at(stage, vgg, task, options)
                if task.reached is not None and task.done > stage.steps.start:  # it was left in the midst of this stage
                    descent = Descent.resumed(loss, options.optimizer, task.reached.memory, task.content.device)
                else:
                    whitening = None if curvature is None else curvature.whitening()
                    curvature = Curvature() if options.optimizer == "lbfgs" and stage is not planned[-1] else None
                    pixels = _at_size(stage.size, pixels, first)
                    descent = Descent(loss, pixels, options.optimizer, whitening=whitening, curvature=curvature)
                for step, terms in zip(stage.without(task.done), descent, strict=False):
                    report(stage, step, terms, descent)
                pixels, curvature = descent.pixels, descent.curvature
        except KeyboardInterrupt:
            if report.latest is None:
                raise
            raise Interrupted(report.latest) from None
        return shown(_at_size(task.size, pixels, first))


def recoloured(task: Task, preserve: PreserveColor) -> Task:
    """The task as it is painted so that the content's colours can be preserved, see `shown`."""
    content = task.content
    if preserve == "luminance":
        grey = luminance(content).expand_as(content)
        styles = tuple(match_luminance(style, grey) for style in task.styles)
        start = None if task.start is None else luminance(task.start).expand_as(task.start)
        return replace(task, content=grey, styles=styles, start=start)
    if preserve == "linear":
        return replace(task, styles=tuple(match_colors(style, content) for style in task.styles))
    return task


def shown(picture: Tensor, colored: Tensor | None) -> Tensor:
    """What is painted, with the colours of another picture if one is given."""
    return picture if colored is None else with_luminance(resize(colored, size_of(picture)), picture)


def _shown_pixels(pixels: Tensor, colored: Tensor | None) -> Tensor:
    """The same of pixels in units of 0–255, in [0, 1]."""
    return shown(pixels.detach() / 255, colored)


def _begun(task: Task) -> tuple[Tensor | None, Curvature | None]:
    """The painting as it stands, in units of 0–255, and the curvature known of it; each ``None`` if there is none."""
    if task.reached is not None:
        memory = task.reached.memory
        return memory["pixels"].to(task.content.device), Curvature.recalled(memory)
    return (255 * task.start if task.start is not None and task.done else None), None


def _first_picture(task: Task, options: StyleOptions) -> Tensor:
    """The picture that the optimisation starts from, at the full size."""
    if task.reached is not None:
        return task.reached.first.to(task.content.device)
    if task.start is not None and not task.done:
        return resize(task.start, task.size)
    if options.start == "content":
        return task.content
    if options.start == "grey":
        return torch.full_like(task.content, 0.5)
    generator = torch.Generator().manual_seed(options.seed)  # on the CPU, so that all devices get the same noise
    noise = torch.randn(task.content.shape, generator=generator)
    return (torch.tensor(NOISE_MEAN).reshape(3, 1, 1) + noise / 255).to(task.content)


def _at_size(size: tuple[int, int], pixels: Tensor | None, first: Tensor) -> Tensor:
    """The painting, or before there is one the picture it starts from, in units of 0–255 at a size."""
    return 255 * resize(first, size) if pixels is None else enlarge(pixels, first, size)


def _loss_at(stage: Stage, vgg: Features, task: Task, options: StyleOptions) -> TransferLoss:
    styles = [shrink_style(style, stage.factor) for style in task.styles]
    return TransferLoss(vgg, resize(task.content, stage.size), styles, task.masks, options)


class _Reporter:
    """Reports steps to the caller, with the time left once it can be told."""

    def __init__(
        self,
        remaining: Sequence[Stage],
        task: Task,
        steps: int,
        first: Tensor,
        shown: Callable[[Tensor], Tensor],
        progress: StyleCallback | None,
    ) -> None:
        self.planned = steps if task.planned is None else task.planned
        self.steps, self.first, self.shown, self.progress = steps, first, shown, progress
        self.work = sum(stage.area * len(stage.without(task.done)) for stage in remaining)
        self.worked = 0
        self.began = self.before = time.monotonic()
        self.stage: Stage | None = None
        self.ordinary, self.seconds, self.pixels = 0, 0.0, 0  # steps that were measured, their time and their work
        self.latest: StyleProgress | None = None

    def __call__(self, stage: Stage, step: int, terms: dict[str, float], descent: Descent) -> None:
        now = time.monotonic()
        if stage is self.stage:  # the first step of a stage takes longer: what is compared with is computed in it
            self.ordinary += 1
            self.seconds += now - self.before
            self.pixels += stage.area
        self.worked += stage.area
        self.stage, self.before = stage, now
        reached = Reached(step + 1, self.planned, self.first, descent.memory())
        self.latest = StyleProgress(
            "stylize",
            step + 1,
            self.steps,
            now - self.began,
            stage.width_by_height,
            terms,
            self._left(),
            even=False,
            picture=partial(self.shown, reached.memory["pixels"]),
            reached=reached,
        )
        if self.progress is not None:
            self.progress(self.latest)

    def _left(self) -> float | None:
        """Seconds for the pixels still to be worked through, once two ordinary steps and a second of them were made."""
        if self.worked == self.work:
            return 0.0
        if self.ordinary < 2 or self.seconds < 1:
            return None
        return self.seconds * (self.work - self.worked) / self.pixels
