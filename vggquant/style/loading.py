"""The network that a picture is painted with: loading it as it paints fastest, and spreading it over devices.

Reading and restoring its weights is left to `models`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from vggquant.errors import OptionError, SourceError, located, suggestion
from vggquant.files.container import read_outline
from vggquant.files.disk import PathLike
from vggquant.files.sources import resolve
from vggquant.models.devices import computes_bf16, require_device
from vggquant.models.layout import lay_channels_last
from vggquant.models.load import load_quantized_vgg
from vggquant.models.vgg import VGG, Pooling
from vggquant.networks.vgg import LAYERS, require_vgg
from vggquant.style.options import Precision

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def load_network(
    precision: Precision,
    weights: PathLike | None = None,
    *,
    upto: str | None = None,
    pooling: Pooling = "max",
    device: torch.device | str = "cpu",
) -> VGG:
    """Load a network as it paints fastest, which in bf16 is with its weights laid out channels last.

    Args:
        precision: ``bf16``; anything else means float32.
        weights: A packed file; the embedded VGG-19 if not given.
        upto: The deepest layer that is looked at.
        pooling: ``max`` or ``avg``.
        device: Where to compute.

    Raises:
        VggQuantError: The file is missing, not sound, or ends before `upto`.
    """
    if upto is not None:
        _require_layer(weights, upto)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    vgg = load_quantized_vgg(weights, upto=upto, pooling=pooling, device=device, dtype=dtype)
    if precision == "bf16":
        lay_channels_last(vgg)
    return vgg


def place(vgg: VGG, devices: Sequence[tuple[str, str]]) -> None:
    """Spread a network over devices.

    Args:
        vgg: The network; layers that it does not reach are passed over.
        devices: Device and layer from which it is used. The layer is a name, or an index counted from 1.

    Raises:
        OptionError: There is no such device or layer.
    """
    named = {_layer_of(vgg, layer): require_device(device, "supplemental_devices") for device, layer in devices}
    vgg.place({layer: device for layer, device in named.items() if layer in vgg.layers})


def all_compute_bf16(device: str, supplemental_devices: Sequence[tuple[str, str]]) -> bool:
    """Whether bf16 is faster than float32 on every device of a network.

    Args:
        device: Where the network begins.
        supplemental_devices: Where it goes on, as in `place`.

    Raises:
        OptionError: There is no such device.
    """
    others = [require_device(other, "supplemental_devices") for other, _ in supplemental_devices]
    return all(computes_bf16(one) for one in (require_device(device), *others))


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Let torch use only algorithms that always give the same result, if that is wanted; afterwards as before."""
    if not wanted:
        yield
        return
    before, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    workspace = os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        if workspace is None:
            del os.environ[_WORKSPACE]


def _require_layer(weights: PathLike | None, layer: str) -> None:
    """Refuse a file that ends before a layer."""
    path = resolve(weights)
    with located(path):
        network = require_vgg(read_outline(path))
    if layer in network.layers:
        return
    if layer in network.architecture.layers:
        held = f"a layer up to {network.last}, where the file ends"
    else:
        held = f"a layer of {network.architecture.name}, {LAYERS[0]} … {LAYERS[-1]}"
    cure = "pack it anew, up to there"
    raise SourceError(f"layers up to {layer} to paint with", f"a file with {held}", cure, path=weights)


def _layer_of(vgg: VGG, layer: str) -> str:
    """The name of a layer that was given by name or index."""
    names = vgg.architecture.layers
    if layer.isdecimal():
        if not 0 < int(layer) < len(names):
            raise OptionError(f"1 to {len(names) - 1}", layer, "choose one of these", tensor="supplemental_devices")
        return names[int(layer)]
    if layer not in names:
        expected, cure = f"a layer {names[0]} … {names[-1]}", suggestion(layer, names)
        raise OptionError(expected, layer, cure, tensor="supplemental_devices")
    return layer
