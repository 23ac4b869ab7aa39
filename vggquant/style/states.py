"""The state of a transfer in a file beside a picture, from which it goes on as if it had never stopped.

The file is a plain safetensors file. What it holds is decided by `descent` and `transfer`, and what a transfer goes on
from by `resuming`.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vggquant.errors import ContainerError, PictureError, StorageError, located
from vggquant.files.contents import is_marked
from vggquant.files.disk import PathLike, read_file, write_file
from vggquant.files.safetensors import is_count, join_file, parse_json, split_file
from vggquant.style.descent import HISTORY
from vggquant.style.task import Reached

ENDING = ".state"
_KEY = "vggquant_state"  # of our metadata
_FIRST = "first"  # the picture that the transfer began with, beside the tensors of the descent
_OVERHEAD = 2**20  # bytes of its header and numbers
_PIXEL_BYTES = 12 * (2 * HISTORY + 10)  # pictures of three channels in float32
_CURE = "delete it to go on from the picture alone"


def state_path(picture: PathLike) -> str:
    """Where the state goes that belongs to a picture."""
    return os.fspath(picture) + ENDING


def write_state(picture: PathLike, checksum: str, reached: Reached) -> None:
    """Write a state beside its picture, in place of another one, since a state is of no use without its picture.

    Args:
        picture: A file that was just written.
        checksum: Its SHA-256, which ties the state to it.
        reached: The state.

    Raises:
        StorageError: The file cannot be written, or what is there holds no state.
    """
    tensors = {**reached.memory, _FIRST: reached.first}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    about = f'{{"crc32": {_crc32(arrays)}, "done": {reached.done}, "planned": {reached.planned}, '
    about += f'"sha256": "{checksum}"}}'
    header, chunks = join_file(arrays, {_KEY: about})
    path = state_path(picture)
    write_file(path, [header, *chunks], force=is_marked(path, _KEY))


def read_state(picture: PathLike, checksum: str | None, pixels: int) -> Reached | None:
    """Read the state that belongs to a picture.

    Args:
        picture: An intermediate picture.
        checksum: Its SHA-256, by which the state knows it.
        pixels: Area of the whole transfer's result. A state that takes more memory than its own is not read.

    Returns:
        The state, or ``None`` if there is none beside the picture, or another picture's.

    Raises:
        PictureError: The file is no state, or damaged.
        StorageError: It cannot be read.
    """
    path = state_path(picture)
    if not os.path.exists(path):
        return None
    with located(path):
        try:
            _, raw, metadata = split_file(read_file(path, most=_OVERHEAD + pixels * _PIXEL_BYTES))
            about = parse_json(metadata.get(_KEY, "").encode(), _KEY)
            arrays = {name: tensor.array() for name, tensor in raw.items()}
        except ContainerError as error:
            raise PictureError("the state of a transfer", error.got, _CURE, tensor=error.tensor) from None
        if about.get("sha256") != checksum:
            return None
        if about.get("crc32") != _crc32(arrays):
            raise PictureError("the state of a transfer", "a damaged one", _CURE)
        # copied into memory of torch's own, which is aligned as it was when the steps were made
        tensors = {name: torch.from_numpy(array).clone() for name, array in arrays.items()}
        first = tensors.pop(_FIRST, None)
        counts = [about[name] for name in ("done", "planned") if is_count(about.get(name))]
        if first is None or len(counts) < 2:
            raise PictureError("the state of a transfer", "another file", _CURE)
        return Reached(counts[0], counts[1], first, tensors)


def remove_state(picture: PathLike) -> None:
    """Remove the state of a picture that is no longer there."""
    with contextlib.suppress(OSError):
        os.remove(state_path(picture))


class NewestState:
    """Keeps the state of the newest picture alone, since states are large."""

    def __init__(self) -> None:
        self.picture: PathLike | None = None
        self.lost = ""  # why the newest state could not be written, if it could not

    def keep(self, picture: PathLike, checksum: str, reached: Reached) -> None:
        """Write the state beside a picture, and remove the one that was written before.

        A painting is not given up for want of room for its state.
        """
        older = self.picture
        try:
            write_state(picture, checksum, reached)
        except StorageError as error:
            self.lost = str(error)
            return
        self.picture, self.lost = picture, ""
        if older is not None and state_path(older) != state_path(picture):
            remove_state(older)


def _crc32(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    """CRC-32 over the elements of all arrays, in the order of their names."""
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data, checksum)
    return checksum
