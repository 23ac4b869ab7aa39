"""`vggquant verify`: reports that packed files are sound; checks are left to `packing.inspection` and `models`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from vggquant.cli.failures import show_each
from vggquant.cli.options import FOLDER, SOURCE, examples, json_option
from vggquant.cli.output import echo, print_json, print_table
from vggquant.errors import NetworkError, OptionError, located
from vggquant.wording import SQNR, decibels

if TYPE_CHECKING:
    from vggquant.models.half_safe import HalfReport, LayerRange
    from vggquant.packing.inspection import LayerCheck, Verification

COLUMNS = ("layer", "SQNR", "largest error", "bias")
RANGES = ("layer", "largest", "typical", "to overflow", "to underflow")


@click.command(
    short_help="Check that packed files are undamaged.",
    epilog=examples(
        ("Is it as it was packed?", "verify mine.safetensors"),
        ("Check all files of a folder; the exit code is 1 if one is damaged:", "verify *.safetensors"),
        ("How far are its weights from those that it was packed from?", "verify mine.safetensors --against vgg16.pth"),
        ("Does it compute in float16 what it computes in float32?", "verify mine.safetensors --half"),
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=SOURCE)
@click.option("--against", metavar="SOURCE", type=SOURCE, help="Also measure how far weights are from those of SOURCE.")
@click.option("--half", is_flag=True, help="Also run the network in float16; says how far each layer is from its ends.")
@click.option("--images", type=FOLDER, help="Pictures for --half.  [default: generated ones]")
@json_option
def verify(files: tuple[str, ...], against: str | None, half: bool, images: str | None, as_json: bool) -> None:
    """Check that each packed FILE is whole and undamaged, down to the single code.

    Checksums find damage, not forgery: for that, compare the SHA-256. A FILE that is refused is reported, and the
    others are checked all the same. With --json there is one line for each sound FILE.
    """
    from vggquant.packing.inspection import verify as run

    if images is not None and not half:
        raise OptionError("an option that serves with --half", "this one", "leave it out", tensor="images")

    def show(file: str) -> None:
        found = run(file, against=against)
        ranges = _half(file, images) if half else None
        if as_json:
            print_json(found, file=file, half=None if ranges is None else _as_json(ranges))
        else:
            _print(file, found, ranges)
        if ranges is not None and not ranges.safe:
            _refuse(file, ranges)

    show_each(files, show)


def _half(file: str, images: str | None) -> HalfReport:
    from vggquant.models.half_safe import half_safe_file

    return half_safe_file(file, images)


def _print(file: str, found: Verification, ranges: HalfReport | None) -> None:
    if found.against:
        print_table(COLUMNS, [_row(check) for check in found.against])
        echo(f"SQNR over all weights: {decibels(found.sqnr_db, found.lossless)}")
        echo(SQNR)
    if ranges is not None:
        print_table(RANGES, [_range_row(layer) for layer in ranges.layers])
        echo(f"float16 against float32: {ranges.snr_db:.1f} dB; bits say how often magnitudes may be doubled or halved")
    echo(f"{file}: sound, {found.layers} layers, {found.bytes:,} bytes")
    echo(f"SHA-256 {found.sha256}")


def _refuse(file: str, ranges: HalfReport) -> None:
    """Refuse a network that float16 spoils.

    Raises:
        NetworkError: It is one.
    """
    cure = "compute in float32"
    if ranges.exponents:
        layers = ", ".join(list(ranges.exponents)[:3]) + ", …" * (len(ranges.exponents) > 3)
        cure = f"take `half_safe(network).mended`, where {layers} are rescaled: {ranges.mended_db:.1f} dB"
    with located(file):
        raise NetworkError("a network that float16 does not spoil", f"{ranges.snr_db:.1f} dB", cure)


def _as_json(ranges: HalfReport) -> dict[str, object]:
    found = {name: getattr(ranges, name) for name in ("snr_db", "mended_db", "exponents")}
    return found | {"layers": [dataclasses.asdict(layer) for layer in ranges.layers]}


def _row(check: LayerCheck) -> tuple[str, ...]:
    """A layer under `COLUMNS`."""
    bias = "equal" if check.bias_equal else "different"
    return (check.name, decibels(check.sqnr_db, check.lossless), f"{check.largest_error:.3g}", bias)


def _range_row(layer: LayerRange) -> tuple[str, ...]:
    """A layer under `RANGES`."""
    bits = (f"{layer.overflow_bits:.1f} bits", f"{layer.underflow_bits:.1f} bits")
    return (layer.name, f"{layer.largest:.3g}", f"{layer.typical:.3g}", *bits)
