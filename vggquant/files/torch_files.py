"""Torch's `.pth` and `.pt` files to named tensors, and back; never unpickles anything but plain tensors.

Torch's own reader allows more than that, so what a file pickles is looked through before torch sees it.
"""

from __future__ import annotations

import functools
import io
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from vggquant.errors import SourceError
from vggquant.files.disk import Bytes, Chunk
from vggquant.files.tensors import Array, SourceTensor, WeightFile

SAFE_TORCH = (2, 10)  # before it, torch.load's weights_only could be broken out of: CVE-2026-24747

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # protocol 2 and up, with which torch's legacy files begin
_LEGACY_PICKLES = 5  # that a file of torch 1.5 or older has before its storages
_MAX_PICKLE_BYTES, _MAX_TUPLES = 2**20, 5000
_PLAIN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage|torch device"
)


def is_torch(data: Bytes) -> bool:
    """Whether a file begins as torch's files do."""
    start = data[:9].tobytes()
    # a safetensors file may begin with any byte, the lowest of its header's length
    return start.startswith(_ZIP) or (start.startswith(_PICKLE) and start[8:] != b"{")


def read_torch(data: Bytes) -> WeightFile:
    """Read a `torch.save` file of a state dict, bare or under ``state_dict``; no code in it is ever run.

    Raises:
        SourceError: The file is damaged, holds more than plain tensors, or this torch is too old to be safe.
    """
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
            warnings.simplefilter("ignore")  # torch advises its own developers about typed storages
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
    for name, tensor in dict.items(state):  # not state.items, which a file could set
        if type(tensor) in (torch.Tensor, torch.nn.Parameter):
            if type(name) is not str:
                raise SourceError("names", f"a {type(name).__name__}", "save model.state_dict() instead")
            dtype = str(tensor.dtype).removeprefix("torch.")
            tensors[name] = SourceTensor(tuple(tensor.shape), dtype, functools.partial(_elements, tensor))
    return WeightFile(tensors)


def _check_archive(data: Bytes) -> bytes:
    """The pickle of a torch archive, which must be as torch writes it: uncompressed, each name once, no damage.

    Python and torch must also see the same members. Both find them from the end of the file, but in different ways.
    """
    # the zip64 directory record, its locator, and the record that ends every archive
    end = data[-98:].tobytes().rjust(98, b"\0")
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
    """Refuse pickles of anything but dicts of tensors: torch's unpickler allows more, even what exhausts memory."""
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
