"""What `--bits` says, read: a bit width for every layer. Choosing widths for a size is left to `budget`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

from vggquant.codec.bitstream import MAX_BITS, MIN_BITS
from vggquant.errors import OptionError, suggestion

Bits = int | str | Mapping[str, int]

DEFAULT_BITS = 8  # the width of layers that nothing is said of


def parse_bits(bits: Bits, layers: tuple[str, ...]) -> dict[str, int]:
    """Give every layer its bit width.

    Args:
        bits: One width for all; or rules, ``"conv1_1=8,conv5_*=3,*=4"`` or ``{"conv1_1": 8, "conv5_*": 3, "*": 4}``, of
            which the first whose pattern matches a layer decides it. A dict need not have a rule for every layer: the
            others get 8 bits.
        layers: Names of the layers.

    Raises:
        OptionError: A width is not a whole number from 1 to 8, a pattern matches no layer or comes too late to
            decide one, or a layer matches no pattern of a string.
    """
    widths: dict[str, int] = {}
    for pattern, width in _rules(bits):
        matched = [name for name in layers if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            blocks = dict.fromkeys(re.sub("[0-9]+$", "*", name) for name in layers)
            cure = suggestion(pattern, (*layers, *blocks), "correct the pattern")
            raise OptionError(f"layers of {layers[0]} … {layers[-1]}", pattern, cure, tensor="bits")
        if all(name in widths for name in matched):
            cure = "put it before them"
            raise OptionError("a rule that decides a layer", f"{pattern}={width} after others", cure, tensor="bits")
        for name in matched:
            widths.setdefault(name, width)
    if isinstance(bits, Mapping):
        return {name: widths.get(name, DEFAULT_BITS) for name in layers}
    missing = [name for name in layers if name not in widths]
    if missing:
        raise OptionError("a width for every layer", f"none for {', '.join(missing)}", "end with *=8", tensor="bits")
    return widths


def _rules(bits: Bits) -> list[tuple[str, int]]:
    """Patterns with their widths; a width alone is a rule for all layers."""
    allowed = {str(width): width for width in range(MIN_BITS, MAX_BITS + 1)}
    rules = []
    for pattern, width in _pairs(bits):
        if str(width) not in allowed:
            got = f"{width}" if pattern == "*" else f"{pattern}={width}".rstrip("=")
            raise OptionError(
                f"{MIN_BITS} to {MAX_BITS}, or layer=width", got or "nothing", "write 4 or conv1_1=8,*=4", tensor="bits"
            )
        rules.append((str(pattern), allowed[str(width)]))
    return rules


def _pairs(bits: Bits) -> Iterable[tuple[str, Any]]:
    """Patterns with what is said of their widths."""
    if isinstance(bits, Mapping):
        return bits.items()
    parts = str(bits).replace(" ", "").split(",")
    if len(parts) == 1 and "=" not in parts[0]:
        return [("*", parts[0])]
    split = (part.partition("=") for part in parts)
    return [(pattern, width) for pattern, _, width in split]
