"""The exception tree and the one-line wording of every refusal; knows of nothing else."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Collection, Iterator

MAX_SHOWN = 200  # characters of a caller's text that an error repeats
DAMAGED = "the file is damaged, get it again"  # the cure for whatever only damage explains


def printable(text: object, limit: int = MAX_SHOWN) -> str:
    """Make text safe for one terminal line: control characters and surrogates escaped, long text cut.

    Args:
        text: Anything; paths are decoded as the file system does.
        limit: Most characters shown.
    """
    try:
        shown = os.fsdecode(text) if isinstance(text, (bytes, os.PathLike)) else str(text)
    except (RecursionError, ValueError):  # JSON nested deep; an integer of thousands of digits
        shown = f"a huge {type(text).__name__}"
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in shown)


class VggQuantError(Exception):
    """Something was refused; ``str()`` is one line: ``file: tensor: expected …, got …; cure``.

    Args:
        expected: What would have been accepted.
        got: What was found instead.
        cure: What the caller can do about it.
        path: The file concerned, where known.
        tensor: The tensor, layer or option concerned, where known.
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
        where = [printable(part) or "''" for part in (self.path, self.tensor) if part is not None]
        return ": ".join([*where, f"expected {self.expected}, got {printable(self.got)}; {self.cure}"])


class ContainerError(VggQuantError):
    """A packed file is damaged, of another version, or not one of ours."""


class NetworkError(VggQuantError):
    """A record describes no network that is known here, one out of bounds, or one that does not fit the purpose."""

    def __init__(self, expected: str, got: object, cure: str = DAMAGED, *, tensor: str | None = None) -> None:
        super().__init__(expected, got, cure, tensor=tensor)


class SourceError(VggQuantError):
    """Somebody else's weights cannot be read as those of a VGG."""


class StorageError(VggQuantError):
    """The operating system, or care for an existing file, kept a file from being read or written."""


class OptionError(VggQuantError):
    """An argument has no meaning here; the command line reports it as a usage error."""


class PictureError(VggQuantError):
    """A picture cannot be read, or is too small or too large to be worked on."""


def require_one_of(option: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a value that is not among those an option can take.

    Args:
        option: What the caller knows the option as.
        value: What was passed.
        allowed: Every value with a meaning, in the order the error shall name them.

    Raises:
        OptionError: `value` is none of them.
    """
    if value not in allowed:
        raise OptionError(f"one of {', '.join(map(str, allowed))}", value, "choose one of these", tensor=option)


@contextlib.contextmanager
def located(
    path: str | os.PathLike[str] | None = None,
    tensor: str | None = None,
    *,
    kind: type[VggQuantError] = VggQuantError,
) -> Iterator[None]:
    """Name the file and the tensor in errors of some kind, raised by code that knows neither."""
    try:
        yield
    except kind as error:
        error.path = path if error.path is None else error.path
        error.tensor = tensor if error.tensor is None else error.tensor
        raise
