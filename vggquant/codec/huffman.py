"""Compresses codes by how often each occurs: the coding `huffman`, flat or nested, as deflate streams (RFC 1951).

*Flat*, whole codes lie side by side in bytes, which are deflated with Huffman codes alone. That is near to the entropy
as long as a byte takes several bits. Where most codes are one and the same, several of them should share a byte; but a
few rare codes far from the others make all fields wide.

*Nested*, a code is first replaced by its rank, the order in which codes lie around the commonest one, the `centre`: the
centre itself has rank 0, its lower neighbour 1, its upper neighbour 2, and so on. On each level, m ranks share a byte,
in fields of w = 8 / m bits. A field holds the rank if that is below its largest value, 2ʷ − 1; else it holds this
value, and the rest of the rank goes to the next level. So the commonest codes share bytes, and rare ones cost what
their rarity does. The last level has no further one, and its fields hold whatever is left. Each level is a deflate
stream, and one follows another.

How fields lie in bytes is left to `joining`, and which form a file has to `bitstream`.
"""

from __future__ import annotations

import heapq
import math
import zlib
from collections.abc import Sequence

import numpy as np

from vggquant.codec.joining import Codes, join, split
from vggquant.errors import DAMAGED, ContainerError

SHARINGS = (1, 2, 4, 8)  # how many ranks can share a byte
MAX_LEVELS = 4

_WINDOW_BITS = -15  # zlib's way of asking for raw deflate
_MEMORY_LEVEL = 9  # makes the largest blocks, and so the fewest code tables
_PIECE = 1 << 16  # ranks looked at once, which fit into the cache
_TABLE_BYTES = 70  # about what a block takes besides its symbols


def deflate_fields(fields: Codes, width: int, m: int) -> Codes:
    """Compress fields of `width` bits, `m` to a byte."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(compressor.compress(join(fields, width, m).data) + compressor.flush(), np.uint8)


def inflate_fields(stream: Codes, count: int, width: int, m: int, fields: Codes) -> Codes:
    """Read fields back; the inverse of `deflate_fields`.

    Args:
        stream: Begins with the deflate stream.
        count: Number of fields.
        width: Bits of a field.
        m: Fields in a byte.
        fields: Where they go: `count` rounded up to a multiple of 8 long, zero behind `count`.

    Returns:
        What follows the deflate stream.

    Raises:
        ContainerError: The stream is damaged, of another length, or its padding is not zero.
    """
    data, rest = _inflate(stream, -(-count // m))
    split(data, width, m, fields)
    if np.any(fields[count:]):
        raise ContainerError("zero padding", "something else", DAMAGED)
    return rest


def compress(codes: Codes) -> tuple[Codes, tuple[int, ...], int]:
    """Compress codes in nested form, on the levels that take the fewest bytes; the inverse of `expand`.

    Args:
        codes: uint8, 1-D, not empty.

    Returns:
        ``(stream, levels, centre)``: how many ranks share a byte on each level, and the commonest code.
    """
    centre = int(np.bincount(codes).argmax())
    _, levels = _cheapest(_ranks(codes, centre), MAX_LEVELS)
    return nest(codes, levels, centre), levels, centre


def nest(codes: Codes, levels: Sequence[int], centre: int) -> Codes:
    """The stream of codes on given levels; ranks go on behind each but the last."""
    ranks, streams = _ranks(codes, centre), []
    for m in levels:
        most = (1 << 8 // m) - 1
        streams.append(deflate_fields(np.minimum(ranks, np.uint8(most)), 8 // m, m))
        ranks = ranks[ranks >= most] - np.uint8(most)
    return np.concatenate(streams)


def expand(stream: Codes, count: int, levels: tuple[int, ...], centre: int, codes: Codes) -> None:
    """Read codes back from their nested form; the inverse of `compress`.

    Args:
        stream: One deflate stream for each level.
        count: Number of codes.
        levels: How many ranks share a byte on each.
        centre: The code of rank 0.
        codes: Where they go: `count` rounded up to a multiple of 8 long, zero behind `count`.

    Raises:
        ContainerError: A stream is damaged, ends early or runs on, a level is empty, or a rank is above 255.
    """
    counts, fields = [count], [codes]  # of each level
    for level, m in enumerate(levels):
        stream = inflate_fields(stream, counts[-1], 8 // m, m, fields[-1])
        if level < len(levels) - 1:
            counts.append(int(np.count_nonzero(fields[-1] == (1 << 8 // m) - 1)))
            if not counts[-1]:
                raise ContainerError("no level without codes", f"none on level {level + 2} of {len(levels)}", DAMAGED)
            fields.append(np.zeros(math.ceil(counts[-1] / 8) * 8, np.uint8))
    if stream.size:
        raise ContainerError("as many deflate streams as levels", f"{stream.size} bytes behind them", DAMAGED)
    for level in range(len(levels) - 2, -1, -1):
        _add_rest(fields[level], (1 << 8 // levels[level]) - 1, fields.pop()[: counts[level + 1]])
    signs = -(codes & np.uint8(1))  # 255 for the odd ranks, which lie below the centre, else 0
    codes >>= 1
    codes ^= signs
    codes += np.uint8(centre)


def _add_rest(ranks: Codes, most: int, rest: Codes) -> None:
    """Add what deeper levels hold to the ranks that go on there."""
    if int(rest.max()) + most > 255:
        raise ContainerError("ranks of at most 255", int(rest.max()) + most, DAMAGED)
    rest += np.uint8(most)
    begin = 0
    for start in range(0, ranks.size, _PIECE):
        piece = ranks[start : start + _PIECE]
        where = np.flatnonzero(piece == most)  # eight bytes for each, hence by pieces
        piece[where] = rest[begin : begin + where.size]
        begin += where.size


def _ranks(codes: Codes, centre: int) -> Codes:
    distances = (codes - np.uint8(centre)).view(np.int8)
    ranks: Codes = ((distances << 1) ^ (distances >> 7)).view(np.uint8)
    return ranks


def _cheapest(ranks: Codes, deepest: int) -> tuple[float, tuple[int, ...]]:
    """How to share bytes on at most so many levels for the fewest bytes in all, and about how many these are."""
    best: tuple[float, tuple[int, ...]] = (math.inf, ())
    largest = int(ranks.max())
    for m in SHARINGS:
        most = (1 << 8 // m) - 1
        last = largest <= most
        if not last and deepest == 1:
            continue
        size = _deflated_size(join(np.minimum(ranks, np.uint8(most)), 8 // m, m))
        if size >= best[0]:
            continue
        if last:
            found: tuple[float, tuple[int, ...]] = (size, (m,))
        else:
            further, levels = _cheapest(ranks[ranks >= most] - np.uint8(most), deepest - 1)
            found = (size + further, (m, *levels))
        best = min(best, found)
    return best


def _deflated_size(data: Codes) -> float:
    """About how many bytes these would take with one Huffman code: every merge of two nodes is a bit for all below."""
    nodes = [int(count) for count in np.bincount(data) if count]
    heapq.heapify(nodes)
    bits = data.size if len(nodes) == 1 else 0
    while len(nodes) > 1:
        merged = heapq.heappop(nodes) + heapq.heappop(nodes)
        bits += merged
        heapq.heappush(nodes, merged)
    return bits / 8 + _TABLE_BYTES


def _inflate(stream: Codes, size: int) -> tuple[Codes, Codes]:
    """Inflate to exactly `size` bytes, without ever allocating more; and what follows the deflate stream."""
    inflater = zlib.decompressobj(_WINDOW_BITS)
    try:
        data = inflater.decompress(stream.data, size)
        # the mark that ends a block may still be unread when the last byte has come out
        data += inflater.decompress(inflater.unconsumed_tail, 1) if not inflater.eof else b""
    except zlib.error as error:
        raise ContainerError("a deflate stream", str(error), DAMAGED) from None
    if len(data) != size or not inflater.eof:
        got = "one that runs on" if len(data) > size else "one that ends early"
        raise ContainerError(f"a deflate stream of {size} bytes", got, DAMAGED)
    return np.frombuffer(data, np.uint8), stream[stream.size - len(inflater.unused_data) :]
