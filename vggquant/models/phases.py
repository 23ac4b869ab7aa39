"""Convolutions of a few channels over large pictures, arranged so that they fill the vectors of a processor.

A block of pixels is taken as one pixel with the channels of all of them, its phases, and the kernel is rearranged
alike: the same sums, with eight times the channels. Which layers are computed like this is left to the painters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

DOWN, ACROSS = 2, 4  # pixels of a block
_GROUP = 8  # pixels whose channels are summed beside each other
_CACHED = 2**18  # numbers that a processor keeps near it while it squares and sums them
# a kernel of three over pixels that are doubled, as kernels over the pixels before: by phase, tap before, tap behind
_DOUBLED = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)), ((0.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def serves(x: Tensor) -> bool:
    """Whether images (N, C, H, W) consist of whole blocks, and are computed now and not traced for other sizes."""
    return not torch.compiler.is_compiling() and x.shape[2] % DOWN == 0 and x.shape[3] % ACROSS == 0


def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """`conv2d` of images whose border is there already, by a kernel whose side is one more than a multiple of blocks.

    Args:
        x: (N, I, H + K − 1, W + K − 1), in whole blocks.
        weight: (O, I, K, K).
    """
    out, channels, kernel, _ = weight.shape
    rows, columns = (kernel + DOWN - 2) // DOWN + 1, (kernel + ACROSS - 2) // ACROSS + 1
    phases = []
    for down in range(DOWN):
        for across in range(ACROSS):
            right, below = ACROSS * columns - kernel - across, DOWN * rows - kernel - down
            moved = pad(weight, (across, right, down, below)).view(out, channels, rows, DOWN, columns, ACROSS)
            phases.append(moved.permute(0, 3, 5, 1, 2, 4).reshape(out, -1, rows, columns))
    return _together(_convolved(_apart(x), torch.cat(phases)), DOWN, ACROSS)


def doubled_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution of 3 × 3 of images that are doubled by repeating pixels.

    Args:
        x: (N, I, H + 2, W + 2), before they are doubled, with a border that is there already: pixels repeated once are
            what pixels reflected are after they are doubled.
        weight: (O, I, 3, 3).

    Returns:
        (N, O, 2H, 2W).
    """
    return _together(_convolved(x, _doubled(weight).flatten(0, 2)), 2, 2)


def doubled_separable_convolution(x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """A separable convolution of 3 × 3 of images that are doubled by repeating pixels.

    Args:
        x: (N, I, H + 2, W + 2), as `doubled_convolution` takes them.
        depthwise: (I, 1, 3, 3).
        pointwise: (O, I, 1, 1).

    Returns:
        (N, O, 2H, 2W).
    """
    count, channels, height, width = x.shape[0], x.shape[1], x.shape[2] - 2, x.shape[3] - 2
    whole = None
    for down, row in enumerate(_doubled(depthwise)):
        for across, phase in enumerate(row):
            kernel = phase[:, :, down : down + 2, across : across + 2]  # of which the rest is nought
            found = conv2d(_convolved(x, kernel, channels), pointwise)
            if whole is None:
                whole = found.new_empty(count, 2 * height, 2 * width, len(pointwise)).permute(0, 3, 1, 2)
            whole[:, :, down::2, across::2] = found[:, :, down : down + height, across : across + width]
    assert whole is not None
    return whole


def instance_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """`torch.nn.functional.instance_norm` with a gain and a shift (C,), of images (N, C, H, W)."""
    count, channels, height, width = x.shape
    group = math.gcd(_GROUP, height * width)
    rows = x.permute(0, 2, 3, 1).reshape(count, -1, group * channels)

    def mean(values: Tensor) -> Tensor:
        return values.mean(1).view(count, group, channels).mean(1)

    def repeated(values: Tensor) -> Tensor:
        return values[:, None].repeat(1, 1, group)

    centered = rows - repeated(mean(rows))
    scale = gain * (mean(centered.square()) + 1e-5).rsqrt()
    scaled = torch.addcmul(shift.repeat(group), centered, repeated(scale))
    return scaled.view(count, height, width, channels).permute(0, 3, 1, 2)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and variances of the channels of images (N, C, H, W), each (N, C, 1, 1); fast where channels are last."""
    count, channels, height, width = x.shape
    group = math.gcd(_GROUP, height * width)
    rows = x.permute(0, 2, 3, 1).reshape(count, -1, group * channels)
    mean = rows.mean(1).view(count, group, channels).mean(1)
    middle = mean[:, None].repeat(1, 1, group)
    parts = torch.split(rows, max(1, _CACHED // (count * group * channels)), 1)
    squares = sum(((part - middle).square_().sum(1) for part in parts), x.new_zeros(()))
    variance = squares.view(count, group, channels).sum(1) / (height * width)
    return mean[:, :, None, None], variance[:, :, None, None]


def _doubled(weight: Tensor) -> Tensor:
    """Kernels (O, I, 3, 3) of images that are doubled, as the four (2, 2, O, I, 3, 3) of what they were before."""
    taps = torch.tensor(_DOUBLED).to(weight)
    return torch.einsum("apk,bql,oikl->aboipq", taps, taps, weight)


def _convolved(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return conv2d(x, weight.contiguous(memory_format=torch.channels_last), groups=groups)


def _apart(x: Tensor) -> Tensor:
    """Blocks as pixels: from (N, C, H, W) to (N, 8C, H / 2, W / 4), of which the channels vary fastest."""
    count, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(count, height // DOWN, DOWN, width // ACROSS, ACROSS * channels)
    return rows.permute(0, 1, 3, 2, 4).reshape(count, height // DOWN, width // ACROSS, -1).permute(0, 3, 1, 2)


def _together(x: Tensor, down: int, across: int) -> Tensor:
    """Pixels as blocks, the way back."""
    count, phases, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(count, height, width, down, phases // down)
    rows = rows.permute(0, 1, 3, 2, 4).reshape(count, down * height, across * width, -1)
    return rows.permute(0, 3, 1, 2)
