"""A network in training: its weights, its optimiser and its schedule, which are torch's own, and one step of them.

What it is trained for is said by an objective, where crops come from and what is written when by `running`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LinearLR

from vggquant.errors import OptionError, SourceError
from vggquant.training.options import CommonOptions
from vggquant.training.processes import Processes

NEWEST = 0.02  # share of the newest step in the terms that are shown
WARMING, COLD = 100, 0.1  # steps in which the learning rate rises, and the share of it that they begin with

Paint = Callable[..., Tensor]


class Objective(Protocol):
    """What a network is trained for."""

    weights: Mapping[str, float]  # of the terms

    def terms(self, paint: Paint, batch: Any, step: int) -> Mapping[str, Tensor]:
        """The terms of the loss for a batch, each a scalar, without their weights; steps are counted from 0."""


class Trainer:
    """A network with all that its training goes on from.

    Args:
        painter: The network, on its device; what requires no gradient stays as it is.
        objective: What it is trained for.
        options: Of the training.
        processes: That train together.
    """

    def __init__(self, painter: nn.Module, objective: Objective, options: CommonOptions, processes: Processes) -> None:
        self.painter, self.objective, self.device, self.done = painter, objective, processes.device, 0
        self._shown: dict[str, float] = {}
        self._newest: tuple[int, tuple[str, ...], Tensor] | None = None
        self._most = options.MOST_GRADIENT
        self._joined = processes.joined(painter)
        self._trained = [parameter for parameter in painter.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(self._trained, lr=options.learning_rate)
        self._schedule = ChainedScheduler(
            [
                LinearLR(self._optimizer, COLD, total_iters=WARMING),
                CosineAnnealingLR(self._optimizer, options.steps),
            ]
        )

    def step(self, batch: Any) -> None:
        """Paint a batch, and change the weights a little.

        Raises:
            OptionError: The losses of the step before are no numbers any more.
        """
        moved = [part.to(self.device) for part in batch] if isinstance(batch, list) else batch.to(self.device)
        terms = self.objective.terms(self._joined, moved, self.done)
        self._optimizer.zero_grad()
        weighted = [self.objective.weights[name] * term for name, term in terms.items()]
        torch.autograd.backward(torch.stack(weighted).sum())
        if math.isfinite(self._most):
            nn.utils.clip_grad_norm_(self._trained, self._most)
        self._optimizer.step()
        self._schedule.step()
        self._look()  # which waits for the step before, and not for this one
        self.done += 1
        self._newest = (self.done, tuple(terms), torch.stack([term.detach() for term in terms.values()]))

    @property
    def terms(self) -> dict[str, float]:
        """Terms of the loss, means over the last steps, by name.

        Raises:
            OptionError: They are no numbers any more.
        """
        self._look()
        return self._shown

    def state(self) -> dict[str, Any]:
        """All that `go_on` needs, in types that torch loads without running code.

        Raises:
            OptionError: The losses are no numbers any more.
        """
        return {
            "terms": self.terms,
            "done": self.done,
            "optimizer": self._optimizer.state_dict(),
            "painter": self.painter.state_dict(),
            "schedule": self._schedule.state_dict(),
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
            self.done, self._shown = int(state["done"]), dict(state["terms"])
        except Exception:  # torch has no common error for what does not fit
            cure = "name a checkpoint of this training"
            raise SourceError("the state of this training", "another", cure) from None

    def _look(self) -> None:
        """Take the newest terms into account, which a GPU is waited for."""
        if self._newest is None:
            return
        done, names, values = self._newest
        self._newest = None
        found = dict(zip(names, values.tolist(), strict=True))
        if not all(map(math.isfinite, found.values())):
            got = f"{' and '.join(name for name, term in found.items() if not math.isfinite(term))} of none"
            cure = "lower `learning_rate`; the last checkpoint is from before"
            raise OptionError("losses of finite value", got, cure, tensor="learning_rate")
        share = max(1 / done, NEWEST)
        self._shown = {name: (1 - share) * self._shown.get(name, term) + share * term for name, term in found.items()}
