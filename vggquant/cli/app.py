"""The `vggquant` command group: finds the commands, and ends every failure in one line and an exit code.

What each command does is left to its own module, which is imported only when the command is asked for.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from vggquant.cli.output import argument_as_typed, as_typed, echo
from vggquant.errors import OptionError, StorageError, VggQuantError
from vggquant.wording import INTERRUPTED

COMMANDS = (
    "compare",
    "info",
    "pack",
    "stylize",
    "train",
    "unpack",
    "verify",
)  # each a module here, and a function in it
REFUSED, USAGE, STOPPED = 1, 2, 130  # exit codes


class OneLineErrors(click.Group):
    """A command group that reports each failure in one line, without a traceback, and exits with its code."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.commands:
            return None
        command: click.Command = getattr(importlib.import_module(f"vggquant.cli.{name}"), name)
        return command

    def main(self, *arguments: Any, **options: Any) -> Any:
        failure = StorageError("to take text", "a closed one", "check where it goes", path="standard output")
        try:
            if sys.stdout is not None:
                return super().main(*arguments, **options)
        except OSError as error:  # a closed pipe never gets here: click ends quietly by itself
            failure.got = error.strerror or str(error)
            if error.filename is not None:  # what no part of the package foresaw
                failure.path, failure.expected, failure.cure = error.filename, "a usable file", "check the path"
        echo(f"Error: {failure}", err=True)
        sys.exit(REFUSED)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # so that a full disk is noticed while it can still be reported
            return result
        except VggQuantError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "") or self
            if isinstance(error, OptionError):
                error.tensor = argument_as_typed(error.tensor, command) or error.tensor
            # not the whole line, which repeats names of files as they are
            error.expected, error.cure = as_typed(error.expected, command), as_typed(error.cure, command)
            echo(f"Error: {error}", err=True)
            ctx.exit(USAGE if isinstance(error, OptionError) else REFUSED)
        except KeyboardInterrupt as interrupted:
            command = self.get_command(ctx, ctx.invoked_subcommand or "") or self
            echo(as_typed(str(interrupted), command) or INTERRUPTED, err=True)
            ctx.exit(STOPPED)
        except (MemoryError, RuntimeError) as error:
            # torch has no exception of its own for a failed allocation, only this word in the message
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            echo("Error: expected enough memory, got none left; choose a smaller picture or file", err=True)
            ctx.exit(REFUSED)


@click.group(cls=OneLineErrors, commands=[click.Command(name) for name in COMMANDS])  # names alone, see get_command
@click.version_option(package_name="vggquant")
def cli() -> None:
    """Small VGG files that load at once: pack, unpack, inspect and use quantized VGG weights.

    Wherever a packed FILE or a SOURCE is asked for, the word vgg19 means the embedded VGG-19.
    """


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks × or – still gets its table
    cli(prog_name="vggquant")
