"""A family of small networks that only the tests know: a convolution, a depthwise one, and a linear layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vggquant.files.weights import Provenance, Weights
from vggquant.networks.families import FAMILIES
from vggquant.networks.network import TensorSpec, require_integer, require_keys

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ToyNetwork:
    """A convolution with a normalisation, a depthwise convolution and a linear layer with a bias."""

    channels: int
    classes: int

    family: ClassVar[str] = "toy"

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> ToyNetwork:
        require_keys(configuration, "channels", "classes")
        return cls(
            require_integer(configuration, "channels", 1, 4096), require_integer(configuration, "classes", 1, 65536)
        )

    @property
    def configuration(self) -> dict[str, object]:
        return {"channels": self.channels, "classes": self.classes}

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        c = self.channels
        return (
            TensorSpec("conv.weight", (c, 3, 3, 3), "weight"),
            TensorSpec("norm.weight", (c,), "plain"),
            TensorSpec("norm.bias", (c,), "plain"),
            TensorSpec("depthwise.weight", (c, 1, 3, 3), "weight"),
            TensorSpec("fc.weight", (self.classes, c), "weight"),
            TensorSpec("fc.bias", (self.classes,), "plain"),
        )


class ToyModule(nn.Module):
    """The same network in torch, whose state dict has the names of the record."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, bias=False)
        self.norm = nn.InstanceNorm2d(channels, affine=True)
        self.depthwise = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.depthwise(self.norm(self.conv(images))).mean((2, 3)))
        return scores


@contextmanager
def toy_family() -> Iterator[None]:
    """Make the family known to the package for a while."""
    with mock.patch.dict(FAMILIES, {"toy": ToyNetwork.from_configuration}):
        yield


def toy_weights(channels: int = 8, classes: int = 5, seed: int = 0) -> Weights:
    """Random float32 weights of a toy network."""
    torch.manual_seed(seed)
    state = ToyModule(channels, classes).state_dict()
    arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
    return Weights(ToyNetwork(channels, classes), {}, arrays, Provenance("0" * 64, "vggquant", attribution="Nobody's"))


def predictions(state: Mapping[str, Tensor], channels: int = 8, classes: int = 5) -> Tensor:
    """What the network computes with some state on fixed images."""
    module = ToyModule(channels, classes).eval()
    module.load_state_dict(dict(state))
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = module(images)
    return found
