"""A module that another one uses, but neither trains nor saves.

What the module computes is its own concern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a module so that its parent uses it, but neither trains it nor saves it.

    The module follows its parent from device to device and from type to type, and is copied and pickled with it. But
    its tensors are in no state dict, so checkpoints do not grow by them and load with ``strict=True``. Nor are they
    among the parent's parameters, so optimisers, ``requires_grad_``, ``train`` and ``apply`` do not reach them. The
    old `nn.DataParallel` does not copy the module to other devices; `nn.parallel.DistributedDataParallel` need not.

    Args:
        module: What is held; it is put into eval mode, and its parameters no longer require a gradient.

    Example:
        >>> parent = nn.ModuleDict({"paint": nn.Conv2d(3, 3, 3), "vgg": Frozen(load_quantized_vgg())})
        >>> list(parent.state_dict())
        ['paint.weight', 'paint.bias']
    """

    module: nn.Module

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        # an attribute that torch does not know as a submodule
        object.__setattr__(self, "module", module.eval().requires_grad_(False))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def extra_repr(self) -> str:
        return repr(self.module)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        # torch's one way to move and convert a module and all that is in it
        self.module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self  # which has no tensors of its own
