"""Weights for inputs of one preprocessing to weights for inputs of the other: only the first convolution changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vggquant.errors import require_one_of
from vggquant.files.weights import Weights
from vggquant.networks.vgg import CAFFE_MEAN, PREPROCESSINGS, TORCH_MEAN, TORCH_STD, Preprocessing, require_vgg

Doubles = npt.NDArray[np.float64]

_FIRST = "conv1_1"


def prepare_for(weights: Weights, preprocessing: Preprocessing) -> Weights:
    """A VGG's weights for inputs of another preprocessing.

    Both prepare each colour p of RGB in [0, 1] as a·p − b, so the factor and the shift between them can be folded into
    weight and bias of the first convolution: with x = f·y + g in the place of its input x, w·x = (w·f)·y + w·g, and
    the sum of w·g over channels and positions joins the bias. It is exact but for rounding to float32, and at the
    border: there, zero padding stands for the mean colour of either preprocessing, which differ by at most 0.5 of 255.

    Args:
        weights: Of a VGG.
        preprocessing: What the inputs will be prepared as.

    Raises:
        NetworkError: The network is no VGG.
        OptionError: No such preprocessing.
    """
    require_one_of("preprocessing", preprocessing, PREPROCESSINGS)
    network = require_vgg(weights.network)
    if network.preprocessing == preprocessing:
        return weights
    name, bias_name = f"{_FIRST}.weight", f"{_FIRST}.bias"
    weight = weights.array(name).astype(np.float64)
    (ours, shift), (theirs, their_shift) = _affine(network.preprocessing), _affine(preprocessing)
    if network.preprocessing == "caffe":  # whose channels are BGR
        weight = weight[:, ::-1]
    factor = (ours / theirs).reshape(3, 1, 1)
    offset = (ours / theirs * their_shift - shift).reshape(3, 1, 1)
    bias = weights.plain[bias_name] + (weight * offset).sum((1, 2, 3))
    weight = weight * factor
    if preprocessing == "caffe":
        weight = weight[:, ::-1]
    converted = {name: np.ascontiguousarray(weight, np.float32), bias_name: bias.astype(np.float32)}
    change = f"first convolution converted to preprocessing {preprocessing} by vggquant"
    return replace(
        weights,
        network=replace(network, preprocessing=preprocessing),
        palettized={key: tensor for key, tensor in weights.palettized.items() if key != name},
        plain={**weights.plain, **converted},
        provenance=weights.provenance.changed(change),
    )


def _affine(preprocessing: Preprocessing) -> tuple[Doubles, Doubles]:
    """Factor a and shift b of R, G and B: what a network takes in is a·p − b."""
    if preprocessing == "caffe":
        return np.full(3, 255.0), np.array(CAFFE_MEAN[::-1])
    return 1 / np.array(TORCH_STD), np.array(TORCH_MEAN) / np.array(TORCH_STD)
