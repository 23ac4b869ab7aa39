"""Lays the weights of convolutions out channels last, as which processors compute with them fastest."""

from __future__ import annotations

import torch
from torch import nn


def lay_channels_last(module: nn.Module) -> None:
    """Change the layout of a module's weights of four dimensions in memory, and nothing else of them."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
