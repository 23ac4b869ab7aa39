"""Says each refusal in one line and with its exit code; which errors there are is left to `errors`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from vggquant.cli.output import argument_as_typed, as_typed, echo
from vggquant.errors import OptionError, VggQuantError
from vggquant.files.sources import WORDS, embedded_path

REFUSED, USAGE, STOPPED = 1, 2, 130  # exit codes


def report(error: VggQuantError, command: click.Command) -> int:
    """Print an error on stderr, with the command's arguments named as they are typed, and return its exit code."""
    if isinstance(error, OptionError):
        error.tensor = argument_as_typed(error.tensor, command) or error.tensor
    # not the whole line, which repeats names of files as they are
    error.expected, error.cure = as_typed(error.expected, command), as_typed(error.cure, command)
    for name in WORDS:
        if error.path == embedded_path(name):
            error.path = name
    echo(f"Error: {error}", err=True)
    return USAGE if isinstance(error, OptionError) else REFUSED


def show_each(files: Sequence[str], show: Callable[[str], None]) -> None:
    """Show files one after another; one that is refused is reported, and the others are shown all the same.

    Raises:
        Exit: With the exit code of the gravest refusal, if there was one.
    """
    context = click.get_current_context()

    def code_of(file: str) -> int:
        try:
            show(file)
        except VggQuantError as error:
            return report(error, context.command)
        return 0

    if code := max([code_of(file) for file in files]):
        context.exit(code)
