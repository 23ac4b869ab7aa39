"""What commands that train a network have in common: options of files and of computing, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vggquant.cli.options import (
    FILE,
    FOLDER,
    PAINTER,
    Decorator,
    Word,
    count_option,
    force_option,
    quiet_option,
)
from vggquant.cli.output import echo, echo_notes
from vggquant.errors import OptionError
from vggquant.style.options import PRECISIONS
from vggquant.training.options import EVERY, CommonOptions

if TYPE_CHECKING:
    from vggquant.training.running import TrainReport


def _all(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# options of the file to write, and of the photographs to read
pictures_to_file = _all(
    click.option("-o", "--out", required=True, type=FILE, help="Packed file to write."),
    click.option("--images", type=FOLDER, help="Photographs to train on.  [default: generated pictures]"),
)


def computing_and_files(start: str) -> Decorator:
    """Options of computing and packing, and of files to begin with, to go on from, and to write on the way.

    Args:
        start: What to begin with, for the help.
    """
    return _all(
        click.option(
            "--precision",
            type=Word(PRECISIONS),
            default=CommonOptions().precision,
            show_default=True,
            help="What networks compute in; auto is bf16 where the processor has it.",
        ),
        count_option("--seed", CommonOptions().seed, "Of all that is random."),
        click.option("--bits", metavar="BITS", help="Bits per code, 1-8, or rules as for pack.  [default: 8]"),
        click.option("--max-size", metavar="SIZE", help="Instead, the largest size of the file, such as 17KB."),
        click.option("--start", type=PAINTER, help=start),
        click.option(
            "--checkpoint", type=FILE, help="What training goes on from later, kept.  [default: OUT.checkpoint]"
        ),
        click.option("--resume", type=FILE, help="Go on from a checkpoint, exactly; with the same options."),
        click.option("--preview", type=FILE, help="Picture to write on the way: the first photograph, painted."),
        count_option("--every", EVERY, "Steps from one checkpoint and preview to the next."),
        click.option(
            "--device", metavar="DEVICE", default="cpu", show_default=True, help="Where torch computes, e.g. cuda."
        ),
        force_option,
        quiet_option,
    )


def refuse_typed(names: Iterable[str], expected: str) -> None:
    """Refuse options that were typed and have no meaning in what is asked for.

    Args:
        names: Of the options.
        expected: What would have one.

    Raises:
        OptionError: One of them was typed.
    """
    ctx = click.get_current_context()
    for name in sorted(names):
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise OptionError(expected, "this one", "leave it out", tensor=name)


def echo_report(out: str, report: TrainReport, *, quiet: bool) -> None:
    """Say what was trained, if it was this process that wrote it."""
    if not report.bytes:
        return
    echo_notes(report.notes, quiet=quiet)
    loss = ", ".join(f"{name} {value:.3f}" for name, value in report.loss.items())
    echo(f"{out}: {report.parameters:,} parameters in {report.bytes:,} bytes; {loss}")
