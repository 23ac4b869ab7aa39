"""The options of training with their defaults, which the command line shares with `train`; needs no torch.

Whether values have a meaning is checked by `checks`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, TypeVar, get_args

from vggquant.networks.johnson import JohnsonNetwork
from vggquant.style.options import OTHER_SPELLINGS, Precision

EVERY = 250  # steps from one checkpoint and preview to the next

_FACTOR = "_weight"  # how the names of options end that are factors of terms of the loss

Part = Literal["decoder", "both"]
PARTS: tuple[Part, ...] = get_args(Part)
Taught = Literal["predictor", "transfer"]
TAUGHT: tuple[Taught, ...] = get_args(Taught)
Options = TypeVar("Options", bound="CommonOptions")


@dataclass(frozen=True)
class CommonOptions:
    """What all trainings have in common.

    Args:
        steps: How often the weights are changed.
        size: Side of the crops in pixels.
        batch: Crops of one step, on all processes together.
        learning_rate: Of Adam, at its highest.
        precision: In which the networks compute: ``float32``, ``bf16`` (``bfloat16`` too), or ``auto``, which is bf16
            on devices that have it.
        seed: Of the first weights and of the crops.
    """

    steps: int = 5000
    size: int = 256
    batch: int = 4
    learning_rate: float = 0.005
    precision: Precision = "auto"
    seed: int = 0

    MOST_GRADIENT: ClassVar[float] = math.inf  # norm of all gradients together, beyond which they are scaled down

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", OTHER_SPELLINGS.get(str(self.precision), self.precision))

    def settled(self: Options, *, bf16: bool) -> Options:
        """The same options with a precision in place of ``auto``, given whether the device has bf16."""
        return replace(self, precision="bf16" if bf16 else "float32") if self.precision == "auto" else self

    @property
    def weights(self) -> dict[str, float]:
        """Factors of the terms of the loss, by name: ``content`` for `content_weight`, and so on."""
        factors = [field.name for field in fields(self) if field.name.endswith(_FACTOR)]
        return {name.removesuffix(_FACTOR): getattr(self, name) for name in factors}


@dataclass(frozen=True)
class TrainingOptions(CommonOptions):
    """How a painter of one style is made and trained.

    The terms of the loss are relative to what they are measured against, see `objective`, so the same weights suit
    most styles. More content keeps more of the photograph, more style has larger and wilder strokes.

    Args:
        network: ``tiny`` or ``johnson``, see `JohnsonNetwork.stock`.
        alpha: Its width multiplier.
        blocks: Its residual blocks, if not as many as usual.
        style_pixels: Area of the style picture. Strokes appear as large as they are in it.
        content_weight: Factor of the content loss, ‖F − F*‖² / ‖F*‖² at relu4_2.
        style_weight: Factor of the style loss, the mean of ‖G − G*‖² / ‖G*‖² over relu1_1 … relu5_1.
        color_weight: Factor of the difference of the colours' means and deviations.
        tv_weight: Factor of the total variation.
    """

    network: str = "tiny"
    alpha: float = 0.3
    blocks: int | None = None
    style_pixels: int = 250_000
    content_weight: float = 1.0
    style_weight: float = 2.0
    color_weight: float = 0.1
    tv_weight: float = 0.0

    @property
    def shape(self) -> JohnsonNetwork:
        """The network that is trained.

        Raises:
            OptionError: There is no such network.
        """
        return JohnsonNetwork.stock(self.network, self.alpha, self.blocks)


@dataclass(frozen=True)
class AdaINOptions(CommonOptions):
    """How a network that takes its style from a picture is trained.

    Args:
        part: What is trained: the ``decoder`` alone, while the encoder stays as it is, or ``both``.
        content_weight: Factor of the content loss, ‖F − F*‖² / ‖F*‖² at relu4_1, where F* is AdaIN of the features of
            content and style.
        style_weight: Factor of the style loss, the mean of ‖μ − μ*‖² / ‖μ*‖² + ‖σ − σ*‖² / ‖σ*‖² over relu1_1 …
            relu4_1.
        gram_weight: Factor of the mean of ‖G − G*‖² / ‖G*‖² over the same layers.
        tv_weight: Factor of the total variation.
        rounded: If given, weights are rounded to codebooks of so many bits while they are trained, so that the network
            learns to paint with what is left of them.
    """

    steps: int = 6000
    size: int = 224
    batch: int = 8
    learning_rate: float = 0.001
    part: Part = "decoder"
    content_weight: float = 1.0
    style_weight: float = 1.0
    gram_weight: float = 0.5
    tv_weight: float = 0.0
    rounded: int | None = None


@dataclass(frozen=True)
class DistilOptions(CommonOptions):
    """How a network that paints in any style learns from another one.

    Args:
        part: Which part of it learns: its ``predictor``, or its ``transfer`` network.
        separable: Whether its transfer network becomes separable; it stays what it is if not.
        width: Of its predictor, times a MobileNetV2; what it is if not given.
        style_size: Side of the styles in pixels. Strokes are learned as large as they are in them.
        pixel_weight: Factor of the mean squared difference from the teacher's paintings.
        content_weight: Factor of the content loss, ‖F − F*‖² / ‖F*‖² at relu4_2.
        style_weight: Factor of the style loss, the mean of ‖G − G*‖² / ‖G*‖² over relu1_1 … relu5_1.
    """

    steps: int = 3000
    batch: int = 16
    learning_rate: float = 0.003
    part: Taught = "transfer"
    separable: bool = False
    width: float | None = None
    style_size: int = 448
    pixel_weight: float = 100.0
    content_weight: float = 0.5
    style_weight: float = 2.0

    MOST_GRADIENT: ClassVar[float] = 1.0
