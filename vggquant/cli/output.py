"""Prints lines, tables, pairs and JSON, and names options as they are typed.

What is printed is left to the commands, and how figures are worded to `wording`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import click

from vggquant.errors import printable

LONGEST_LINE = 4000  # characters; attributions are long


def echo(text: str = "", *, err: bool = False) -> None:
    """Print one line, with control characters escaped, since names and texts from files may hold any."""
    click.echo(printable(text, LONGEST_LINE), err=err)


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


def print_json(value: Any) -> None:
    """Print a dataclass or a dict as one JSON object; JSON has no infinity, so it becomes null."""
    plain = value if isinstance(value, dict) else dataclasses.asdict(value)
    click.echo(json.dumps(_without_infinities(plain), indent=2))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns: the first aligned to the left, the others to the right."""
    lines = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())


def print_pairs(*pairs: tuple[str, str]) -> None:
    """Print an empty line, then one line for each name and its value."""
    width = max(len(name) for name, _ in pairs)
    echo()
    for name, value in pairs:
        echo(f"{name.ljust(width)}  {value}")


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_infinities(entry) for key, entry in value.items()}
    return [_without_infinities(entry) for entry in value] if isinstance(value, (list, tuple)) else value
