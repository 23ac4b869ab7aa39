"""`vggquant compare`: checks the outputs, runs the study and prints or writes it; measuring is left to `comparison`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from vggquant.cli.options import Widths, force_option, json_option
from vggquant.cli.output import as_typed, echo, print_json, print_table
from vggquant.cli.progress import progress_bar
from vggquant.errors import OptionError
from vggquant.files.layouts import LAYOUTS
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS

if TYPE_CHECKING:
    from vggquant.comparison.study import Comparison
    from vggquant.files.disk import PathLike


@click.command()
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
    from vggquant.comparison.drawing import contact_sheet
    from vggquant.comparison.report import report_page
    from vggquant.comparison.study import compare as run
    from vggquant.files.disk import write_file

    sources = _sources((reference, *files, options["content"], options["style"]), options["images"])
    _check_outputs(report, figure, transfer=options["transfer"], force=force, sources=sources)
    with progress_bar("comparing") as progress:
        study = run(reference, files, widths=widths or (), progress=progress, **options)
    _print(study, as_json)
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


def _print(study: Comparison, as_json: bool) -> None:
    from vggquant.comparison.table import COLUMNS, columns_of

    if as_json:
        print_json(study.numbers)
        return
    print_table(COLUMNS, [columns_of(file) for file in (study.reference, *study.files)])
    for note in study.notes:
        echo(as_typed(note, compare), err=True)
