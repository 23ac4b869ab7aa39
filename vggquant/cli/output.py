"""Prints lines, notes, tables, pairs and JSON, and names options as they are typed.

What is printed is left to the commands, and how figures are worded to `wording`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click

from vggquant.errors import printable

LONGEST_LINE = 4000  # characters; attributions are long
WIDTH = 80  # columns that a table takes


def echo(text: str = "", *, err: bool = False) -> None:
    """Print one line, with control characters escaped, since names and texts from files may hold any."""
    click.echo(printable(text, LONGEST_LINE), err=err)


def echo_notes(notes: Iterable[str], *, quiet: bool) -> None:
    """Print on stderr what the user of a command should know beside its result, unless nothing is wanted."""
    command = click.get_current_context().command
    for note in () if quiet else notes:
        echo(as_typed(note, command), err=True)


def as_typed(text: str, command: click.Command) -> str:
    """Name arguments as a command has them, where a message names them as the functions of the package do.

    Args:
        text: Names arguments in backquotes: `` `arch` ``, `` `force=True` ``.
        command: Whose arguments they are; a name that is none of its own only loses the backquotes.
    """

    def typed(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        typed = argument_as_typed(name, command)
        if typed is None:
            return found[0].strip("`")
        return typed if value in (None, "True") else f"{typed} {value}"

    return re.sub(r"`(?P<name>\w+)(='?(?P<value>\w+)'?)?`", typed, text)


def argument_as_typed(name: str | None, command: click.Command) -> str | None:
    """An argument as a user types it, ``--max-size`` for ``max_size``; ``None`` if the command has no such argument."""
    for parameter in command.params:
        if parameter.name == name:
            return parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
    return None


def print_json(value: Any, **more: Any) -> None:
    """Print a dataclass or a dict as one JSON object on one line; JSON has no infinity, so it becomes null.

    Args:
        value: What to print.
        more: Keys that come before those of `value`.
    """
    plain = value if isinstance(value, dict) else dataclasses.asdict(value)
    click.echo(json.dumps(_without_infinities({**more, **plain})))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns: the first aligned to the left, the others to the right.

    So that they fit into `WIDTH`, the words of headings are put below one another, and entries of the first column
    that are still too long on lines of their own.
    """
    lines = [tuple(map(printable, row)) for row in rows]
    heads = [head]
    if sum(_widths([head, *lines])) + 2 * (len(head) - 1) > WIDTH:
        words = [heading.split() for heading in head]
        height = max(map(len, words))
        heads = list(zip(*([""] * (height - len(each)) + each for each in words), strict=True))
    first, *others = _widths([*heads, *lines])
    first = min(first, max(WIDTH - sum(2 + width for width in others), 0))
    for name, *cells in (*heads, *lines):
        if len(name) > first:
            echo(name)
        shown = "" if len(name) > first else name
        padded = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        echo("  ".join([shown.ljust(first), *padded]).rstrip())


def print_pairs(*pairs: tuple[str, str]) -> None:
    """Print an empty line, then each name and its value, in lines of at most `WIDTH` if the words allow it."""
    width = max(len(name) for name, _ in pairs)
    echo()
    for name, value in pairs:
        text = printable(value, LONGEST_LINE)
        lines = textwrap.wrap(text, WIDTH - width - 2, break_long_words=False, break_on_hyphens=False)
        for start, line in zip((name, *[""] * len(lines)), lines, strict=False):
            echo(f"{start.ljust(width)}  {line}")


def _widths(lines: Sequence[tuple[str, ...]]) -> list[int]:
    """How wide the columns of a table are."""
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_infinities(entry) for key, entry in value.items()}
    return [_without_infinities(entry) for entry in value] if isinstance(value, (list, tuple)) else value
