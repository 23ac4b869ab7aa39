"""Lays fields of a few bits into bytes, and reads them back; what the fields mean is left to `bitstream`.

Fields are arranged so that reading them needs only a few shifts and masks of whole arrays. With m fields of width w to
a byte and n fields in all, they take S = ceil(n / m) bytes. Byte j holds the fields j, j+S, j+2S, …, the first of them
in its lowest bits. Here is a byte for w = 2, m = 4::

    bit     7   6   5   4   3   2   1   0
          ┌───────┬───────┬───────┬───────┐
    byte j│ j+3S  │ j+2S  │  j+S  │   j   │
          └───────┴───────┴───────┴───────┘

Where n fields do not fill the last bytes, the rest is zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vggquant.errors import DAMAGED, ContainerError

Codes = npt.NDArray[np.uint8]


def join(fields: Codes, width: int, m: int) -> Codes:
    """Lay `m` fields of `width` bits into each byte."""
    size = -(-fields.size // m)
    joined = np.zeros(size, np.uint8)
    for k in range(m):
        part = fields[k * size : (k + 1) * size]
        joined[: part.size] |= part << (k * width)
    return joined


def split(joined: Codes, width: int, m: int, codes: Codes, below: int = 0, add: bool = False) -> None:
    """Read fields from bytes; the inverse of `join`.

    Args:
        joined: The bytes, with `m` fields of `width` bits in each.
        width: Bits of a field.
        m: Fields in a byte.
        codes: Where the fields go, long enough for the padding too.
        below: How many bits of a code lie below its field, which is moved up by as many.
        add: Whether to add the fields to what `codes` holds, instead of replacing it.
    """
    size = joined.size
    mask = ((1 << width) - 1) << below
    spare = np.empty_like(joined) if add else None  # small enough to stay in the cache
    for k in range(m):
        part, down = codes[k * size : (k + 1) * size], k * width - below
        fields = part if spare is None else spare
        if down < 0:
            np.left_shift(joined, -down, out=fields)
        else:
            np.right_shift(joined, down, out=fields)
        fields &= mask
        if spare is not None:
            part |= spare
    if m * width < 8 and int(joined.max(initial=0)) >> (m * width):
        raise ContainerError("zero in unused bits", "something else", DAMAGED)
