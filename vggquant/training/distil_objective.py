"""What a network is distilled for: a teacher's numbers of styles, its pictures, and what a VGG sees in them.

A teacher is any callable. G. Ghiasi et al. and Magenta compared pixels alone; a small term of the losses that the
teacher was trained for itself is what their article proposes as next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vggquant.errors import OptionError
from vggquant.models.arbitrary import seen
from vggquant.models.features import Features
from vggquant.networks.arbitrary import CODE
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.style.losses import activations_of, gram_matrices
from vggquant.style.options import Precision
from vggquant.training.trainer import Paint

PAINTED = 4  # one in so many styles is painted by a teacher
MIXTURES = (0.5, 1.2)  # how much of another style is taken of such paintings, at least and at most
_LAYERS = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])


@dataclass(frozen=True)
class Teacher:
    """A network that another learns from, in two callables.

    Args:
        predict: From styles (N, 3, 256, 256), RGB in [0, 1], to their numbers (N, 100).
        paint: From contents (N, 3, H, W), RGB in [0, 1], and numbers (N, 100) to paintings.
        name: What it is, in words, which the files of those that learn from it repeat.
        attribution: Its authors and licence, which these repeat too.
    """

    predict: Callable[[Tensor], Tensor]
    paint: Callable[[Tensor, Tensor], Tensor]
    name: str
    attribution: str | None = None

    def codes(self, styles: Tensor) -> Tensor:
        """The numbers of styles (N, 3, 256, 256), (N, 100).

        Raises:
            OptionError: `predict` gives something else.
        """
        return _required(self.predict(styles), "numbers", (len(styles), CODE), styles)

    def paintings(self, contents: Tensor, codes: Tensor) -> Tensor:
        """Paintings of contents (N, 3, H, W) under numbers, of the same shape.

        Raises:
            OptionError: `paint` gives something else.
        """
        return _required(self.paint(contents, codes), "paintings", tuple(contents.shape), contents)


class CodeLoss:
    """How far a predictor's numbers are from a teacher's.

    One in four of the styles, or one of two or three, is painted by the teacher in the style of the next one, for there
    are few paintings.

    Args:
        teacher: Gives the numbers.
        precision: Of the predictor, ``float32`` or ``bf16``.
    """

    weights: Mapping[str, float] = {"code": 1.0}

    def __init__(self, teacher: Teacher, precision: Precision) -> None:
        self.teacher, self.precision = teacher, precision

    def terms(self, paint: Paint, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The mean squared difference.

        Args:
            paint: The predictor.
            batch: Styles (N, 3, 256, 256).
            step: Which step this is; all are alike.
        """
        with torch.no_grad():
            codes = self.teacher.codes(batch)
            if len(batch) > 1:
                count = max(1, len(batch) // PAINTED)
                shares = torch.linspace(*MIXTURES, count)[:, None].to(codes)
                between = torch.lerp(codes[:count], codes[1 : count + 1], shares)
                batch = torch.cat([self.teacher.paintings(batch[:count], between), batch[count:]])
                codes = self.teacher.codes(batch)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = paint(batch)
        return {"code": mse_loss(found.float(), codes)}


class PaintingLoss:
    """How far a transfer network's paintings are from a teacher's, from their contents and from their styles.

    Args:
        teacher: Gives numbers and paintings.
        vgg: Gives activations by layer name; if not given, pixels alone are compared.
        weights: Of the terms ``pixel``, ``content`` and ``style``.
        precision: Of the networks, ``float32`` or ``bf16``.
    """

    def __init__(
        self, teacher: Teacher, vgg: Features | None, weights: Mapping[str, float], precision: Precision
    ) -> None:
        self.vgg = None if vgg is None else partial(activations_of, vgg, precision=precision)
        self.teacher, self.weights, self.precision = teacher, weights, precision

    def terms(self, paint: Paint, batch: tuple[Tensor, Tensor, Tensor], step: int) -> dict[str, Tensor]:
        """The terms of the loss, each a mean over the paintings, without their weights.

        Args:
            paint: The transfer network.
            batch: Contents (N, 3, H, W), styles (N, 3, H', W'), and how much of the content's own style and of the next
                one's is taken instead, (N, 2). Where it is any, the style does not count.
            step: Which step this is; all are alike.
        """
        contents, styles, shares = batch
        with torch.no_grad():
            codes, own = (self.teacher.codes(seen(pictures)) for pictures in (styles, contents))
            for share, others in zip(shares.unbind(1), (own, codes.roll(-1, 0)), strict=True):
                codes = torch.lerp(codes, others, share[:, None])
            wanted = self.teacher.paintings(contents, codes)
        with torch.autocast(contents.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            paintings = paint(contents, codes)
        paintings = paintings.float()
        terms = {"pixel": mse_loss(paintings, wanted)}
        if self.vgg is None:
            return terms
        with torch.no_grad():
            content = self.vgg(contents, (CONTENT_LAYER,))[CONTENT_LAYER]
            grams = gram_matrices(self.vgg(styles, STYLE_LAYERS), STYLE_LAYERS)
        found = self.vgg(paintings, _LAYERS)
        alone = (shares.sum(1) == 0).float()
        painted = gram_matrices(found, STYLE_LAYERS)
        layers = torch.stack([_relative(painted[layer], grams[layer]) for layer in STYLE_LAYERS]).mean(0)
        return terms | {
            "content": _relative(found[CONTENT_LAYER], content).mean(),
            "style": (alone * layers).sum() / alone.sum().clamp_min(1),
        }


def _required(found: Tensor, what: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """What a teacher gives, if it has the shape that it should, in the type and on the device of something else."""
    if not isinstance(found, Tensor) or tuple(found.shape) != shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise OptionError(f"{what} of shape {shape}", got, "mend the teacher", tensor="teacher")
    return found.to(like)


def _relative(found: Tensor, expected: Tensor) -> Tensor:
    """‖found − expected‖² / ‖expected‖² of each of a batch."""
    wide = expected.float().flatten(1)
    return (found.float().flatten(1) - wide).square().sum(1) / wide.square().sum(1)
