"""Describes the feed-forward networks of Johnson et al., which paint in one pass: their layers and tensors.

J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016, with
the instance normalisation of D. Ulyanov et al., arXiv:1607.08022. Computing with them is left to `models`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from vggquant.errors import NetworkError, OptionError
from vggquant.networks.network import TensorSpec, require_integer, require_keys

MOST_FILTERS, MOST_BLOCKS = 1024, 32

# filters of the three first convolutions, and residual blocks: Johnson's own, and one to be small
STOCK: Mapping[str, tuple[tuple[int, int, int], int]] = {"johnson": ((32, 64, 128), 5), "tiny": ((32, 32, 32), 3)}


@dataclass(frozen=True)
class PainterLayer:
    """A convolution without bias, and the affine instance normalisation behind it.

    Args:
        name: ``down1`` … ``down3``, ``block1_1`` …, ``up1``, ``up2`` or ``out``.
        in_channels: Before.
        out_channels: Behind.
        kernel: Its side.
        stride: 1 or 2.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """``NAME.weight``, and of the normalisation ``NAME.gain`` and ``NAME.shift``."""
        shape = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        weight = TensorSpec(f"{self.name}.weight", shape, "weight")
        return (weight, *(TensorSpec(f"{self.name}.{part}", shape[:1], "plain") for part in ("gain", "shift")))


@dataclass(frozen=True)
class JohnsonNetwork:
    """A network that paints in one style.

    Three convolutions, of which two halve the sides, residual blocks of two convolutions each, two that follow a
    doubling of the sides, and a last one to three channels.

    Args:
        filters: Of the first three convolutions.
        blocks: Residual blocks.
    """

    filters: tuple[int, int, int]
    blocks: int

    family: ClassVar[str] = "johnson"

    @classmethod
    def stock(cls, name: str, alpha: float = 1.0, blocks: int | None = None) -> JohnsonNetwork:
        """A stock configuration, narrowed.

        Args:
            name: ``johnson`` or ``tiny``.
            alpha: The width multiplier: of F filters, ⌊αF⌋ are left.
            blocks: Residual blocks, if not as many as the stock configuration has.

        Raises:
            OptionError: An argument is out of bounds.
        """
        if name not in STOCK:
            raise OptionError(f"one of {', '.join(STOCK)}", name, "choose one of these", tensor="network")
        widths, usual = STOCK[name]
        least = 1 / min(widths)
        if not least <= alpha <= MOST_FILTERS / max(widths):
            bounds = f"a multiplier from {least:.4g} to {MOST_FILTERS / max(widths):.4g}"
            raise OptionError(bounds, alpha, "choose one of these", tensor="alpha")
        count = usual if blocks is None else blocks
        if not 0 <= count <= MOST_BLOCKS:
            raise OptionError(f"0 to {MOST_BLOCKS} blocks", count, "choose one of these", tensor="blocks")
        first, second, third = (math.floor(alpha * width) for width in widths)
        return cls((first, second, third), count)

    @classmethod
    def from_configuration(cls, configuration: Mapping[str, object]) -> JohnsonNetwork:
        """The network of a record, see `families`.

        Raises:
            NetworkError: No such network.
        """
        require_keys(configuration, "blocks", "filters")
        filters = configuration["filters"]
        if type(filters) is not list or len(filters) != 3:
            raise NetworkError("three numbers of filters", filters, tensor="network.filters")
        first, second, third = (require_integer({"filters": count}, "filters", 1, MOST_FILTERS) for count in filters)
        return cls((first, second, third), require_integer(configuration, "blocks", 0, MOST_BLOCKS))

    @property
    def configuration(self) -> dict[str, object]:
        return {"blocks": self.blocks, "filters": list(self.filters)}

    @cached_property
    def layers(self) -> tuple[PainterLayer, ...]:
        """All layers, input side first."""
        first, second, third = self.filters
        return (
            PainterLayer("down1", 3, first, kernel=9),
            PainterLayer("down2", first, second, stride=2),
            PainterLayer("down3", second, third, stride=2),
            *(
                PainterLayer(f"block{block}_{half}", third, third)
                for block in range(1, self.blocks + 1)
                for half in (1, 2)
            ),
            PainterLayer("up1", third, second),
            PainterLayer("up2", second, first),
            PainterLayer("out", first, 3, kernel=9),
        )

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        return tuple(spec for layer in self.layers for spec in layer.tensors)

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(spec.size for spec in self.tensors)
