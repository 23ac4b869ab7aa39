"""A painter in training: its weights, its optimiser and its schedule, which are torch's own, and one step of them.

Where photographs come from and what is written when is left to `training`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

from vggquant.errors import OptionError, SourceError
from vggquant.models.johnson import Johnson
from vggquant.training.objective import PainterLoss
from vggquant.training.options import TrainingOptions
from vggquant.training.processes import Processes

EPOCH = 1000  # crops after which they come again, so that what they are compared with is computed once
MOST_KEPT = 2**30  # bytes of these; what does not fit is computed again
NEWEST = 0.02  # share of the newest step in the terms that are shown
WARMING, COLD = 100, 0.1  # steps in which the learning rate rises, and the share of it that they begin with


class Trainer:
    """A painter with all that its training goes on from.

    Args:
        options: Of the training.
        loss: What is minimised.
        processes: That train together.
        start: A painter of the same shape, whose weights are begun with.
    """

    def __init__(
        self, options: TrainingOptions, loss: PainterLoss, processes: Processes, start: Johnson | None = None
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            self.painter = Johnson(options.shape).to(processes.device)
        if start is None:
            self.painter.begin_with(loss.style)
        else:
            self.painter.load_state_dict(start.state_dict())
        self.loss, self.device, self.done = loss, processes.device, 0
        self.epoch = max(1, EPOCH // options.batch)
        self.terms: dict[str, float] = {}  # of the loss, means over the last steps
        self._targets: dict[int, Mapping[str, Tensor]] = {}
        self._room = MOST_KEPT
        self._joined = processes.joined(self.painter)
        self._optimizer = torch.optim.Adam(self.painter.parameters(), lr=options.learning_rate)
        self._schedule = ChainedScheduler(
            [
                LinearLR(self._optimizer, COLD, total_iters=WARMING),
                CosineAnnealingLR(self._optimizer, options.steps),
            ]
        )

    def step(self, photographs: Tensor) -> None:
        """Paint some photographs (N, 3, H, W), and change the weights a little.

        Raises:
            OptionError: The losses are no numbers any more.
        """
        photographs = photographs.to(self.device)
        place = self.done % self.epoch
        targets = self._targets.get(place)
        if targets is None:
            targets = self.loss.targets(photographs)
            self._room -= sum(target.nbytes for target in targets.values())
            if self._room >= 0:
                self._targets[place] = targets
        terms = self.loss(self._joined(photographs), targets)
        found = {name: float(term.detach()) for name, term in terms.items()}
        if not all(map(math.isfinite, found.values())):
            got = f"{' and '.join(name for name, term in found.items() if not math.isfinite(term))} of none"
            cure = "lower `learning_rate`; the last checkpoint is from before"
            raise OptionError("losses of finite value", got, cure, tensor="learning_rate")
        self._optimizer.zero_grad()
        torch.autograd.backward(self.loss.total(terms))
        self._optimizer.step()
        self._schedule.step()
        self.done += 1
        share = max(1 / self.done, NEWEST)
        self.terms = {name: (1 - share) * self.terms.get(name, term) + share * term for name, term in found.items()}

    def state(self) -> dict[str, Any]:
        """All that `go_on` needs, in types that torch loads without running code."""
        return {
            "done": self.done,
            "optimizer": self._optimizer.state_dict(),
            "painter": self.painter.state_dict(),
            "schedule": self._schedule.state_dict(),
            "terms": self.terms,
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on exactly from a state.

        Raises:
            SourceError: It is none of this training.
        """
        try:
            self.painter.load_state_dict(state["painter"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self.done, self.terms = int(state["done"]), dict(state["terms"])
        except Exception:  # torch has no common error for what does not fit
            cure = "name a checkpoint that train wrote"
            raise SourceError("the state of this training", "another", cure) from None
