"""The exceptions that this package raises, and the one-line form in which each says what was refused and what to do.

When to raise one is decided by the modules that check something; showing it to the user is left to the command line.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

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

    def advising(self, cure: str) -> VggQuantError:
        """The same refusal with another cure, for a caller who knows better what the user is about to do."""
        other = copy.copy(self)
        other.cure = cure
        return other

    def __str__(self) -> str:
        path, tensor, got = (printable(part) or "''" for part in (self.path, self.tensor, self.got))
        where = [name for name, part in ((path, self.path), (tensor, self.tensor)) if part is not None]
        return ": ".join([*where, f"expected {self.expected}, got {got}; {self.cure}"])


class ContainerError(VggQuantError):
    """A packed file is damaged, of another version, or not a packed file at all."""


class NetworkError(VggQuantError):
    """A record describes no network that is known here, one out of bounds, or one that does not fit the purpose."""

    def __init__(self, expected: str, got: object, cure: str = DAMAGED, *, tensor: str | None = None) -> None:
        super().__init__(expected, got, cure, tensor=tensor)


class SourceError(VggQuantError):
    """A weights file from elsewhere cannot be read as the weights of a network known here."""


class StorageError(VggQuantError):
    """A file could not be read or written: the operating system refused, or an existing file would have been lost."""


class OptionError(VggQuantError):
    """An argument makes no sense here. The command line reports this as a usage error."""


class PictureError(VggQuantError):
    """A picture cannot be read, or is too small or too large to work on."""


def suggestion(
    name: object, allowed: Iterable[object], otherwise: str = "choose one of these", *, likeness: float = 0.6
) -> str:
    """The cure for a name that is none of those allowed: the nearest of them, if one is near.

    Args:
        name: What was passed.
        allowed: Every name with a meaning.
        otherwise: The cure if none of them is near.
        likeness: From which on a name counts as near: 1 is equal. Short names need more than long ones.
    """
    nearest = get_close_matches(printable(name), list(map(str, allowed)), 1, likeness)
    return f"did you mean {nearest[0]}?" if nearest else otherwise


def require_one_of(option: str | None, value: object, allowed: Collection[object]) -> None:
    """Refuse a value that is not among those an option can take.

    Args:
        option: What the caller knows the option as.
        value: What was passed.
        allowed: Every value with a meaning, in the order the error shall name them.

    Raises:
        OptionError: `value` is none of them.
    """
    if value not in allowed:
        expected = f"one of {', '.join(map(str, allowed))}"
        raise OptionError(expected, value, suggestion(value, allowed), tensor=option)


@contextlib.contextmanager
def located(
    path: str | os.PathLike[str] | None = None,
    tensor: str | None = None,
    *,
    kind: type[VggQuantError] = VggQuantError,
) -> Iterator[None]:
    """Add the file and the tensor to errors from code that knows neither; what an error already names is kept.

    Args:
        path: The file concerned.
        tensor: The tensor, layer or option concerned.
        kind: Which errors are meant, where not all of them are the file's fault.
    """
    try:
        yield
    except kind as error:
        error.path = path if error.path is None else error.path
        error.tensor = tensor if error.tensor is None else error.tensor
        raise
