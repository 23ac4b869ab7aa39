"""The bytes of a source, read once: whole, or in pieces of which each lies in memory of its own.

Small pieces take memory that was used before, and nothing keeps those alive that are not needed. Where a file is cut,
and what the pieces mean, is left to its reader.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from vggquant.files.disk import HEAD_BYTES, Bytes, PathLike, Readable, RegularFile, open_regular, read_file
from vggquant.threads import map_in_threads

R = TypeVar("R")

_WORTH_A_THREAD = 2**20  # bytes, which take longer to read and check than a thread to start
_ALIGNMENT = 64  # to which torch aligns numbers within its files


class Content:
    """The bytes of a source, here of one in memory.

    Args:
        data: All of them.

    Attributes:
        size: How many there are.
        pieces: What was read, which put together is the source.
    """

    def __init__(self, data: Bytes) -> None:
        self.size = data.size
        self.pieces: list[Bytes] = []
        self._data = data

    def whole(self, needed: Callable[[Bytes], int] | None = None) -> Bytes:
        """Read the source in one piece, or of a file what is needed, see `read_file`."""
        self.pieces = [self._data]
        return self._data

    def in_pieces(self, begins: Sequence[int], use: Callable[[int, Bytes], R]) -> list[R]:
        """Read the source in pieces, several at once.

        Args:
            begins: Where pieces begin: 0, and then ever further on.
            use: Called with the number of each piece and its bytes as soon as they are read, while they are in the
                processor's cache.

        Returns:
            What `use` returned for each piece.
        """
        ends = [*begins[1:], self.size]

        def read(number: int) -> tuple[Bytes, R]:
            piece = self.part(begins[number], ends[number])
            return piece, use(number, piece)

        threads = min(os.cpu_count() or 1, 1 + self.size // _WORTH_A_THREAD)
        found = map_in_threads(read, range(len(begins)), threads)
        self.pieces = [piece for piece, _ in found]
        return [result for _, result in found]

    def part(self, begin: int, end: int) -> Bytes:
        """Bytes from one place to another or to the end, to see what the source is and where to cut it."""
        return self._data[begin:end]


class _Stored(Content):
    """The bytes of a file."""

    def __init__(self, file: RegularFile) -> None:
        self.size = file.size
        self.pieces = []
        self._file = file

    def whole(self, needed: Callable[[Bytes], int] | None = None) -> Bytes:
        self.pieces = [self._file.whole(needed)]
        return self.pieces[0]

    def part(self, begin: int, end: int) -> Bytes:
        size = min(end, self.size) - begin
        room = np.empty(size + _ALIGNMENT, np.uint8)
        shift = (begin - room.ctypes.data) % _ALIGNMENT  # what is aligned in the file shall be in memory
        self._file.fill(begin, room[shift : shift + size])
        return room[shift : shift + size]


@contextlib.contextmanager
def open_content(source: Readable) -> Iterator[Content]:
    """Open a source to read it as `read_file` does, with the same errors. What was read can be used after closing."""
    if isinstance(source, (str, os.PathLike)):
        with open_regular(source) as file:
            yield _Stored(file)
    else:
        yield Content(read_file(source))


def is_marked(path: PathLike, mark: str) -> bool:
    """Whether a file can be read and has a mark near its beginning, so that it is not something else of that name."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return mark.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False
