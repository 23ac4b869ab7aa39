"""The `vggquant` command group: finds the commands, and ends every failure in one line and an exit code.

What each command does is left to its own module, which is imported only when the command is asked for.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from vggquant.cli.failures import REFUSED, STOPPED, report
from vggquant.cli.options import examples
from vggquant.cli.output import as_typed, echo
from vggquant.errors import StorageError, VggQuantError
from vggquant.wording import INTERRUPTED

COMMANDS = (
    "compare",
    "distil",
    "info",
    "pack",
    "page",
    "prune",
    "stylize",
    "train",
    "unpack",
    "verify",
)  # each a module here, and a function in it


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
            ctx.exit(report(error, self._invoked(ctx)))
        except KeyboardInterrupt as interrupted:
            echo(as_typed(str(interrupted), self._invoked(ctx)) or INTERRUPTED, err=True)
            ctx.exit(STOPPED)
        except (MemoryError, RuntimeError) as error:
            # torch has no exception of its own for a failed allocation, only this word in the message
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            echo("Error: expected enough memory, got none left; choose a smaller picture or file", err=True)
            ctx.exit(REFUSED)

    def _invoked(self, ctx: click.Context) -> click.Command:
        """The command that was asked for."""
        return self.get_command(ctx, ctx.invoked_subcommand or "") or self


@click.group(
    cls=OneLineErrors,
    commands=[click.Command(name) for name in COMMANDS],  # names alone, see get_command
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        ("Pack torchvision's VGG-16 with four bits a weight:", "pack vgg16-397923af.pth vgg16.safetensors --bits 4"),
        ("Paint with the embedded VGG-19:", "stylize CONTENT.jpg STYLE.jpg -o OUT.png"),
        ("See what a command can do:", "pack --help"),
    ),
)
@click.version_option(package_name="vggquant")
def cli() -> None:
    """Small VGG files that load at once: pack, unpack, inspect and use quantized VGG weights.

    Wherever a packed FILE or a SOURCE is asked for, the word vgg19 means the embedded VGG-19, and vgg19-small its small
    file; files of these names are ./vgg19 and ./vgg19-small.

    Exit codes are 0 if all went well, 1 if a file was refused or something failed, 2 if the command makes no sense, and
    130 after Ctrl-C.
    """


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks × or – still gets its table
    cli(prog_name="vggquant")
