"""A painter in training: its weights, its optimiser and its schedule, which are torch's own, and one step of them.

Where photographs come from and what is written when is left to `training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

from vggquant.models.johnson import Johnson
from vggquant.training.objective import PainterLoss
from vggquant.training.options import TrainingOptions
from vggquant.training.processes import Processes

EPOCH = 1000  # crops after which they come again, so that what they are compared with is computed once
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
        self._targets: dict[int, Mapping[str, Tensor]] = {}
        self._joined = processes.joined(self.painter)
        self._optimizer = torch.optim.Adam(self.painter.parameters(), lr=options.learning_rate)
        self._schedule = ChainedScheduler(
            [
                LinearLR(self._optimizer, COLD, total_iters=WARMING),
                CosineAnnealingLR(self._optimizer, options.steps),
            ]
        )

    def step(self, photographs: Tensor) -> dict[str, float]:
        """Paint some photographs (N, 3, H, W), and change the weights a little; gives the terms of the loss."""
        photographs = photographs.to(self.device)
        place = self.done % self.epoch
        if place not in self._targets:
            self._targets[place] = self.loss.targets(photographs)
        terms = self.loss(self._joined(photographs), self._targets[place])
        self._optimizer.zero_grad()
        self.loss.total(terms).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        self.done += 1
        return {name: float(term.detach()) for name, term in terms.items()}

    def state(self) -> dict[str, Any]:
        """All that `go_on` needs, in types that torch loads without running code."""
        return {
            "done": self.done,
            "optimizer": self._optimizer.state_dict(),
            "painter": self.painter.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Go on exactly from a state."""
        self.painter.load_state_dict(state["painter"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.done = state["done"]
