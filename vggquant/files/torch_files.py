"""Torch's `.pth` and `.pt` files to named tensors without torch or an unpickler, and back with torch.

Archives are left to `torch_archives`, what their pickles say to `torch_pickles`. Here tensors get their elements.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from vggquant.errors import SourceError
from vggquant.files.contents import Content
from vggquant.files.disk import Bytes, Chunk
from vggquant.files.tensors import WRAPPERS, Array, SourceTensor, WeightFile, numbers
from vggquant.files.torch_archives import read_archive
from vggquant.files.torch_pickles import PickledDict, Storage, StoredTensor, read_pickle

START_BYTES = 9
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # protocol 2 and up, with which torch's older files begin
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the older form
_SAVE = "save it anew with torch.save(model.state_dict(), …), or as safetensors"


def is_torch(data: Bytes) -> bool:
    """Whether a file begins as torch's files do; looks at no more than `START_BYTES`."""
    start = data[:START_BYTES].tobytes()
    # a safetensors file may begin with any byte, the lowest of its header's length
    return start.startswith(_ZIP) or (start.startswith(_PICKLE) and start[8:] != b"{")


def read_torch(content: Content) -> WeightFile:
    """Read a `torch.save` file of a state dict, bare or within a dict, without importing torch.

    Both forms are read: the archive that torch has written since 1.6, and the row of pickles from before.

    Raises:
        SourceError: The file is damaged, or holds more than plain tensors and what goes with them.
    """
    try:
        archived = content.part(0, len(_ZIP)).tobytes() == _ZIP
        state, parts = _read_archived(content) if archived else _read_older(content.whole())
    except (ValueError, OverflowError) as error:
        raise SourceError("a torch state dict of plain tensors", str(error), f"get it again, or {_SAVE}") from None
    if type(state) is not PickledDict:
        raise SourceError("a torch state dict", f"a {type(state).__name__}", _SAVE)
    tensors = {}
    for name, tensor in _unwrapped(state).pairs:
        if type(tensor) is StoredTensor:
            if type(name) is not str:
                raise SourceError("names", f"a {type(name).__name__}", _SAVE)
            elements = functools.partial(_elements, tensor, parts[tensor.storage.key])
            tensors[name] = SourceTensor(tensor.shape, tensor.storage.dtype, elements)
        elif type(name) is str:
            tensors.pop(name, None)  # the last value of a name counts
    return WeightFile(tensors)


def _unwrapped(state: PickledDict) -> PickledDict:
    """The state dict in a checkpoint, however often it is wrapped."""
    seen = {id(state)}
    while True:
        wrapped = [state.get(name) for name in WRAPPERS]
        inner = next((inner for inner in wrapped if type(inner) is PickledDict and id(inner) not in seen), None)
        if inner is None:
            return state
        state = inner
        seen.add(id(state))


def _read_archived(content: Content) -> tuple[Any, dict[str, Bytes]]:
    """What an archive holds, and the bytes of its storages by key."""
    members = read_archive(content)
    nothing = np.empty(0, np.uint8)
    if "data.pkl" not in members or "constants.pkl" in members:
        got = "a TorchScript archive" if "constants.pkl" in members else "an archive of something else"
        raise SourceError("a torch state dict", got, _SAVE)
    _require_little_endian(members.get("byteorder", nothing).tobytes() in (b"", b"little"))
    pickle = read_pickle(members["data.pkl"])
    if pickle.length != members["data.pkl"].size:
        raise ValueError("a pickle with something behind it")
    parts = {}
    for key, storage in pickle.storages.items():
        part = members.get(f"data/{key}", nothing)
        if part.size != storage.count * _itemsize(storage):
            raise ValueError(f"a storage {key} of another size than its tensors say")
        parts[key] = part
    return pickle.content, parts


def _read_older(data: Bytes) -> tuple[Any, dict[str, Bytes]]:
    """As `_read_archived`, of the older form: five pickles, then each storage behind its number of elements."""
    place = 0
    pickles = []
    for expected in (_MAGIC, _PROTOCOL, None, None, None):
        pickles.append(read_pickle(data[place:]))
        place += pickles[-1].length
        if expected is not None and pickles[-1].content != expected:
            raise SourceError("a torch state dict", "a pickle of something else", _SAVE)
    system, pickle, keys = pickles[2].content, pickles[3], pickles[4].content
    _require_little_endian(type(system) is PickledDict and system.get("little_endian") is True)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("a damaged list of storages")
    if sorted(keys) != sorted(pickle.storages):
        raise ValueError("a list of other storages than its tensors have")
    parts = {}
    for key in keys:
        storage = pickle.storages[key]
        end = place + 8 + storage.count * _itemsize(storage)
        if end > data.size or data[place : place + 8].tobytes() != storage.count.to_bytes(8, "little"):
            raise ValueError(f"a storage {key} of another size than its tensors say")
        parts[key] = data[place + 8 : end]
        place = end
    if place != data.size:
        raise ValueError("something behind the last storage")
    return pickle.content, parts


def _require_little_endian(little: bool) -> None:
    if not little:
        raise SourceError("little-endian tensors", "others", f"{_SAVE}, on an ordinary machine")


def _itemsize(storage: Storage) -> int:
    return 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize


def _elements(tensor: StoredTensor, part: Bytes) -> Array:
    """The elements of a tensor from the bytes of its storage; a view of them where that is possible."""
    kind = tensor.storage.dtype
    size = _itemsize(tensor.storage)
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape:
        last = -1
    if last >= tensor.storage.count:
        raise ValueError("a tensor beyond its storage")
    flat = numbers(part, "<u2" if kind == "bfloat16" else np.dtype(kind).newbyteorder("<").str)
    begin = tensor.offset if last >= 0 else 0
    # the stride of a side of 1 is never used, and may be any number
    strides = [size * stride if side > 1 else 0 for side, stride in zip(tensor.shape, tensor.strides, strict=True)]
    array: Array = np.lib.stride_tricks.as_strided(flat[begin:], tensor.shape, strides, writeable=False)
    return (array.astype(np.uint32) << 16).view(np.float32) if kind == "bfloat16" else array


def write_torch(arrays: Mapping[str, Array]) -> list[Chunk]:
    """Bytes of a `torch.save` file of a state dict, the same on every run; uint16 stands for bfloat16."""
    import torch

    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    state = {name: each.view(torch.bfloat16) if each.dtype == torch.uint16 else each for name, each in tensors.items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return [buffer.getvalue()]
