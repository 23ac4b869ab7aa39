"""Describes networks that paint in any style: a predictor of 100 numbers, and the transfer network that they steer.

G. Ghiasi et al., "Exploring the structure of a real-time, arbitrary neural artistic stylization network", BMVC 2017, in
the form of "Porting arbitrary style transfer to the browser" (Magenta), where the predictor is a MobileNetV2 and the
transfer network has separable convolutions. Computing with them is left to `models`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

from vggquant.errors import NetworkError
from vggquant.networks.network import TensorSpec, require_integer, require_keys

Border = Literal["reflect", "zeros"]
BORDERS: tuple[Border, ...] = get_args(Border)

CODE = 100  # numbers that a style is
BLOCKS = 5  # residual blocks
MOST_FILTERS = 1024  # of a convolution of the transfer network
MOST_CHANNELS = 2048  # of a stage of the predictor
FILTERS = (32, 64, 128)

# the stages of a MobileNetV2 between its first and its last convolution: units, stride of the first of them, and how
# many times as many channels it has within a unit
STAGES = ((1, 1, 1), (2, 2, 6), (3, 2, 6), (4, 2, 6), (3, 1, 6), (3, 2, 6), (1, 1, 6))
MOBILENET = (32, 16, 24, 32, 64, 96, 160, 320, 1280)  # channels: of the first convolution, the stages, the last one


def mobilenet(width: float) -> tuple[int, ...]:
    """The channels of a predictor that is narrower than MobileNetV2, in multiples of eight."""
    return tuple(max(8, 8 * round(width * channels / 8)) for channels in MOBILENET)


@dataclass(frozen=True)
class TransferLayer:
    """A convolution of the transfer network, and the normalisation behind it.

    Args:
        name: ``down1`` … ``down3``, ``block1_1`` … ``block5_2``, ``up1``, ``up2`` or ``out``.
        in_channels: Before.
        out_channels: Behind.
        kernel: Its side.
        stride: 1 or 2.
        steered: Whether a style decides on gain and shift of its normalisation. Otherwise it has a bias, and the
            normalisation of its training is part of its weights.
        separable: Whether it consists of a convolution of each channel alone and one of single pixels.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    steered: bool = True
    separable: bool = False

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weights of the convolution, then its bias or what turns a style into gain and shift."""
        inside, outside, kernel = self.in_channels, self.out_channels, self.kernel
        weights: tuple[TensorSpec, ...]
        if self.separable:
            weights = (
                TensorSpec(f"transfer.{self.name}.depthwise.weight", (inside, 1, kernel, kernel), "weight"),
                TensorSpec(f"transfer.{self.name}.pointwise.weight", (outside, inside, 1, 1), "weight"),
            )
        else:
            shape = (outside, inside, kernel, kernel)
            weights = (TensorSpec(f"transfer.{self.name}.convolution.weight", shape, "weight"),)
        if not self.steered:
            return (*weights, TensorSpec(f"transfer.{self.name}.convolution.bias", (outside,), "plain"))
        return (*weights, *(spec for part in ("gain", "shift") for spec in self._steered(part)))

    def _steered(self, part: str) -> tuple[TensorSpec, TensorSpec]:
        name = f"transfer.{self.name}.{part}"
        weight = TensorSpec(f"{name}.weight", (self.out_channels, CODE), "weight")
        return weight, TensorSpec(f"{name}.bias", (self.out_channels,), "plain")


@dataclass(frozen=True)
class PredictorLayer:
    """A convolution of the predictor, with a bias.

    Args:
        name: ``first``, ``unit1.expand``, ``unit1.depthwise``, ``unit1.project`` …, ``last`` or ``code``.
        in_channels: Before.
        out_channels: Behind.
        kernel: Its side.
        stride: 1 or 2.
        depthwise: Whether each channel is convolved alone.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False

    @property
    def tensors(self) -> tuple[TensorSpec, TensorSpec]:
        """``predictor.NAME.weight`` and ``predictor.NAME.bias``."""
        shape = (self.out_channels, 1 if self.depthwise else self.in_channels, self.kernel, self.kernel)
        name = f"predictor.{self.name}"
        return TensorSpec(f"{name}.weight", shape, "weight"), TensorSpec(f"{name}.bias", shape[:1], "plain")


@dataclass(frozen=True)
class Unit:
    """An inverted residual of MobileNetV2.

    Args:
        name: ``unit1`` …, in order.
        layers: Its two or three convolutions.
        residual: Whether what it takes in is added to what it gives.
    """

    name: str
    layers: tuple[PredictorLayer, ...]
    residual: bool


@dataclass(frozen=True)
class ArbitraryNetwork:
    """A predictor and a transfer network.

    Args:
        filters: Of the first three convolutions of the transfer network.
        separable: Which of its last thirteen convolutions are separable, by name.
        border: What lies beyond the border of a picture.
        predictor: Channels of the predictor: of the first convolution, the seven stages, and the last one.
    """

    filters: tuple[int, int, int] = FILTERS
    separable: tuple[str, ...] = ()
    border: Border = "reflect"
    predictor: tuple[int, ...] = MOBILENET

    family: ClassVar[str] = "arbitrary"

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> ArbitraryNetwork:
        """The network of a record, see `families`.

        Raises:
            NetworkError: No such network.
        """
        require_keys(configuration, "border", "filters", "predictor", "separable")
        first, second, third = _integers(configuration, "filters", 3, MOST_FILTERS)
        border = next((known for known in BORDERS if known == configuration["border"]), None)
        if border is None:
            raise NetworkError(f"one of {', '.join(BORDERS)}", configuration["border"], tensor="network.border")
        separable = configuration["separable"]
        names = list(steered_names())
        if type(separable) is not list or [name for name in names if name in separable] != separable:
            expected = f"some of {', '.join(names)}, in this order"
            raise NetworkError(expected, separable, tensor="network.separable")
        predictor = _integers(configuration, "predictor", len(MOBILENET), MOST_CHANNELS)
        return cls((first, second, third), tuple(separable), border, predictor)

    @property
    def configuration(self) -> dict[str, object]:
        return {
            "border": self.border,
            "filters": list(self.filters),
            "predictor": list(self.predictor),
            "separable": list(self.separable),
        }

    @cached_property
    def transfer_layers(self) -> tuple[TransferLayer, ...]:
        """The layers of the transfer network, input side first."""
        first, second, third = self.filters
        shapes = [(third, third, 3)] * (2 * BLOCKS) + [(third, second, 3), (second, first, 3), (first, 3, 9)]
        return (
            TransferLayer("down1", 3, first, kernel=9, steered=False),
            TransferLayer("down2", first, second, stride=2, steered=False),
            TransferLayer("down3", second, third, stride=2, steered=False),
            *(
                TransferLayer(name, inside, outside, kernel, separable=name in self.separable)
                for name, (inside, outside, kernel) in zip(steered_names(), shapes, strict=True)
            ),
        )

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The units of the predictor, between ``first`` and ``last``."""
        found: list[Unit] = []
        inside = self.predictor[0]
        for (count, stride, times), outside in zip(STAGES, self.predictor[1:-1], strict=True):
            for number in range(count):
                name, step, within = f"unit{len(found) + 1}", stride if number == 0 else 1, times * inside
                expand = (PredictorLayer(f"{name}.expand", inside, within),) if times > 1 else ()
                depthwise = PredictorLayer(f"{name}.depthwise", within, within, 3, step, depthwise=True)
                project = PredictorLayer(f"{name}.project", within, outside)
                found.append(Unit(name, (*expand, depthwise, project), step == 1 and inside == outside))
                inside = outside
        return tuple(found)

    @cached_property
    def predictor_layers(self) -> tuple[PredictorLayer, ...]:
        """The layers of the predictor, input side first."""
        first, *_, before, last = self.predictor
        return (
            PredictorLayer("first", 3, first, kernel=3, stride=2),
            *(layer for unit in self.units for layer in unit.layers),
            PredictorLayer("last", before, last),
            PredictorLayer("code", last, CODE),
        )

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        predictor = (spec for layer in self.predictor_layers for spec in layer.tensors)
        return (*predictor, *(spec for layer in self.transfer_layers for spec in layer.tensors))

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(spec.size for spec in self.tensors)


def steered_names() -> tuple[str, ...]:
    """The last thirteen convolutions of the transfer network, which a style steers and which may be separable."""
    blocks = (f"block{block}_{half}" for block in range(1, BLOCKS + 1) for half in (1, 2))
    return (*blocks, "up1", "up2", "out")


def _integers(configuration: Mapping[str, object], key: str, count: int, most: int) -> tuple[int, ...]:
    """A list of numbers of a configuration, each within its bounds."""
    found = configuration[key]
    if type(found) is not list or len(found) != count:
        raise NetworkError(f"{count} numbers", found, tensor=f"network.{key}")
    return tuple(require_integer({key: number}, key, 1, most) for number in found)
