"""`vggquant compare`: checks the outputs, runs the study and prints or writes it; measuring is left to `comparison`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from vggquant.cli.options import (
    FILE,
    SOURCE,
    Layer,
    PathName,
    Widths,
    Word,
    examples,
    force_option,
    json_option,
    quiet_option,
)
from vggquant.cli.output import echo, echo_notes, print_json, print_table
from vggquant.cli.progress import progress_bar
from vggquant.errors import OptionError
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS
from vggquant.wording import SQNR

if TYPE_CHECKING:
    from vggquant.comparison.study import Comparison
    from vggquant.files.disk import PathLike


@click.command(
    short_help="Measure what packed files have lost.",
    epilog=examples(
        ("What each width costs:", "compare vgg19 --widths 8-1"),
        ("Your own file, on your own pictures:", "compare vgg16.pth mine.safetensors --images PHOTOS"),
        (
            "See it: a page with pictures painted with each file:",
            "compare vgg19 --widths 8-1 --transfer --report report.html",
        ),
    ),
)
@click.argument("reference", type=SOURCE)
@click.argument("files", nargs=-1, metavar="[FILE]...", type=SOURCE)
@click.option("--widths", type=Widths(), help="Also pack REFERENCE at these widths, e.g. 8-1.")
@click.option(
    "--images",
    type=PathName("scikit-image", kind="dir"),
    metavar="FOLDER|scikit-image",
    help="Pictures to measure on.  [default: generated ones]",
)
@click.option("--transfer", is_flag=True, help="Also paint with each file, 100 steps, and report the regret.")
@click.option("--content", type=FILE, help="What is painted.  [default: the first picture]")
@click.option("--style", type=FILE, help="In whose manner.  [default: the second picture]")
@click.option("--report", type=FILE, help="Write a page of HTML, self-contained.")
@click.option("--figure", type=FILE, metavar="FILE.png", help="Write the paintings side by side.")
@click.option("--upto", type=Layer(), help="Where REFERENCE ends, if that is early.")
@click.option("--layout", type=Word(LAYOUTS), help="Naming of REFERENCE.")
@click.option(
    "--preprocessing", type=Word(PREPROCESSINGS), help="How inputs are prepared, where REFERENCE does not tell."
)
@click.option("--arch", type=Word(tuple(ARCHITECTURES)), help="Which VGG it is, where REFERENCE does not tell.")
@force_option
@quiet_option
@json_option
def compare(
    reference: str,
    files: tuple[str, ...],
    widths: tuple[int, ...] | None,
    report: str | None,
    figure: str | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure what packed FILEs have lost against REFERENCE, where style transfer looks.

    The content error is that of the features at relu4_2, the style error that of the Gram matrices, both 0 if nothing
    was lost. The regret is the loss of a picture painted with the FILE over that of one painted with REFERENCE.
    """
    from vggquant.comparison.drawing import contact_sheet
    from vggquant.comparison.report import report_page
    from vggquant.comparison.study import compare as run
    from vggquant.files.disk import write_file

    sources = _sources((reference, *files, options["content"], options["style"]), options["images"])
    _check_outputs(report, figure, transfer=options["transfer"], force=force, sources=sources)
    with progress_bar("comparing", quiet=quiet) as progress:
        study = run(reference, files, widths=widths or (), progress=progress, **options)
    if as_json:
        print_json(study.numbers)
    else:
        _print(study)
        echo_notes(study.notes, quiet=quiet)
    for out, draw in ((report, report_page), (figure, contact_sheet)):
        if out is not None:
            write_file(out, [draw(study)], force=force)
            echo(f"{out}: written", err=as_json)


def _sources(paths: tuple[str | None, ...], images: str | None) -> list[PathLike]:
    """Every file that the study reads, none of which an output may replace."""
    from vggquant.pictures.folders import pictures_in

    sources: list[PathLike] = [path for path in paths if path]
    if images is not None and os.path.isdir(images):
        sources += pictures_in(images)
    return sources


def _check_outputs(
    report: str | None, figure: str | None, *, transfer: bool, force: bool, sources: list[PathLike]
) -> None:
    """Refuse outputs that could not be written, before the study takes its time."""
    from vggquant.comparison.drawing import require_matplotlib
    from vggquant.files.disk import check_output

    if figure is not None and not transfer:
        raise OptionError("pictures for a figure", "none", "add `transfer=True`", tensor="figure")
    if figure is not None and not figure.lower().endswith(".png"):
        raise OptionError("a name that ends in .png", figure, "rename it", tensor="figure")
    if report is not None and figure is not None and os.path.realpath(report) == os.path.realpath(figure):
        raise OptionError("two files", report, "name another", tensor="figure")
    for out in (report, figure):
        if out is not None:
            check_output(out, force=force, sources=sources)
            require_matplotlib()


def _print(study: Comparison) -> None:
    """The figures as a table, without the columns that have none."""
    from vggquant.comparison.table import COLUMNS, columns_of

    rows = [columns_of(file) for file in (study.reference, *study.files)]
    head, *rows = zip(*(column for column in zip(COLUMNS, *rows, strict=True) if {*column[1:]} != {"-"}), strict=True)
    print_table(head, rows)
    echo(SQNR)
