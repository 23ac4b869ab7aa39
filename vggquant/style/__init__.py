"""Style transfer by optimisation, on any module that returns activations by layer name.

`options`, `losses`, `descent` and `transfer` work on tensors, `painting` on picture files. Loading the network is
left to `models`; nothing here knows how its weights were stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy import offer

if TYPE_CHECKING:
    from vggquant.style.options import StyleOptions
    from vggquant.style.painting import paint
    from vggquant.style.transfer import ContentLoss, StyleLoss, StyleProgress, TotalVariationLoss, picture_loss, stylize

__all__ = [
    "ContentLoss",
    "StyleLoss",
    "StyleOptions",
    "StyleProgress",
    "TotalVariationLoss",
    "paint",
    "picture_loss",
    "stylize",
]

# the command line takes its options from here without waiting for torch
__getattr__, __dir__ = offer(
    __name__,
    {
        "ContentLoss": "transfer",
        "StyleLoss": "transfer",
        "StyleOptions": "options",
        "StyleProgress": "transfer",
        "TotalVariationLoss": "transfer",
        "paint": "painting",
        "picture_loss": "transfer",
        "stylize": "transfer",
    },
)
