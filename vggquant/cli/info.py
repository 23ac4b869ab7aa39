"""`vggquant info`: a packed file as a table and a summary; reading it is left to `packing.inspection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggquant.cli.options import json_option
from vggquant.cli.output import echo, print_json, print_pairs, print_table
from vggquant.wording import decibels, megabytes

if TYPE_CHECKING:
    from vggquant.packing.inspection import FileInfo, LayerInfo

COLUMNS = ("layer", "shape", "bits", "coding", "codebook", "bytes", "rate", "SQNR")


@click.command()
@click.argument("file")
@click.option("--wheel", is_flag=True, help="Deflate it, to tell what it takes in a wheel.")
@json_option
def info(file: str, wheel: bool, as_json: bool) -> None:
    """Show what the packed FILE holds."""
    from vggquant.packing.inspection import info as run

    found = run(file, wheel=wheel)
    if as_json:
        print_json(found)
        return
    print_table(COLUMNS, [_row(layer) for layer in found.layers])
    print_pairs(*_summary(found))
    if any(layer.lossless for layer in found.layers):
        echo("lossless: nothing was lost against the source, which may itself have been quantized.")


def _row(layer: LayerInfo) -> tuple[str, ...]:
    """A layer under `COLUMNS`."""
    return (
        layer.name,
        "×".join(map(str, layer.shape)),
        "-" if layer.bits is None else str(layer.bits),
        layer.coding,
        f"{layer.centroids}{' + scale' if layer.scaled else ''}",
        f"{layer.bytes:,}",
        f"{layer.rate:.2f}",
        decibels(layer.sqnr_db, layer.lossless),
    )


def _network(found: FileInfo) -> list[tuple[str, str]]:
    """What network it is."""
    if found.architecture is None or found.preprocessing is None:
        return [("family", found.family), *((name, str(value)) for name, value in found.configuration.items())]
    end = "" if found.complete else f" up to {found.layers[-1].name}"
    return [("architecture", found.architecture + end), ("preprocessing", found.preprocessing)]


def _summary(found: FileInfo) -> list[tuple[str, str]]:
    """The file as a whole, in pairs of name and value."""
    return [
        *_network(found),
        ("weights", f"{found.weights:,}"),
        ("file", f"{found.bytes:,} bytes, {megabytes(found.bytes)}"),
        ("float32", f"{found.float32_bytes:,} bytes, {found.ratio:.2f} times as much"),
        ("bits a weight", f"{found.bits_per_weight:.3f}, all included"),
        *([("in a wheel", f"{found.wheel_bytes:,} bytes zipped")] if found.wheel_bytes is not None else []),
        ("PyPI, 100 MiB a file", "fits" if found.fits_pypi else "does not fit"),
        ("formerly 60 MiB", "fits" if found.fits_pypi_historic else "does not fit"),
        ("packed from", f"a {found.source_layout} file, SHA-256 {found.source_sha256}"),
        *([("folded", "a batch normalisation, into the convolutions")] if found.folded_batch_norm else []),
        ("attribution", found.attribution or "unknown, the source did not say"),
        ("changes", found.changes or "unknown"),
        ("SHA-256", found.sha256),
    ]
