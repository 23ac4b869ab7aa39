"""What commands that train a network have in common: options of files and of computing, and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vggquant.cli.options import (
    FILE,
    FOLDER,
    PAINTER,
    Word,
    count_option,
    force_option,
    quiet_option,
)
from vggquant.cli.output import echo, echo_notes
from vggquant.style.options import PRECISIONS
from vggquant.training.options import EVERY, CommonOptions

if TYPE_CHECKING:
    from vggquant.training.running import TrainReport

Command = Callable[..., Any]


def what_is_read(command: Command) -> Command:
    """Options of the file to write and the photographs to read."""
    command = click.option("--images", type=FOLDER, help="Photographs to train on.  [default: generated pictures]")(
        command
    )
    return click.option("-o", "--out", required=True, type=FILE, help="Packed file to write.")(command)


def how_it_is_made(start: str) -> Callable[[Command], Command]:
    """Options of computing and packing, of going on, and of what is written on the way.

    Args:
        start: What to begin with, for the help.
    """
    options = (
        click.option(
            "--precision",
            type=Word(PRECISIONS),
            default=CommonOptions().precision,
            show_default=True,
            help="What the VGG computes in; auto is bf16 where the processor has it.",
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

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def echo_report(out: str, report: TrainReport, *, quiet: bool) -> None:
    """Say what was trained, if it was this process that wrote it."""
    if not report.bytes:
        return
    echo_notes(report.notes, quiet=quiet)
    loss = ", ".join(f"{name} {value:.3f}" for name, value in report.loss.items())
    echo(f"{out}: {report.parameters:,} parameters in {report.bytes:,} bytes; {loss}")
