"""Batch normalisation for the time of a training: put behind convolutions with a bias, and then folded into them.

Networks that paint in any style have none of their own; without it a predictor of fifty layers would hardly learn.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def normalised(module: Module, but: Collection[str] = ()) -> Module:
    """A module of which each convolution with a bias is followed by a batch normalisation.

    Args:
        module: It is changed, and is returned.
        but: Names of convolutions that stay as they are.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.bias is not None and name not in but:
                setattr(parent, name, _Normalised(child))
    return module


def folded(module: Module) -> Module:
    """A copy of what `normalised` gave, in eval mode: convolutions alone, which compute the same."""
    made = copy.deepcopy(module).eval()
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _Normalised):
                setattr(parent, name, fuse_conv_bn_eval(child.convolution, child.normalisation))
    return made


class _Normalised(nn.Module):
    """A convolution and a batch normalisation.

    Args:
        convolution: Of which the output is normalised.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.normalisation = nn.BatchNorm2d(convolution.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.normalisation(self.convolution(x))
        return found
