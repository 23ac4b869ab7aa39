"""Training of networks that paint in one pass, with a packed VGG as their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.training.adain import train_adain
    from vggquant.training.distil_objective import Teacher
    from vggquant.training.distilling import distil
    from vggquant.training.options import AdaINOptions, DistilOptions, TrainingOptions
    from vggquant.training.pruning import prune
    from vggquant.training.running import TrainingInterrupted, TrainReport
    from vggquant.training.training import train

__all__ = [
    "AdaINOptions",
    "DistilOptions",
    "Teacher",
    "TrainReport",
    "TrainingInterrupted",
    "TrainingOptions",
    "distil",
    "prune",
    "train",
    "train_adain",
]

# The command line takes its options from here and must not wait for torch.
__getattr__, __dir__ = offer(
    __name__,
    {
        "AdaINOptions": "options",
        "DistilOptions": "options",
        "Teacher": "distil_objective",
        "TrainReport": "running",
        "TrainingInterrupted": "running",
        "TrainingOptions": "options",
        "distil": "distilling",
        "prune": "pruning",
        "train": "training",
        "train_adain": "adain",
    },
)
