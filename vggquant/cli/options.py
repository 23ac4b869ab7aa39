"""What the commands declare themselves with: shared options, types that click lacks, examples for their help.

What the values mean is left to the functions that take them.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from vggquant.codec.bitstream import MAX_BITS, MIN_BITS
from vggquant.errors import OptionError, printable, require_one_of
from vggquant.files.sources import PAINTERS, WORDS
from vggquant.networks.vgg import LAYERS
from vggquant.style.options import OTHER_SPELLINGS

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:  # only the newest click has a generic type at run time
    ParamType = click.ParamType

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show neither progress nor notes.")


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def number_option(name: str, default: float, meaning: str) -> Decorator:
    """An option that is a number; whether it has a meaning is found out by whoever uses it."""
    return click.option(name, type=float, metavar="NUMBER", default=default, show_default=True, help=meaning)


def count_option(name: str, default: int, meaning: str) -> Decorator:
    """Likewise one that is a whole number."""
    return click.option(name, type=int, metavar="N", default=default, show_default=True, help=meaning)


def examples(*pairs: tuple[str, str]) -> str:
    """The end of a command's help: what one may want, each with the command line for it, without ``vggquant``."""
    lines = [line for wish, command in pairs for line in (wish, f"  vggquant {command}")]
    return "\n".join(["Examples:", "", "\b", *lines])  # \b keeps click from joining the lines


def completed(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those words that begin with what was typed, for a shell."""
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class PathName(ParamType):
    """The name of a file or folder, or one of some words; whether it exists is found out by whoever opens it.

    Args:
        words: What may stand instead of a name.
        kind: Whether shells complete files or folders (``dir``).
    """

    def __init__(self, *words: str, kind: Literal["file", "dir"] = "file") -> None:
        self.kind, self.words = kind, words
        self.name = {"file": "FILE", "dir": "FOLDER"}[kind]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        words = completed(self.words, incomplete)
        if not words:
            return [CompletionItem(incomplete, type=self.kind)]
        # a shell that is given words completes no files, so these are given as words too
        names = sorted(glob.glob(f"{glob.escape(incomplete)}*"))
        folders = [os.path.join(name, "") for name in names if os.path.isdir(name)]
        files = [name for name in names if self.kind == "file" and not os.path.isdir(name)]
        return words + completed(folders + files, incomplete)


FILE = PathName()
FOLDER = PathName(kind="dir")
SOURCE = PathName(*WORDS)  # a packed file, or any weights file where a command takes these
PAINTER = PathName(*PAINTERS)  # a packed file of a network that paints


class Layer(ParamType):
    """The name of a layer; whether a network has it is found out by whoever knows the network."""

    name = "LAYER"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return completed(LAYERS, incomplete)


class LayerWeight(Layer):
    """A layer and a factor of its usual weight in the loss: ``relu4_2=0.5``, or ``relu4_2`` for 1."""

    name = "LAYER[=WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        layer, equals, weight = value.partition("=")
        try:
            return layer, float(weight) if equals else 1.0
        except ValueError:
            self.fail(f"expected LAYER or LAYER=WEIGHT, got {printable(value)}", param, ctx)


class Widths(ParamType):
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


class Weights(ParamType):
    """A number, or several: ``0.7`` or ``0.7,0.3``."""

    name = "NUMBER[,NUMBER]..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers like 0.7 or 0.7,0.3, got {printable(value)}", param, ctx)


class Word(click.Choice[str]):
    """One of some words, each in any of its spellings; where it is none of them, the nearest is named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        usual = OTHER_SPELLINGS.get(value, value)
        word = next((each for each in self.choices if OTHER_SPELLINGS.get(each, each) == usual), value)
        try:
            require_one_of(None, word, self.choices)
        except OptionError as refused:
            self.fail(str(refused), param, ctx)
        return word
