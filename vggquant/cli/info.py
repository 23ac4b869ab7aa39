"""`vggquant info`: packed files as a table and a summary each; reading them is left to `packing.inspection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vggquant.cli.failures import show_each
from vggquant.cli.options import SOURCE, examples, json_option
from vggquant.cli.output import echo, print_json, print_pairs, print_table
from vggquant.wording import SQNR, decibels, megabytes

if TYPE_CHECKING:
    from vggquant.packing.inspection import FileInfo, LayerInfo

COLUMNS = ("layer", "shape", "bits", "coding", "codebook", "bytes", "rate", "SQNR")


@click.command(
    short_help="Show what packed files hold.",
    epilog=examples(
        ("What the embedded VGG-19 is, and who made it:", "info vgg19"),
        ("What a file adds to the wheel of your package:", "info --wheel mine.safetensors"),
        ("The bit width of every layer, by jq:", "info --json *.safetensors | jq '.layers[].bits'"),
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=SOURCE)
@click.option("--wheel", is_flag=True, help="Also tell the size in a wheel, the zip archive that pip installs.")
@json_option
def info(files: tuple[str, ...], wheel: bool, as_json: bool) -> None:
    """Show what each packed FILE holds.

    A line for each layer: its shape, its bits a weight, their coding, the size of its codebook, its bytes, the bits a
    weight once coded, and what quantization cost it. Then the file as a whole, its licence included. A FILE that is
    refused is reported, and the others are shown all the same. With --json there is one line for each FILE.
    """
    from vggquant.packing.inspection import info as run

    def show(file: str) -> None:
        found = run(file, wheel=wheel)
        if as_json:
            print_json(found, file=file)
            return
        if len(files) > 1:
            echo(f"{file}:")
        _print(found)
        if len(files) > 1:
            echo()

    show_each(files, show)


def _print(found: FileInfo) -> None:
    print_table(COLUMNS, [_row(layer) for layer in found.layers])
    print_pairs(*_summary(found))
    echo()
    echo("rate: bits a weight once coded, of which huffman needs fewer than planes")
    echo(SQNR)
    if any(layer.lossless for layer in found.layers):
        echo("lossless: as the source, which may itself have been quantized")


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
    fits = "fits into" if found.fits_pypi else "is too large for"
    return [
        *_network(found),
        ("weights", f"{found.weights:,}"),
        ("file", f"{found.bytes:,} bytes, {megabytes(found.bytes)}"),
        ("float32", f"{found.float32_bytes:,} bytes, {found.ratio:.2f} times as much"),
        ("bits a weight", f"{found.bits_per_weight:.3f}, all included"),
        *([("in a wheel", f"{found.wheel_bytes:,} bytes, zipped")] if found.wheel_bytes is not None else []),
        ("on PyPI", f"{fits} a package, whose files may have 100 MiB each"),
        ("packed from", f"a {found.source_layout} file, whose SHA-256 is {found.source_sha256}"),
        *([("folded", "a batch normalisation, into the convolutions")] if found.folded_batch_norm else []),
        ("attribution", found.attribution or "unknown, the source did not say"),
        ("changes", found.changes or "unknown"),
        ("SHA-256", found.sha256),
    ]
