"""Markdown of committed results: tables, paragraphs, numbers with their units. Pages are left to `tables`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from bench.machine import RESULTS


def load(name: str) -> Any:
    """Read a committed result."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    """Write a table in Markdown."""
    lines = [header, "|" + "---|" * (header.count("|") - 1)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def files(measured: Iterable[Any]) -> str:
    """Write a table of what `vggquant compare` measured on files."""
    rows = (
        (
            file["label"],
            mb(file["bytes"]),
            f"{file['content_error']:.3f}",
            f"{file['style_error']:.3f}",
            f"{file['transfer_regret']:.2f}",
        )
        for file in measured
    )
    return table("| | file | content error | style error | transfer regret |", rows)


def prose(text: str) -> str:
    """Write a paragraph, to stand below a table."""
    return "\n" + textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def when(result: Any) -> str:
    """Say when and on what a result was measured."""
    machine = result["machine"]
    return f"{machine['date']}, {machine['processor']}, {machine['cores']} cores"


def ms(seconds: float) -> str:
    """Write a time in milliseconds, to a tenth."""
    return f"{1e3 * seconds:.1f} ms"


def mb(size: float) -> str:
    """Write a size in units of 10⁶ bytes."""
    return f"{size / 1e6:.2f} MB"


def span(values: Iterable[float], digits: int = 0) -> str:
    """Write the range of some values, from the least to the largest."""
    found = list(values)
    return f"{min(found):.{digits}f} to {max(found):.{digits}f}"
