"""`vggquant verify`: reports that a packed file is sound; the checks are left to `packing.inspection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggquant.cli.options import json_option
from vggquant.cli.output import echo, print_json, print_table
from vggquant.wording import decibels

if TYPE_CHECKING:
    from vggquant.packing.inspection import LayerCheck

COLUMNS = ("layer", "SQNR", "largest error", "bias")


@click.command()
@click.argument("file")
@click.option("--against", metavar="SOURCE", help="Weights that FILE should stand for.")
@json_option
def verify(file: str, against: str | None, as_json: bool) -> None:
    """Check every checksum and invariant of the packed FILE."""
    from vggquant.packing.inspection import verify as run

    found = run(file, against=against)
    if as_json:
        print_json(found)
        return
    if found.against:
        print_table(COLUMNS, [_row(check) for check in found.against])
        echo(f"SQNR over all weights: {decibels(found.sqnr_db, found.lossless)}")
    echo(f"{file}: sound, {found.layers} layers, {found.bytes:,} bytes")
    echo(f"SHA-256 {found.sha256}")


def _row(check: LayerCheck) -> tuple[str, ...]:
    """A layer under `COLUMNS`."""
    bias = "equal" if check.bias_equal else "different"
    return (check.name, decibels(check.sqnr_db, check.lossless), f"{check.largest_error:.3g}", bias)
