"""The zip archive that torch writes to its members, by rules so strict that nobody can read it otherwise.

Torch stores members as they are, one behind the other, with one directory at the end. An archive that differs from this
is refused, since Python's reader and torch's might see different members in it. What the members mean is left to
`torch_files`.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass

from vggquant.files.contents import Content
from vggquant.files.disk import Bytes

MAX_MEMBERS = 10_000  # torch writes one for each storage, and a handful besides
MAX_DIRECTORY = 2**22  # bytes; an entry of torch's takes some hundred

_END = struct.Struct("<4s4H2IH")  # the record that ends every archive
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")  # of the directory
_LOCAL = struct.Struct("<4s5H3I2H")  # before each member
_DESCRIPTORS = ("<4s3I", "<4sI2Q")  # behind a member, in either form
_END_BYTES = _END64.size + _LOCATOR64.size + _END.size
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800  # flags: sizes come behind the member, and names are UTF-8
_FOLDER = 0x10  # among the attributes
_IN_ZIP64 = 0xFFFFFFFF  # stands for a number that is in the entry's extra field
_NOT_IN_A_ROW = "members that overlap or have gaps between them"


@dataclass(frozen=True)
class _Entry:
    """A member as the directory has it."""

    name: str
    crc32: int
    size: int
    offset: int
    flags: int


def read_archive(content: Content) -> dict[str, Bytes]:
    """Read the members of an archive by their names without the folder that torch puts all of them in.

    Args:
        content: The file. Members are views of its pieces, of which each is a member with what is before and behind
            it; the last is the directory.

    Raises:
        ValueError: It is not as torch writes archives, or a member is damaged.
    """
    end = content.part(max(0, content.size - _END_BYTES), content.size).tobytes()
    count, begin, directory_end = _directory(end, content.size)
    tail = content.part(begin, content.size).tobytes()
    entries = sorted(_entries(tail[: directory_end - begin], count), key=lambda entry: entry.offset)
    begins = [*(entry.offset for entry in entries), begin]
    if begins[0] or any(begin >= following for begin, following in itertools.pairwise(begins)):
        raise ValueError(_NOT_IN_A_ROW)
    folders = {entry.name.partition("/")[0] for entry in entries}
    if len(folders) != 1:
        raise ValueError(f"{len(folders)} folders where torch has one")

    def use(number: int, piece: Bytes) -> Bytes:
        if number < len(entries):
            return _member(piece, entries[number])
        if piece.tobytes() != tail or not (tail.endswith(end) or end.endswith(tail)):
            raise ValueError("a directory that changes")
        return piece

    members = content.in_pieces(begins, use)[:-1]
    return {entry.name.partition("/")[2]: member for entry, member in zip(entries, members, strict=True)}


def _directory(end: bytes, size: int) -> tuple[int, int, int]:
    """How many entries the directory has, and where it begins and ends, by the last bytes of a file of some size."""
    at = size - _END.size
    if at < 0:
        raise ValueError("a file too short for an archive")
    mark, disk, first_disk, here, count, length, begin, comment = _END.unpack(end[-_END.size :])
    if mark != b"PK\5\6" or disk or first_disk or here != count or comment:
        raise ValueError("an archive that does not end as torch's do")
    wide, locator = end[: _END64.size], end[_END64.size : -_END.size]
    if len(end) == _END_BYTES and locator.startswith(b"PK\6\7"):
        _, disk, place, disks = _LOCATOR64.unpack(locator)
        mark, rest, _, _, disk64, first_disk, here64, count64, length64, begin64 = _END64.unpack(wide)
        at -= _LOCATOR64.size + _END64.size
        if mark != b"PK\6\6" or place != at or disk or disks > 1 or disk64 or first_disk or rest != _END64.size - 12:
            raise ValueError("an archive with two directories")
        shortened = (min(count64, 0xFFFF), min(length64, _IN_ZIP64), min(begin64, _IN_ZIP64))
        if here64 != count64 or (count, length, begin) != shortened:
            raise ValueError("an archive with two directories")
        count, length, begin = count64, length64, begin64
    if begin + length != at:
        raise ValueError("an archive with two directories")
    if not 0 < count <= MAX_MEMBERS:
        raise ValueError(f"{count} members")
    if length > MAX_DIRECTORY:
        raise ValueError(f"a directory of {length} bytes")
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


def _member(piece: Bytes, entry: _Entry) -> Bytes:
    """A member, from a piece that holds the header before it and the sizes behind it, where it has them, as well."""
    header = piece[: _LOCAL.size + 2 * 0xFFFF].tobytes()  # names and extra fields are no longer
    if len(header) < _LOCAL.size:
        raise ValueError(_NOT_IN_A_ROW)
    mark, _, flags, method, _, _, crc32, packed, size, name_size, extra_size = _LOCAL.unpack_from(header)
    begin = _LOCAL.size + name_size + extra_size
    name, extra = header[_LOCAL.size : begin - extra_size], header[begin - extra_size : begin]
    if mark != b"PK\3\4" or method or flags != entry.flags or name != entry.name.encode():
        raise ValueError(f"a header before {entry.name} other than in the directory")
    end = begin + entry.size
    if end > piece.size:
        raise ValueError(_NOT_IN_A_ROW)
    sizes = (entry.size, entry.size)
    if not flags & _DESCRIPTOR:
        if (crc32, *_widened(extra, size, packed)) != (entry.crc32, *sizes):
            raise ValueError(f"sizes before {entry.name} other than in the directory")
        if end < piece.size:
            raise ValueError(_NOT_IN_A_ROW)
    elif piece[end:].tobytes() not in [struct.pack(form, b"PK\7\x08", entry.crc32, *sizes) for form in _DESCRIPTORS]:
        raise ValueError(f"sizes behind {entry.name} other than in the directory")
    member = piece[begin:end]
    if zlib.crc32(member.data) != entry.crc32:  # torch itself does not look
        raise ValueError(f"a damaged member {entry.name}")
    return member
