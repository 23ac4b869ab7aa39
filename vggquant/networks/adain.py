"""Describes networks that take any style from a picture: an encoder like VGG's and a decoder that mirrors it.

X. Huang, S. Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017.
Computing with them is left to `models`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from vggquant.errors import NetworkError
from vggquant.networks.network import TensorSpec, require_integer, require_keys
from vggquant.networks.vgg import ARCHITECTURES

DEEPEST = "conv4_1"  # where the encoder ends and the decoder begins
MOST_CHANNELS = 1024

_FULL = ARCHITECTURES["vgg19"].convolutions_upto(DEEPEST)
NAMES = tuple(convolution.name for convolution in _FULL)
FULL = tuple(convolution.out_channels for convolution in _FULL)
FIRST_OF_BLOCKS = ("conv2_1", "conv3_1", "conv4_1")  # before which the encoder halves the sides of its pictures


@dataclass(frozen=True)
class TransferLayer:
    """A convolution of 3 × 3 with a bias.

    Args:
        name: ``encoder.conv1_1`` … ``encoder.conv4_1``, ``decoder.conv4_1`` … ``decoder.conv1_1``.
        in_channels: Before.
        out_channels: Behind.
    """

    name: str
    in_channels: int
    out_channels: int

    @property
    def tensors(self) -> tuple[TensorSpec, TensorSpec]:
        """``NAME.weight`` and ``NAME.bias``."""
        shape = (self.out_channels, self.in_channels, 3, 3)
        return TensorSpec(f"{self.name}.weight", shape, "weight"), TensorSpec(f"{self.name}.bias", shape[:1], "plain")


@dataclass(frozen=True)
class AdaINNetwork:
    """A network that paints in the style of a picture.

    The encoder has VGG-19's convolutions up to conv4_1, the decoder the same in reverse. A decoder's convolution has
    as many channels before and behind it as the encoder's of that name has behind and before it.

    Args:
        channels: Behind the encoder's convolutions, conv1_1 … conv4_1.
    """

    channels: tuple[int, ...] = FULL

    family: ClassVar[str] = "adain"

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> AdaINNetwork:
        """The network of a record, see `families`.

        Raises:
            NetworkError: No such network.
        """
        require_keys(configuration, "channels")
        channels = configuration["channels"]
        if type(channels) is not list or len(channels) != len(NAMES):
            raise NetworkError(f"{len(NAMES)} numbers of channels", channels, tensor="network.channels")
        return cls(tuple(require_integer({"channels": count}, "channels", 1, MOST_CHANNELS) for count in channels))

    @property
    def configuration(self) -> dict[str, object]:
        return {"channels": list(self.channels)}

    @cached_property
    def encoder(self) -> tuple[TransferLayer, ...]:
        """The encoder's layers, input side first."""
        sides = pairwise((3, *self.channels))
        return tuple(TransferLayer(f"encoder.{name}", *side) for name, side in zip(NAMES, sides, strict=True))

    @cached_property
    def decoder(self) -> tuple[TransferLayer, ...]:
        """The decoder's layers, input side first."""
        names = (layer.name.replace("encoder", "decoder") for layer in self.encoder)
        return tuple(
            TransferLayer(name, layer.out_channels, layer.in_channels)
            for name, layer in reversed(list(zip(names, self.encoder, strict=True)))
        )

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return tuple(spec for layer in (*self.encoder, *self.decoder) for spec in layer.tensors)

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(spec.size for spec in self.tensors)
