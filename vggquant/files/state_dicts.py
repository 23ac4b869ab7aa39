"""Weights in memory, a state dict or a torch module, to named tensors; imports no torch that is not there already.

Their names and axes are left to `layouts`, torch's files to `torch_files`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vggquant.errors import SourceError, located
from vggquant.files.tensors import WRAPPERS, Array, SourceTensor, WeightFile
from vggquant.networks.families import FAMILIES, record_of
from vggquant.networks.network import Network
from vggquant.networks.vgg import Architecture, as_vgg

RECORD = "vggquant.network"  # metadata of a float32 file: the record of a network that is no VGG


@runtime_checkable
class Module(Protocol):
    """A torch module, or whatever else has a state dict."""

    def state_dict(self) -> Mapping[str, Any]:
        """Its tensors by name."""


StateDict = Mapping[str, Any] | Module


def name_of_state(source: StateDict) -> str:
    """What errors call weights in memory."""
    return "state dict" if isinstance(source, Mapping) else type(source).__name__


def read_state_dict(source: StateDict) -> WeightFile:
    """Find the tensors of a state dict, bare or under one of `WRAPPERS`, or of a module.

    Entries that are no tensors are passed over. What a module of this package knows of itself is noted as our files do.

    Args:
        source: torch tensors and NumPy arrays by name, or what has a state dict of them.

    Raises:
        SourceError: A name is no text, or a tensor is sparse, quantized, without data, or not of numbers.
    """
    state = source if isinstance(source, Mapping) else source.state_dict()
    seen = [state]
    while inner := next((state[key] for key in WRAPPERS if isinstance(state.get(key), Mapping)), None):
        if any(inner is outer for outer in seen):
            break
        seen.append(state := inner)
    tensors = {}
    for name, value in state.items():
        with located(tensor=str(name)):
            tensor = _source_tensor(value)
            if tensor is not None:
                if not isinstance(name, str):
                    raise SourceError("names", type(name).__name__, "pass module.state_dict()")
                tensors[name] = tensor
    return WeightFile(tensors, _record(source))


def checksum(tensors: Mapping[str, SourceTensor]) -> str:
    """SHA-256 of named tensors, which stands for that of a file where there is none.

    It is taken over all tensors in their order: of each the JSON of name, element type and shape, without spaces and
    followed by a line feed, and then its elements in C order, little-endian; those of bfloat16 as float32. Tensors of
    torch and arrays of NumPy with the same content have the same checksum.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(json.dumps([name, tensor.dtype, tensor.shape], separators=(",", ":")).encode() + b"\n")
        with located(tensor=name):
            array = tensor.read()
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def recorded(network: Network) -> dict[str, str]:
    """The record of a network that is no VGG, as metadata of a file of float32 weights."""
    return {RECORD: json.dumps(record_of(network), sort_keys=True, separators=(",", ":"))}


def _record(source: object) -> dict[str, str]:
    """What a module of this package knows of itself, in the words of our files' metadata."""
    network: Any = getattr(source, "network", None)
    family = getattr(network, "family", None)
    if isinstance(family, str) and family in FAMILIES and not as_vgg(network):
        return recorded(network)
    architecture = getattr(source, "architecture", None)
    preprocessing, layers = getattr(source, "preprocessing", None), getattr(source, "layers", None)
    if not isinstance(architecture, Architecture) or preprocessing is None or not layers:
        return {}
    return {"architecture": architecture.name, "preprocessing": preprocessing, "upto": layers[-1]}


def _source_tensor(value: object) -> SourceTensor | None:
    """A tensor that is not yet read; ``None`` for anything else."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise SourceError("a dense tensor", "one that is sparse, quantized or without data", "convert it first")
        dtype = str(value.dtype).removeprefix("torch.")
        return SourceTensor(tuple(value.shape), dtype, partial(_elements, value))
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            raise SourceError("an array of numbers", value.dtype, "convert it first")
        return SourceTensor(value.shape, value.dtype.name, lambda: value)
    return None


def _elements(tensor: Any) -> Array:
    """The elements of a torch tensor, wherever it is."""
    plain = tensor.detach().cpu()
    try:
        array: Array = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    except TypeError:  # a type of 8 bits
        raise SourceError("a type that NumPy has", plain.dtype, "convert it to float32 first") from None
    return array
