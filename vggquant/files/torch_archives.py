"""The zip archive that torch writes to its members, by rules so strict that nobody can read it otherwise.

Torch stores members as they are, one behind the other, with one directory at the end. An archive that differs from this
is refused, since Python's reader and torch's might see different members in it. What the members mean is left to
`torch_files`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from vggquant.files.disk import Bytes
from vggquant.threads import map_in_threads

MAX_MEMBERS = 10_000  # torch writes one for each storage, and a handful besides

_END = struct.Struct("<4s4H2IH")  # the record that ends every archive
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")  # of the directory
_LOCAL = struct.Struct("<4s5H3I2H")  # before each member
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800  # flags: sizes come behind the member, and names are UTF-8
_FOLDER = 0x10  # among the attributes
_IN_ZIP64 = 0xFFFFFFFF  # stands for a number that is in the entry's extra field


@dataclass(frozen=True)
class _Entry:
    """A member as the directory has it."""

    name: str
    crc32: int
    size: int
    offset: int
    flags: int


def read_archive(data: Bytes) -> dict[str, Bytes]:
    """Read the members of an archive by their names without the folder that torch puts all of them in.

    Args:
        data: The whole file. Members are views of it.

    Raises:
        ValueError: It is not as torch writes archives, or a member is damaged.
    """
    count, begin, end = _directory(data)
    entries = _entries(data[begin:end].tobytes(), count)
    members: dict[str, Bytes] = {}
    place = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset != place:
            raise ValueError("members that overlap or have gaps between them")
        members[entry.name], place = _member(data, entry, begin)
    if place != begin:
        raise ValueError("a gap before the directory")
    _check_sums(entries, members)
    folders = {name.partition("/")[0] for name in members}
    if len(folders) != 1:
        raise ValueError(f"{len(folders)} folders where torch has one")
    return {name.partition("/")[2]: member for name, member in members.items()}


def _directory(data: Bytes) -> tuple[int, int, int]:
    """How many entries the directory has, and where it begins and ends."""
    at = data.size - _END.size
    if at < 0:
        raise ValueError("a file too short for an archive")
    mark, disk, first_disk, here, count, size, begin, comment = _END.unpack(data[at:].tobytes())
    if mark != b"PK\5\6" or disk or first_disk or here != count or comment:
        raise ValueError("an archive that does not end as torch's do")
    at64 = at - _LOCATOR64.size - _END64.size
    if at64 >= 0 and data[at - _LOCATOR64.size : at].tobytes().startswith(b"PK\6\7"):
        _, disk, place, disks = _LOCATOR64.unpack(data[at - _LOCATOR64.size : at].tobytes())
        mark, rest, _, _, disk64, first_disk, here64, count64, size64, begin64 = _END64.unpack(
            data[at64 : at64 + _END64.size].tobytes()
        )
        if mark != b"PK\6\6" or place != at64 or disk or disks > 1 or disk64 or first_disk or rest != _END64.size - 12:
            raise ValueError("an archive with two directories")
        shortened = (min(count64, 0xFFFF), min(size64, _IN_ZIP64), min(begin64, _IN_ZIP64))
        if here64 != count64 or (count, size, begin) != shortened:
            raise ValueError("an archive with two directories")
        count, size, begin, at = count64, size64, begin64, at64
    if begin + size != at:
        raise ValueError("an archive with two directories")
    if not 0 < count <= MAX_MEMBERS:
        raise ValueError(f"{count} members")
    return count, begin, at


def _entries(directory: bytes, count: int) -> list[_Entry]:
    """What the directory says of each member."""
    found = []
    names = set()
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            raise ValueError("a damaged directory")
        mark, _, _, flags, method, _, _, crc32, packed, size, *lengths, disk, _, attributes, offset = (
            _ENTRY.unpack_from(directory, place)
        )
        begin = place + _ENTRY.size
        name = directory[begin : begin + lengths[0]].decode("utf-8")
        extra = directory[begin + lengths[0] : begin + lengths[0] + lengths[1]]
        place = begin + sum(lengths)  # of name, extra field and comment
        if mark != b"PK\1\2" or disk or place > len(directory):
            raise ValueError("a damaged directory")
        if attributes & _FOLDER:  # of which torch would read nothing, and leave memory as it happens to be
            raise ValueError("folders, which torch never writes")
        if method or flags & ~(_DESCRIPTOR | _UTF8):
            raise ValueError("compressed members, which torch never writes")
        size, packed, offset = _widened(extra, size, packed, offset)
        if size != packed:
            raise ValueError("compressed members, which torch never writes")
        if name.lower() in names:  # torch ignores case when it looks for a member
            raise ValueError("members of one name")
        names.add(name.lower())
        found.append(_Entry(name, crc32, size, offset, flags))
    if place != len(directory):
        raise ValueError("a damaged directory")
    return found


def _widened(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """Numbers of an entry, with those that did not fit into 32 bits taken from its extra field."""
    wide: tuple[int, ...] = ()
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            if wide:
                raise ValueError("a damaged directory")
            content = extra[place + 4 : place + 4 + size]
            wide = struct.unpack_from(f"<{len(content) // 8}Q", content)
        place += 4 + size
    following = iter(wide)
    found = tuple(next(following, -1) if number == _IN_ZIP64 else number for number in numbers)
    if min(found) < 0:
        raise ValueError("a damaged directory")
    return found


def _member(data: Bytes, entry: _Entry, end: int) -> tuple[Bytes, int]:
    """A member, and where what follows it begins."""
    if entry.offset + _LOCAL.size > end:
        raise ValueError("a member beyond the file")
    local = data[entry.offset : entry.offset + _LOCAL.size].tobytes()
    mark, _, flags, method, _, _, crc32, packed, size, name_size, extra_size = _LOCAL.unpack(local)
    begin = entry.offset + _LOCAL.size
    name = data[begin : begin + name_size].tobytes()
    begin += name_size + extra_size
    if mark != b"PK\3\4" or method or flags != entry.flags or name != entry.name.encode():
        raise ValueError(f"a header before {entry.name} other than in the directory")
    described = (entry.crc32, entry.size, entry.size)
    if not flags & _DESCRIPTOR and (crc32, packed, size) != described and _IN_ZIP64 not in (packed, size):
        raise ValueError(f"sizes before {entry.name} other than in the directory")
    if begin + entry.size > end:
        raise ValueError("a member beyond the file")
    place = begin + entry.size
    if flags & _DESCRIPTOR:
        for form in ("<4s3I", "<4sI2Q"):
            described_at = data[place : place + struct.calcsize(form)].tobytes()
            if described_at == struct.pack(form, b"PK\7\x08", *(min(part, _IN_ZIP64) for part in described)):
                return data[begin : begin + entry.size], place + len(described_at)
        raise ValueError(f"sizes behind {entry.name} other than in the directory")
    return data[begin : begin + entry.size], place


def _check_sums(entries: list[_Entry], members: Mapping[str, Bytes]) -> None:
    """Refuse members that are not as they were written; torch itself does not look."""
    sums = map_in_threads(lambda entry: zlib.crc32(members[entry.name].data), entries, os.cpu_count() or 1)
    for entry, found in zip(entries, sums, strict=True):
        if found != entry.crc32:
            raise ValueError(f"a damaged member {entry.name}")
