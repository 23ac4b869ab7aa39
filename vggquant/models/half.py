"""Keeps the activations of a float16 network within the type's range, by powers of two found on generated pictures.

float16 ends at 65,504, and the activations of a VGG may pass that. Networks of convolutions, ReLUs and pools are
positively homogeneous, though: when a convolution's output is divided by a positive number, everything that follows is
divided by it too. So each convolution may be given a power of two of its own to divide by, and nothing is lost in
the division, since powers of two change only a number's exponent.

This module finds these powers of two. The network applies them; gradients are left to `gradients`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vggquant.pictures.generated import generated_pictures

FLOAT16_MAX = torch.finfo(torch.float16).max
TARGET_PEAK = 256.0  # a 256th of the range: other pictures may excite a network more than the generated ones
PEAK_SIDE = 64  # pixels; small, because peaks are measured whenever a network is loaded in float16


class Chain(Protocol):
    """A network whose layers run one after the other, for instance a `VGG`."""

    layers: tuple[str, ...]

    def prepare(self, images: Tensor, /) -> Tensor:
        """What the first layer takes in, of images (N, 3, H, W), RGB in [0, 1]."""

    def run_layer(self, name: str, x: Tensor) -> Tensor:
        """One layer alone."""

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """The layers that are modules, by name."""


def find_peaks(network: Chain) -> dict[str, float]:
    """Measure the largest magnitude that each layer with weights gives on generated pictures.

    Everything is computed in float32, in which nothing overflows.

    Args:
        network: Its weights may be of any type and on any device.
    """
    modules = dict(network.named_children())
    wide = {
        name: {part: parameter.float() for part, parameter in modules[name].named_parameters()}
        for name in network.layers
        if name in modules
    }
    device = next(parameter.device for parameters in wide.values() for parameter in parameters.values())
    pictures = torch.from_numpy(generated_pictures(2, PEAK_SIDE, PEAK_SIDE)).permute(0, 3, 1, 2)
    peaks = {}
    with torch.no_grad():
        x = network.prepare(pictures.to(device).float() / 255)
        for name in network.layers:
            if wide.get(name):
                x = functional_call(modules[name], wide[name], x.to(next(iter(wide[name].values())).device))
                peaks[name] = float(x.abs().max())
            else:
                x = network.run_layer(name, x)
    return peaks


def find_exponents(layers: Sequence[str], peaks: Mapping[str, float]) -> dict[str, int]:
    """Choose the power of two by which the activations at each layer are divided.

    Args:
        layers: All layers in order. One without a peak goes on with the power of the layer before it.
        peaks: The largest magnitudes of layers with weights, as `find_peaks` gives them.

    Returns:
        Exponents by layer, 0 or above and never falling: the divided peaks are at most `TARGET_PEAK`.
    """
    exponents = {}
    exponent = 0
    for name in layers:
        if name in peaks:
            needed = math.ceil(math.log2(max(peaks[name] / TARGET_PEAK, 1)))
            exponent = max(exponent, needed)  # never smaller: an input would have to be enlarged, and might overflow
        exponents[name] = exponent
    return exponents
