"""What a process and the child that reads files for it say to each other over two pipes.

What is asked for is left to `parent`, and what is done about it to `child`.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NO_MEMORY = 97  # the exit code of a child that has none left
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Limits:
    """What one reading may take.

    Args:
        memory: Bytes, besides those that the child has before; also of all that is handed back.
        seconds: Of processor time.
    """

    memory: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Answer:
    """What a reader hands back.

    Args:
        values: Anything that JSON holds.
        arrays: By name.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


def write(pipe: IO[bytes], values: Mapping[str, Any]) -> None:
    """Send anything that JSON holds; the inverse of `read`."""
    text = json.dumps(values).encode()
    pipe.write(_LENGTH.pack(len(text)) + text)


def read(pipe: IO[bytes], limit: int) -> Any:
    """Receive what `write` sent.

    Raises:
        EOFError: The other side is gone.
        ValueError: It sends more than `limit` bytes, or no JSON.
    """
    (size,) = _LENGTH.unpack(exactly(pipe, _LENGTH.size).data)
    if size > limit:
        raise ValueError(size)
    return json.loads(bytes(exactly(pipe, size)))


def exactly(pipe: IO[bytes], size: int) -> Array:
    """Receive as many bytes as are expected.

    Raises:
        EOFError: The other side is gone.
    """
    found = np.empty(size, np.uint8)
    view = found.data
    while len(view):
        count = pipe.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return found


def function_of(reader: str) -> Callable[..., Answer]:
    """The function that a request names by its module and its own name."""
    module, _, name = reader.partition(":")
    function: Callable[..., Answer] = getattr(importlib.import_module(module), name)
    return function
