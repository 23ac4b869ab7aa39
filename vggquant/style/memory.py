"""How much memory a transfer will need, and a refusal before work begins if there is not enough.

How much a device has left is said by `models.devices`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vggquant.errors import PictureError
from vggquant.models.devices import available_memory
from vggquant.models.features import Features
from vggquant.style.descent import HISTORY
from vggquant.style.losses import activations_of
from vggquant.style.options import Precision, StyleOptions
from vggquant.style.task import Task

PROBE_SIDES = (64, 128)  # pixels; the estimate is made from two small pictures
RESERVE = 1.1  # factor of the estimate for the network
OVERHEAD = 320e6  # bytes that are needed whatever the size of the picture
_PIXEL_BYTES = 12  # three channels in float32
_OTHER_PICTURES = 10  # the picture, its gradient and copies; Adam's two moments and the last step's are among them


def require_memory(per_pixel: Mapping[torch.device, tuple[float, float]], task: Task, precision: Precision) -> None:
    """Refuse a transfer that would not fit into the memory of its devices.

    Args:
        per_pixel: What it takes of each device, see `memory_per_pixel`.
        task: What to paint.
        precision: In which the network runs; bf16, or else float32.

    Raises:
        PictureError: It would not fit. The error names a size that would.
    """
    height, width = task.size
    area, largest_style = height * width, max(style.shape[2] * style.shape[3] for style in task.styles)
    for device, (each, each_of_style) in per_pixel.items():
        available = available_memory(device)
        needed = OVERHEAD + max(area * each, largest_style * each_of_style)
        if available is None or needed <= available:
            continue
        if largest_style * each_of_style > area * each:
            cure = "choose smaller styles"
        else:
            share = math.sqrt(max(0.0, available - OVERHEAD) / (needed - OVERHEAD))
            cure = f"choose {math.floor(width * share)} × {math.floor(height * share)} pixels or less"
            cure += "" if precision == "bf16" else ", or `precision='bf16'`"
        expected = f"a transfer in the {available / 1e9:.1f} GB left on {device}"
        raise PictureError(expected, f"one of about {needed / 1e9:.1f} GB at {width} × {height}", cure)


def memory_per_pixel(
    vgg: Features, device: torch.device, options: StyleOptions, masks: int = 0
) -> dict[torch.device, tuple[float, float]]:
    """Estimate the memory that a transfer takes for each pixel, from forward passes of two small pictures.

    Most of it are activations that are kept for the gradient, and a copy of each style layer's for each mask. While
    the gradient of the largest activation is made, up to three more tensors of its size are alive. L-BFGS remembers up
    to a hundred steps. Styles pass through the network alone and without a gradient.

    Args:
        vgg: Gives activations by layer name.
        device: Where the pictures are.
        options: Layers, steps, optimiser and precision.
        masks: How many styles have one.

    Returns:
        For each device that the network uses, bytes for a pixel of the result and for a pixel of a style.
    """
    smaller, larger = (_kept_for_gradient(vgg, device, side, options) for side in PROBE_SIDES)
    area = PROBE_SIDES[1] ** 2 - PROBE_SIDES[0] ** 2
    pictures = _OTHER_PICTURES + (2 * min(options.steps, HISTORY) if options.optimizer == "lbfgs" else 0)
    found = {}
    for place in larger:
        # weights are kept too, but are as large for both pictures
        growth = [after - before for before, after in zip(smaller[place].sizes, larger[place].sizes, strict=True)]
        largest = max(growth) / area
        copied = masks * (larger[place].style_layers - smaller[place].style_layers)
        kept = (sum(growth) + copied) / area + 3 * largest
        optimiser = _PIXEL_BYTES * pictures if place == device else 0
        found[place] = (RESERVE * kept + optimiser, RESERVE * 3 * largest)
    return found


@dataclass(frozen=True)
class _Kept:
    """What a forward pass keeps on one device.

    Args:
        sizes: Bytes of each tensor that is kept for the gradient, in the order of the pass.
        style_layers: Bytes of the style layers' activations.
    """

    sizes: list[int]
    style_layers: int


def _kept_for_gradient(
    vgg: Features, device: torch.device, side: int, options: StyleOptions
) -> dict[torch.device, _Kept]:
    """What a forward pass of a square picture keeps on each device."""
    storages: dict[torch.device, dict[int, int]] = defaultdict(dict)

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[tensor.device][storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.inference_mode(False), torch.enable_grad():
        picture = torch.zeros(1, 3, side, side, device=device, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            activations = activations_of(vgg, picture, options.layers, options.precision)
    return {
        place: _Kept(
            list(sizes.values()),
            sum(activations[layer].nbytes for layer in options.style_layers if activations[layer].device == place),
        )
        for place, sizes in storages.items()
    }
