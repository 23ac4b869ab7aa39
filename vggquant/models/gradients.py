"""Gradients of float16 activations, kept in range as the activations are; knows of no networks.

The gradient of a sum of squares soon passes float16's 65,504. A chain of activations therefore carries it divided by a
power of two, chosen anew at each of them from what arrives there, and multiplied back where the chain is left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PEAK = 64.0  # where the largest element of a gradient is put: far from 65,504, and further from what float16 makes zero


class GradientScale:
    """What the gradient in a chain is divided by, in the course of one backward pass."""

    def __init__(self) -> None:
        self._factor = torch.ones(())

    def enter(self, image: Tensor) -> Tensor:
        """Pass a float32 input into the chain."""
        entered: Tensor = _Enter.apply(image, self)  # type: ignore[no-untyped-call]
        return entered

    def tap(self, activation: Tensor, factor: float | None) -> tuple[Tensor, Tensor]:
        """Pass an activation on; beside it as a float32 feature, times `factor`, unless that is ``None``."""
        passed: tuple[Tensor, Tensor] = _Tap.apply(activation, self, factor)  # type: ignore[no-untyped-call]
        return passed

    def unscaled(self, gradient: Tensor) -> Tensor:
        """A gradient of the chain as it truly is, in float32."""
        return gradient.float() * self._factor.to(gradient.device)

    def rescaled(self, gradient: Tensor) -> Tensor:
        """A true gradient, as the chain carries it from here on."""
        _, exponent = torch.frexp(gradient.abs().amax() / PEAK)
        self._factor = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
        return (gradient / self._factor).half()


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, scale: GradientScale) -> Tensor:
        ctx.scale = scale
        return image.view_as(image)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.scale.unscaled(gradient), None


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, activation: Tensor, scale: GradientScale, factor: float | None
    ) -> tuple[Tensor, Tensor | None]:
        ctx.scale, ctx.factor = scale, factor
        ctx.set_materialize_grads(False)
        return activation.view_as(activation), None if factor is None else activation.float() * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, deeper: Tensor | None, feature: Tensor | None) -> tuple[Tensor | None, None, None]:
        parts = [] if deeper is None else [ctx.scale.unscaled(deeper)]
        if feature is not None:
            parts.append(feature * ctx.factor)
        return (ctx.scale.rescaled(sum(parts)) if parts else None), None, None
