"""The exceptions that this package raises, and the one-line form in which each says what was refused and what to do.

When to raise one is decided by the modules that check something; showing it to the user is left to the command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

MAX_SHOWN = 200  # characters of a caller's text that an error repeats
DAMAGED = "the file is damaged, get it again"  # the cure wherever a packed file is not as it was written


def printable(text: object, limit: int = MAX_SHOWN) -> str:
    """Make text safe to print on one line of a terminal.

    Control characters and surrogates are escaped, and long text is cut.

    Args:
        text: Anything. Paths are decoded as the file system does it.
        limit: How many characters of the text are shown at most.
    """
    try:
        shown = os.fsdecode(text) if isinstance(text, (bytes, os.PathLike)) else str(text)
    except (RecursionError, ValueError):  # deeply nested JSON, or an integer of thousands of digits
        shown = f"a huge {type(text).__name__}"
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in shown)


class VggQuantError(Exception):
    """Something was refused. ``str()`` gives one line: ``file: tensor: expected …, got …; cure``.

    Args:
        expected: What would have been accepted.
        got: What was found instead.
        cure: What the caller can do about it.
        path: The file concerned, if it is known.
        tensor: The tensor, layer or option concerned, if it is known.
    """

    def __init__(
        self,
        expected: str,
        got: object,
        cure: str,
        *,
        path: str | os.PathLike[str] | None = None,
        tensor: str | None = None,
    ) -> None:
        super().__init__(expected, got, cure)
        self.expected = expected
        self.got = got
        self.cure = cure
        self.path = path
        self.tensor = tensor

    def __str__(self) -> str:
        where = [printable(part) or "''" for part in (self.path, self.tensor) if part is not None]
        return ": ".join([*where, f"expected {self.expected}, got {printable(self.got)}; {self.cure}"])


class ContainerError(VggQuantError):
    """A packed file is damaged, of another version, or not a packed file at all."""


class SourceError(VggQuantError):
    """A weights file from elsewhere cannot be read as the weights of a VGG."""


class StorageError(VggQuantError):
    """A file could not be read or written: the operating system refused, or an existing file would have been lost."""


class OptionError(VggQuantError):
    """An argument makes no sense here. The command line reports this as a usage error."""


class PictureError(VggQuantError):
    """A picture cannot be read, or is too small or too large to work on."""


@contextlib.contextmanager
def located(path: str | os.PathLike[str] | None = None, tensor: str | None = None) -> Iterator[None]:
    """Add the file and the tensor to errors from code that knows neither; what an error already names is kept."""
    try:
        yield
    except VggQuantError as error:
        error.path = path if error.path is None else error.path
        error.tensor = tensor if error.tensor is None else error.tensor
        raise
