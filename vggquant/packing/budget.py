"""Widths for a size: which width of each layer loses least, where style transfer looks, in a given number of bytes.

How much style transfer sees of the error of each layer of a VGG stands in a table that was measured once. What a layer
takes and loses at each width is the caller's to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from vggquant.errors import OptionError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

# Visible loss for each unit of noise at 1 … 7 bits, measured for VGG-19 on generated pictures by bench/sensitivity.py.
# Visible loss is squared content error, plus squared style error, plus a tenth of the mean squared feature error, which
# keeps layers deeper than the style layers usable. There is a figure for each width because coarse codebooks shift
# features more than their noise alone would. Layers of smaller VGGs take the figures of their namesakes.
SENSITIVITY: Mapping[str, tuple[float, ...]] = {
    "conv1_1": (1.7, 1.5, 1.7, 0.99, 1.4, 2.1, 3.9),
    "conv1_2": (1.1, 0.53, 0.4, 0.25, 0.12, 0.066, 0.083),
    "conv2_1": (1, 0.95, 0.55, 0.47, 0.53, 0.64, 0.38),
    "conv2_2": (1.4, 1.1, 0.62, 0.37, 0.16, 0.35, 0.24),
    "conv3_1": (2.1, 2.1, 1.2, 0.42, 0.25, 0.22, 0.21),
    "conv3_2": (1.1, 1.1, 0.75, 0.45, 0.12, 0.059, 0.079),
    "conv3_3": (0.44, 0.21, 0.11, 0.052, 0.026, 0.031, 0.025),
    "conv3_4": (0.77, 0.48, 0.2, 0.1, 0.05, 0.044, 0.043),
    "conv4_1": (1.1, 0.77, 0.42, 0.26, 0.15, 0.1, 0.091),
    "conv4_2": (0.67, 0.54, 0.43, 0.3, 0.2, 0.26, 0.23),
    "conv4_3": (0.11, 0.12, 0.094, 0.048, 0.024, 0.015, 0.019),
    "conv4_4": (0.11, 0.089, 0.068, 0.046, 0.021, 0.021, 0.017),
    "conv5_1": (0.11, 0.12, 0.12, 0.12, 0.051, 0.035, 0.035),
    "conv5_2": (0.024, 0.021, 0.022, 0.023, 0.02, 0.015, 0.0094),
    "conv5_3": (0.015, 0.012, 0.012, 0.014, 0.0076, 0.008, 0.006),
    "conv5_4": (0.0094, 0.0077, 0.007, 0.0074, 0.004, 0.0042, 0.0039),
}

# Likewise for calibrated weights, for each unit of noise that plain k-means has.
CALIBRATED: Mapping[str, tuple[float, ...]] = {
    "conv1_1": (0.28, 0.076, 0.073, 0.043, 0.035, 0.054, 0.091),
    "conv1_2": (0.0094, 0.0015, 0.0007, 0.00052, 0.00045, 0.00044, 0.00063),
    "conv2_1": (0.034, 0.0068, 0.0035, 0.0024, 0.0023, 0.0018, 0.0024),
    "conv2_2": (0.023, 0.0077, 0.0049, 0.0037, 0.0027, 0.0025, 0.0032),
    "conv3_1": (0.048, 0.018, 0.0088, 0.0058, 0.0049, 0.0055, 0.0061),
    "conv3_2": (0.017, 0.0066, 0.004, 0.0032, 0.0021, 0.0022, 0.0025),
    "conv3_3": (0.0067, 0.0023, 0.0011, 0.00078, 0.00058, 0.00055, 0.00066),
    "conv3_4": (0.003, 0.00092, 0.00048, 0.00036, 0.0003, 0.00029, 0.00034),
    "conv4_1": (0.012, 0.0053, 0.0031, 0.0019, 0.0015, 0.0016, 0.0018),
    "conv4_2": (0.028, 0.016, 0.012, 0.011, 0.01, 0.0095, 0.011),
    "conv4_3": (0.0025, 0.0013, 0.00098, 0.00073, 0.00061, 0.0005, 0.00063),
    "conv4_4": (0.0059, 0.0035, 0.0024, 0.0022, 0.0016, 0.0016, 0.0019),
    "conv5_1": (0.01, 0.0077, 0.0064, 0.0067, 0.0043, 0.004, 0.0051),
    "conv5_2": (0.0047, 0.0038, 0.0037, 0.0042, 0.0028, 0.0025, 0.0028),
    "conv5_3": (0.0035, 0.0027, 0.0025, 0.0025, 0.0019, 0.0018, 0.0021),
    "conv5_4": (0.0024, 0.0019, 0.0017, 0.0014, 0.0012, 0.0013, 0.0014),
}

_MOST_STATES = 20_000  # kept from layer to layer; with these, sizes differ by some 1e-4 of the file


@dataclass(frozen=True)
class Choice:
    """What a layer takes and loses at one width.

    Args:
        bits: Width.
        bytes: Size in the file.
        loss: Visible loss, see `visible_loss`.
    """

    bits: int
    bytes: int
    loss: float


def parse_size(size: int | str) -> int:
    """Read a size as people write it: ``6MB`` is 6·10⁶ bytes, ``6MiB`` is 6·2²⁰; kB, KiB, GB, GiB and bytes work too.

    Raises:
        OptionError: No such size.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) *(|B|[kK]B|MB|GB|KiB|MiB|GiB)", str(size).strip())
    if not found:
        raise OptionError("a size in bytes or such as 6MB", size, "write 6MB, 5.5MiB or 6000000", tensor="max_size")
    return int(Decimal(found[1]) * _UNITS[found[2].upper()])


def visible_loss(layer: str, bits: int, noise: float, *, calibrated: bool = False) -> float:
    """What style transfer sees of a layer's noise: a sum of squared content, style and feature errors.

    Args:
        layer: ``conv1_1`` … ``conv5_4``; the layers of other networks, of which nothing was measured, all count alike.
        bits: Width at which the noise arose.
        noise: Squared error relative to the weights' own square sum, of plain k-means in any case.
        calibrated: Whether the layer is to be calibrated.
    """
    sensitivity = (CALIBRATED if calibrated else SENSITIVITY).get(layer, (1.0,))
    return noise * sensitivity[min(bits, len(sensitivity)) - 1]


def choose_widths(
    choices: Mapping[str, Sequence[Choice]], budget: int, overhead: int = 0, cure: str = "raise `max_size`"
) -> dict[str, int]:
    """Choose a width for each layer so that the visible loss is smallest within a budget.

    A larger choice is taken only if it loses less. The problem is solved layer by layer over those sums of sizes and
    losses that no other sum beats in both. The result is exact, unless these are so many that they are thinned out.

    Args:
        choices: For each layer, what each width would take and lose.
        budget: Bytes for all layers together.
        overhead: Bytes that come on top, which only the error message needs.
        cure: What can be done if even the smallest choices take more.

    Returns:
        The width of each layer.

    Raises:
        OptionError: Even the smallest choices take more.
    """
    sizes, losses = np.zeros(1, np.int64), np.zeros(1)
    steps = []
    for layer, options in choices.items():
        size = np.add.outer([option.bytes for option in options], sizes).ravel()
        loss = np.add.outer([option.loss for option in options], losses).ravel()
        order = np.lexsort((loss, size))
        best_before = np.concatenate(([np.inf], np.minimum.accumulate(loss[order])[:-1]))
        kept = order[loss[order] < best_before]
        kept = kept[size[kept] <= max(budget, int(size.min()))]
        if kept.size > _MOST_STATES:
            kept = kept[np.linspace(0, kept.size - 1, _MOST_STATES).astype(np.int64)]
        steps.append((layer, kept, sizes.size))
        sizes, losses = size[kept], loss[kept]
    if sizes[0] > budget:
        raise OptionError(
            f"at least {sizes[0] + overhead} bytes, the size at 1 bit a weight",
            budget + overhead,
            cure,
            tensor="max_size",
        )
    chosen = {}
    state = sizes.size - 1  # ascending sizes have descending losses
    for layer, kept, before in reversed(steps):
        option, state = divmod(int(kept[state]), before)
        chosen[layer] = choices[layer][option].bits
    return {layer: chosen[layer] for layer in choices}
