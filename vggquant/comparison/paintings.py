"""Paints one picture under each of several weights, and judges every painting under the reference.

The optimisation and its loss are left to `style.transfer`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from vggquant.comparison.measuring import Measured
from vggquant.comparison.subjects import Restored, Subject
from vggquant.errors import OptionError, PictureError, SourceError
from vggquant.networks.vgg import STYLE_LAYERS
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import picture_loss, stylize


def require_style_layers(subjects: Sequence[Subject]) -> None:
    """Refuse weights that end before the last style layer.

    Raises:
        SourceError: One of them does.
    """
    for subject in subjects:
        if STYLE_LAYERS[-1] not in subject.layers:
            expected = f"layers up to {STYLE_LAYERS[-1]} to paint with"
            cure = "leave the transfers out, or pack more layers"
            raise SourceError(expected, f"the last is {subject.convolutions[-1]}", cure, path=subject.path)


class Painter:
    """Paints the same content in the same style with one network after another.

    Args:
        reference: Paints at once, and judges every painting.
        sources: The ``content`` and the ``style``, each (1, 3, H, W).
        options: Of every transfer.
        count: Called with a label and a number of steps when these are done.

    Attributes:
        paintings: By label, the reference's first, each (1, 3, H, W).
        loss: Of the reference's painting, by which the losses of all others are divided.
    """

    def __init__(
        self,
        reference: Restored,
        sources: Mapping[str, Tensor],
        options: StyleOptions,
        count: Callable[[str, int], None],
    ) -> None:
        self.reference = reference
        self.content, self.style = sources["content"], sources["style"]
        self.options = options
        self.count = count
        self.original = self._paint(reference)
        self.loss = self._loss_of(self.original)
        self.paintings = {reference.subject.label: self.original}

    def judged(self, file: Measured, weights: Restored) -> Measured:
        """Paint with a file's weights, and add the loss and the regret of that painting to the file's figures."""
        if file.equals_reference:  # the same weights paint the same picture
            painting = self.original
            self.count(file.label, self.options.steps)
        else:
            painting = self._paint(weights)
        self.paintings[file.label] = painting
        loss = self._loss_of(painting)
        return dataclasses.replace(file, transfer_loss=loss, transfer_regret=loss / self.loss)

    def _paint(self, weights: Restored) -> Tensor:
        label, path = weights.subject.label, weights.subject.path
        cure = "leave the transfers out"  # nothing of how they are made can be chosen
        try:
            return stylize(
                weights.network, self.content, [self.style], self.options, progress=lambda _: self.count(label, 1)
            )
        except OptionError as error:  # these weights led astray
            raise SourceError(error.expected, error.got, cure, path=path) from None
        except PictureError as error:  # the memory is short
            raise error.advising(cure) from None

    def _loss_of(self, painting: Tensor) -> float:
        return picture_loss(self.reference.network, self.content, [self.style], painting, self.options)
