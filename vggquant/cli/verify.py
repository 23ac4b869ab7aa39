"""`vggquant verify`: reports that packed files are sound; the checks are left to `packing.inspection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggquant.cli.failures import show_each
from vggquant.cli.options import SOURCE, examples, json_option
from vggquant.cli.output import echo, print_json, print_table
from vggquant.wording import SQNR, decibels

if TYPE_CHECKING:
    from vggquant.packing.inspection import LayerCheck

COLUMNS = ("layer", "SQNR", "largest error", "bias")


@click.command(
    short_help="Check that packed files are undamaged.",
    epilog=examples(
        ("Is it as it was packed?", "verify mine.safetensors"),
        ("Check all files of a folder; the exit code is 1 if one is damaged:", "verify *.safetensors"),
        ("How far are its weights from those that it was packed from?", "verify mine.safetensors --against vgg16.pth"),
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=SOURCE)
@click.option("--against", metavar="SOURCE", type=SOURCE, help="Also measure how far weights are from those of SOURCE.")
@json_option
def verify(files: tuple[str, ...], against: str | None, as_json: bool) -> None:
    """Check that each packed FILE is whole and undamaged, down to the single code.

    Checksums find damage, not forgery: for that, compare the SHA-256. A FILE that is refused is reported, and the
    others are checked all the same. With --json there is one line for each sound FILE.
    """
    from vggquant.packing.inspection import verify as run

    def show(file: str) -> None:
        found = run(file, against=against)
        if as_json:
            print_json(found, file=file)
            return
        if found.against:
            print_table(COLUMNS, [_row(check) for check in found.against])
            echo(f"SQNR over all weights: {decibels(found.sqnr_db, found.lossless)}")
            echo(SQNR)
        echo(f"{file}: sound, {found.layers} layers, {found.bytes:,} bytes")
        echo(f"SHA-256 {found.sha256}")

    show_each(files, show)


def _row(check: LayerCheck) -> tuple[str, ...]:
    """A layer under `COLUMNS`."""
    bias = "equal" if check.bias_equal else "different"
    return (check.name, decibels(check.sqnr_db, check.lossless), f"{check.largest_error:.3g}", bias)
