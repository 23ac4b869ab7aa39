"""HDF5 files of plain form to the places of their arrays, without the HDF5 library.

Plain are the files that Keras publishes and that vggquant writes: groups, and arrays of floats that each lie in one
piece, in the oldest format of the library. What is anything else, or damaged, is left to `hdf5_files`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from vggquant.files.disk import Bytes

# https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t1.html says what these mean
_START = struct.pack("<8s8B", b"\x89HDF\r\n\x1a\n", 0, 0, 0, 0, 0, 8, 8, 0)  # versions, and sizes of addresses
_SPACE, _TYPE, _OLD_FILL, _FILL, _LAYOUT, _ATTRIBUTE, _CONTINUED, _GROUP, _TIME = 1, 3, 4, 5, 8, 12, 16, 17, 18
_NONE = 2**64 - 1  # an address of nothing
_TEXT = struct.pack("<4sI", b"\x19\x01\x01\x00", 16)  # how the type of a text in UTF-8 begins
_TYPES = {
    struct.pack("<B3BIHH4BI", 0x11, 0x20 | big, sign, 0, size, 0, 8 * size, mantissa, exponent, 0, mantissa, bias): kind
    for size, mantissa, exponent, bias in ((2, 10, 5, 15), (4, 23, 8, 127), (8, 52, 11, 1023))
    for big, kind, sign in ((0, f"<f{size}", 8 * size - 1), (1, f">f{size}", 8 * size - 1))
}
KINDS = frozenset(_TYPES.values())  # element types, with the order of their bytes
_MOST_READS = 20_000  # of a file, ten times as many as a VGG-19 needs
_DEEPEST = 8
_MOST_TEXT = 2**20  # bytes of an attribute: more than a packed file can hand on


@dataclass(frozen=True)
class PlainArray:
    """An array in a file.

    Args:
        shape: Shape.
        kind: Element type in NumPy's words, with the order of its bytes.
        place: Where in the file it begins. It ends within the file.
    """

    shape: tuple[int, ...]
    kind: str
    place: int


@dataclass(frozen=True)
class PlainFile:
    """What a file holds.

    Args:
        arrays: By path, without a slash in front.
        texts: Of the attributes of the whole that were asked for.
    """

    arrays: dict[str, PlainArray] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class _NotPlainError(Exception):
    """A file of another form, or a damaged one."""


def read_plain(data: Bytes, wanted: Collection[str], passed_over: str) -> PlainFile | None:
    """List the arrays of a file.

    Args:
        data: The file.
        wanted: Names of attributes.
        passed_over: A group of the whole that is not looked into.

    Returns:
        ``None`` if the file is not of plain form. Nothing can be concluded from that.
    """
    reader = _Reader(data.data)
    try:
        root = reader.root()
        found = PlainFile()
        for path, messages in reader.walk(root, "", passed_over):
            found.arrays[path] = reader.array(messages)
        found.texts.update(reader.texts(root, wanted))
    except (_NotPlainError, UnicodeDecodeError):
        return None
    return found


@dataclass
class _Reader:
    """Reads the structures of a file; each read is within the file, and they are counted."""

    data: memoryview
    reads: int = 0
    groups: set[int] = field(default_factory=set)

    def piece(self, place: int, size: int) -> bytes:
        self.reads += 1
        _require(self.reads <= _MOST_READS and place + size <= len(self.data))
        return bytes(self.data[place : place + size])

    def numbers(self, form: str, place: int) -> tuple[Any, ...]:
        return struct.unpack(form, self.piece(place, struct.calcsize(form)))

    def root(self) -> int:
        """Where the group of the whole begins."""
        _require(self.piece(0, 16) == _START)
        base, _, end, driver, _, place = self.numbers("<6Q", 24)
        _require(base == 0 and end <= len(self.data) and driver == _NONE)
        return int(place)

    def messages(self, place: int) -> list[tuple[int, int, int]]:
        """Kind, place and size of each part of what describes a group or an array."""
        version, count, size = self.numbers("<BxH4xI", place)
        _require(version == 1)
        blocks, found = [(place + 16, size)], []
        for begin, size in blocks:  # which grow as it goes
            at, end = begin, begin + size
            while at < end:
                kind, size, flags = self.numbers("<HHB3x", at)
                _require(flags in (0, 1) and at + 8 + size <= end)
                found.append((kind, at + 8, size))
                if kind == _CONTINUED:
                    blocks.append(self.numbers("<QQ", at + 8))
                at += 8 + size
        _require(len(found) == count)
        return [message for message in found if message[0] not in (0, _CONTINUED)]

    def walk(self, place: int, path: str, passed_over: str) -> Iterator[tuple[str, list[tuple[int, int, int]]]]:
        """Paths and messages of all arrays in a group."""
        _require(place not in self.groups and path.count("/") < _DEEPEST)
        self.groups.add(place)
        parts = _by_kind(self.messages(place), {_GROUP}, {_ATTRIBUTE, _TIME})
        before = ""
        for name, child in self.entries(parts[_GROUP]):
            _require(name > before and "/" not in name and name != ".")
            before = name
            inner = f"{path}/{name}".lstrip("/")
            messages = self.messages(child)
            if not any(kind == _GROUP for kind, _, _ in messages):
                yield inner, messages
            elif inner != passed_over:
                yield from self.walk(child, inner, passed_over)

    def entries(self, group: int) -> Iterator[tuple[str, int]]:
        """Names in a group, in their order, and where what they name begins."""
        tree, heap = self.numbers("<QQ", group)
        signature, version, size, _, names = self.numbers("<4sB3xQQQ", heap)
        _require(signature == b"HEAP" and version == 0)
        for table in self.leaves(tree, 16):
            signature, version, count = self.numbers("<4sBxH", table)
            _require(signature == b"SNOD" and version == 1)
            for number in range(count):
                offset, place, cached = self.numbers("<QQI", table + 8 + 40 * number)
                _require(cached in (0, 1) and offset < size)  # 2 is a symbolic link
                text, ended, _ = self.piece(names + offset, min(256, size - offset)).partition(b"\0")
                _require(bool(ended))
                yield text.decode(), place

    def leaves(self, tree: int, above: int) -> Iterator[int]:
        """The tables below a node, from left to right."""
        signature, kind, level, count = self.numbers("<4sBBH", tree)
        _require(signature == b"TREE" and kind == 0 and level < above)
        for number in range(count):
            (child,) = self.numbers("<Q", tree + 32 + 16 * number)
            if level:
                yield from self.leaves(child, level)
            else:
                yield child

    def array(self, messages: list[tuple[int, int, int]]) -> PlainArray:
        """What describes an array, understood."""
        parts = _by_kind(messages, {_SPACE, _TYPE, _LAYOUT}, {_OLD_FILL, _FILL, _TIME, _ATTRIBUTE})
        version, rank, flags = self.numbers("<BBB", parts[_SPACE])
        _require(version == 1 and rank <= _DEEPEST and flags in (0, 1))
        shape = self.numbers(f"<{rank}Q", parts[_SPACE] + 8)
        _require(not flags or self.numbers(f"<{rank}Q", parts[_SPACE] + 8 + 8 * rank) == shape)
        kind = _TYPES.get(self.piece(parts[_TYPE], 20), "")
        version, form, place, size = self.numbers("<BBQQ", parts[_LAYOUT])
        _require(kind != "" and version == 3 and form == 1 and size == int(kind[2:]) * math.prod(shape))
        _require(size > 0 and place + size <= len(self.data))
        return PlainArray(shape, kind, place)

    def texts(self, group: int, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
        """The attributes of a group that are wanted."""
        seen = set()
        for _, place, size in (message for message in self.messages(group) if message[0] == _ATTRIBUTE):
            version, *sizes = self.numbers("<BxHHH", place)
            _require(version in (1, 3))
            begin = place + (8 if version == 1 else 9)
            name, _, _ = self.piece(begin, sizes[0]).partition(b"\0")
            _require(len(name) == sizes[0] - 1 and name not in seen)
            if version == 1:
                sizes = [-(-size // 8) * 8 for size in sizes]
            seen.add(name)
            if name.decode() in wanted:
                kind, space = self.piece(begin + sizes[0], sizes[1]), self.piece(begin + sum(sizes[:2]), sizes[2])
                _require(kind.startswith(_TEXT) and space[:2] == b"\1\0")  # a single text
                _require(begin + sum(sizes) + 16 <= place + size)
                yield name.decode(), self.text(*self.numbers("<IQI", begin + sum(sizes)))

    def text(self, length: int, heap: int, wanted: int) -> str:
        """A text that lies in a heap of many."""
        signature, version, whole = self.numbers("<4sB3xQ", heap)
        _require(signature == b"GCOL" and version == 1)
        at, end = heap + 16, heap + whole
        places: dict[int, int] = {}
        while at + 16 <= end:
            number, size = self.numbers("<H6xQ", at)
            if number == 0:  # the rest is free, and its size is that of its own header too
                _require(at + size == end)
                break
            _require(number not in places)
            if number == wanted:
                _require(size == length <= _MOST_TEXT)
            places[number] = at + 16
            at += 16 + -(-size // 8) * 8
        _require(wanted in places)
        found = self.piece(places[wanted], length)
        _require(0 not in found)
        return found.decode()


def _by_kind(messages: list[tuple[int, int, int]], needed: set[int], others: set[int]) -> dict[int, int]:
    """Places of messages by their kind, of which there is at most one each, but for attributes."""
    found = {kind: place for kind, place, _ in messages}
    kinds = [kind for kind, _, _ in messages if kind != _ATTRIBUTE]
    _require(needed <= found.keys() <= needed | others and len(set(kinds)) == len(kinds))
    return found


def _require(plain: bool) -> None:
    if not plain:
        raise _NotPlainError
