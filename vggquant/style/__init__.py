"""Style transfer by optimisation and losses for training, with any module that returns activations by layer name.

Most modules here work on tensors; `painting` and the modules that it brings together work on files. Loading weights is
left to `models`, and nothing here knows how they were stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.style.feedforward import paint_in_one_pass
    from vggquant.style.losses import TotalVariationLoss
    from vggquant.style.options import StyleOptions
    from vggquant.style.painting import paint
    from vggquant.style.perceptual import ContentLoss, PerceptualLoss, StyleLoss
    from vggquant.style.task import Reached
    from vggquant.style.transfer import Interrupted, StyleProgress, picture_loss, stylize

__all__ = [
    "ContentLoss",
    "Interrupted",
    "PerceptualLoss",
    "Reached",
    "StyleLoss",
    "StyleOptions",
    "StyleProgress",
    "TotalVariationLoss",
    "paint",
    "paint_in_one_pass",
    "picture_loss",
    "stylize",
]

# The command line takes its options from here and must not wait for torch.
__getattr__, __dir__ = offer(
    __name__,
    {
        "ContentLoss": "perceptual",
        "Interrupted": "transfer",
        "PerceptualLoss": "perceptual",
        "Reached": "task",
        "StyleLoss": "perceptual",
        "StyleOptions": "options",
        "StyleProgress": "transfer",
        "TotalVariationLoss": "losses",
        "paint": "painting",
        "paint_in_one_pass": "feedforward",
        "picture_loss": "transfer",
        "stylize": "transfer",
    },
)
