"""Options that several commands share, and the types of options that click has no parser for.

What the values mean is left to the functions that take them.
"""

from __future__ import annotations

import re
from typing import Any

import click

from vggquant.codec.bitstream import MAX_BITS, MIN_BITS
from vggquant.errors import printable
from vggquant.style.options import OTHER_SPELLINGS

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output.")


class Widths(click.ParamType):  # type: ignore[type-arg]
    """Bit widths: ``4``, ``8,4,2``, or a range, ``8-1``. A width named twice counts once."""

    name = "WIDTHS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        widths: list[int] = []
        for part in value.replace(" ", "").split(","):
            first, _, last = part.partition("-")
            if not re.fullmatch("[0-9]{1,9}(-[0-9]{1,9})?", part):
                self.fail(f"expected widths like 8-1 or 8,4,2, got {printable(value)}", param, ctx)
            ends = (int(first), int(last or first))
            if not all(MIN_BITS <= end <= MAX_BITS for end in ends):
                self.fail(f"expected widths of {MIN_BITS} to {MAX_BITS} bits, got {printable(part)}", param, ctx)
            step = 1 if ends[0] <= ends[1] else -1
            widths += range(ends[0], ends[1] + step, step)
        return tuple(dict.fromkeys(widths))


class Weights(click.ParamType):  # type: ignore[type-arg]
    """A number, or several: ``0.7`` or ``0.7,0.3``."""

    name = "NUMBER[,NUMBER]..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers like 0.7 or 0.7,0.3, got {printable(value)}", param, ctx)


class Word(click.Choice[str]):
    """One of some words, each in any of its spellings."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(OTHER_SPELLINGS.get(value, value), param, ctx)


class LayerWeight(click.ParamType):  # type: ignore[type-arg]
    """A layer and a factor of its usual weight in the loss: ``relu4_2=0.5``, or ``relu4_2`` for 1."""

    name = "LAYER[=WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        layer, equals, weight = value.partition("=")
        try:
            return layer, float(weight) if equals else 1.0
        except ValueError:
            self.fail(f"expected LAYER or LAYER=WEIGHT, got {printable(value)}", param, ctx)
