"""Keeps the gradients of float16 activations within the type's range during a backward pass.

The gradient of a sum of squares soon exceeds 65,504, the largest number in float16. A chain of activations therefore
carries it divided by a power of two. That power is chosen anew at every activation, from the gradient that arrives
there, and is multiplied back where the gradient leaves the chain.

What the activations belong to is left to the network; their own range is the concern of `half`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vggquant.errors import OptionError

PEAK = 64.0  # for the largest element of a gradient: far below 65,504, and farther above what float16 rounds to zero


class GradientScale:
    """The number that the gradient in a chain is divided by, as it changes during one backward pass."""

    def __init__(self) -> None:
        self._factor = torch.ones(())

    def enter(self, image: Tensor) -> Tensor:
        """Begin the chain with a float32 input.

        Raises:
            OptionError: A transform of torch.func is at work, such as `torch.func.grad` or `torch.func.vmap`.
        """
        try:
            entered: Tensor = _Enter.apply(image, self)  # type: ignore[no-untyped-call]
        except RuntimeError as error:  # torch has no public way to ask before
            if "functorch" not in str(error):
                raise
            raise _unsupported("a transform of torch.func") from None
        return entered

    def tap(self, activation: Tensor, factor: float | None) -> tuple[Tensor, Tensor]:
        """Pass an activation on to the next layer, and hand it out as a feature if it is wanted as one.

        Args:
            activation: float16.
            factor: What the feature is multiplied by; ``None`` if no feature is wanted.

        Returns:
            ``(activation, feature)``: the activation itself, and the feature in float32 or ``None``.
        """
        passed: tuple[Tensor, Tensor] = _Tap.apply(activation, self, factor)  # type: ignore[no-untyped-call]
        return passed

    def unscaled(self, gradient: Tensor) -> Tensor:
        """The true gradient, in float32, of one that the chain carries."""
        return gradient.float() * self._factor.to(gradient.device)

    def rescaled(self, gradient: Tensor) -> Tensor:
        """A true gradient in the form in which the chain carries it from here on."""
        _, exponent = torch.frexp(gradient.abs().amax() / PEAK)
        self._factor = torch.ldexp(torch.ones_like(exponent, dtype=torch.float32), exponent)
        return (gradient / self._factor).half()


def _unsupported(what: str) -> OptionError:
    return OptionError("first derivatives by backward or autograd.grad in float16", what, "load float32 or bfloat16")


def _require_first_derivatives() -> None:
    """Refuse ``create_graph=True``: the powers of two of one backward pass mean nothing to another."""
    if torch.is_grad_enabled():
        raise _unsupported("second derivatives")


class _BackwardAlone(torch.autograd.Function):
    """A function without forward-mode derivatives."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise _unsupported("forward-mode derivatives")


class _Enter(_BackwardAlone):
    @staticmethod
    def forward(ctx: Any, image: Tensor, scale: GradientScale) -> Tensor:
        ctx.scale = scale
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        _require_first_derivatives()
        return ctx.scale.unscaled(gradient), None


class _Tap(_BackwardAlone):
    @staticmethod
    def forward(
        ctx: Any, activation: Tensor, scale: GradientScale, factor: float | None
    ) -> tuple[Tensor, Tensor | None]:
        ctx.scale, ctx.factor = scale, factor
        ctx.set_materialize_grads(False)
        return activation.view_as(activation), None if factor is None else activation.float() * factor

    @staticmethod
    def backward(ctx: Any, deeper: Tensor | None, feature: Tensor | None) -> tuple[Tensor | None, None, None]:
        _require_first_derivatives()
        parts = [] if deeper is None else [ctx.scale.unscaled(deeper)]
        if feature is not None:
            parts.append(feature * ctx.factor)
        return (ctx.scale.rescaled(sum(parts)) if parts else None), None, None
