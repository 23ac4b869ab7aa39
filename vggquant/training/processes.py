"""The processes that train together under torchrun: how many there are, and which of them this is.

torch's DistributedDataParallel makes their gradients one. What is trained is left to others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn

from vggquant.errors import OptionError


@dataclass(frozen=True)
class Processes:
    """Processes that train together.

    Args:
        rank: Of this one, from 0.
        count: How many there are.
        device: What this one computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.rank == 0

    def numbers(self, batch: int, steps: Sequence[int]) -> list[int]:
        """The numbers of the crops that this process trains on, where a step takes `batch` of all processes together.

        Raises:
            OptionError: The batch cannot be dealt out evenly.
        """
        if batch % self.count:
            expected = f"a batch that {self.count} processes can share"
            raise OptionError(expected, batch, f"choose a multiple of {self.count}", tensor="batch")
        return [step * batch + index for step in steps for index in range(self.rank, batch, self.count)]

    def joined(self, module: nn.Module) -> nn.Module:
        """The module itself, or with gradients that are the means over all processes."""
        return module if self.count == 1 else nn.parallel.DistributedDataParallel(module)


@contextmanager
def together(device: torch.device) -> Iterator[Processes]:
    """Join the other processes, if torchrun started this one; afterwards leave them.

    Args:
        device: Asked for; under torchrun ``cuda`` is the GPU of this process.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield Processes(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
