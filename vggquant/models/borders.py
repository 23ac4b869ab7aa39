"""Borders of one pixel that reflect a picture, in its memory format and with a gradient that is quick on GPUs too.

torch's own gradient of reflected borders adds every element atomically there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def reflected(x: Tensor) -> Tensor:
    """Pictures (N, C, H, W) with a pixel more on each side: the last but one, or the last where there is no other.

    Returns:
        (N, C, H + 2, W + 2).
    """
    if min(x.shape[2:]) < 2:
        return pad(x, (1, 1, 1, 1), mode="replicate")
    if x.device.type == "cpu":
        return pad(x, (1, 1, 1, 1), mode="reflect")
    found: Tensor = _Reflected.apply(x)  # type: ignore[no-untyped-call]
    return found


class _Reflected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        last = x.stride(1) == 1 and channels > 1
        format_ = torch.channels_last if last else torch.contiguous_format
        shape = (count, channels, height + 2, width + 2)
        wide = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=format_)
        wide[:, :, 1:-1, 1:-1] = x
        wide[:, :, 0, 1:-1] = x[:, :, 1]
        wide[:, :, -1, 1:-1] = x[:, :, -2]
        wide[:, :, :, 0] = wide[:, :, :, 2]
        wide[:, :, :, -1] = wide[:, :, :, -3]
        return wide

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        inside = gradient[:, :, 1:-1].clone()
        inside[:, :, 1] += gradient[:, :, 0]
        inside[:, :, -2] += gradient[:, :, -1]
        found = inside[:, :, :, 1:-1].clone()
        found[:, :, :, 1] += inside[:, :, :, 0]
        found[:, :, :, -2] += inside[:, :, :, -1]
        return found
