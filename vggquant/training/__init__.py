"""Training of networks that paint in one pass, with a packed VGG as their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.training.options import TrainingOptions
    from vggquant.training.training import TrainingInterrupted, TrainReport, train

__all__ = ["TrainReport", "TrainingInterrupted", "TrainingOptions", "train"]

# The command line takes its options from here and must not wait for torch.
__getattr__, __dir__ = offer(
    __name__,
    {
        "TrainReport": "training",
        "TrainingInterrupted": "training",
        "TrainingOptions": "options",
        "train": "training",
    },
)
