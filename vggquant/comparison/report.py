"""A study as one page of HTML that fetches nothing: paintings to compare, a plot, tables, and how it was made.

Measuring is left to `study`, the plot to `drawing`. The page's style and script stand beside this file.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vggquant.comparison.drawing import error_plot, to_uint8
from vggquant.comparison.measuring import Measured
from vggquant.comparison.study import Comparison
from vggquant.comparison.table import COLUMNS, columns_of, error_text
from vggquant.wording import decibels

if TYPE_CHECKING:
    from torch import Tensor

JPEG_QUALITY = 92
DARKEST = 80  # percent of colour in a cell of a heat map, on which its text can still be read
EMPTY_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="  # the script puts paintings in its place
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def report_page(study: Comparison) -> bytes:
    """Lay a study out as a page."""
    parts = [f"<h1>{_text(study.reference.label)} and fewer bits</h1>"]
    parts += [f"<p>{_text(note)}</p>" for note in study.notes]
    if study.painted:
        parts += [_gallery(study), _wipe(study)]
    parts += ["<h2>Fidelity against size</h2>", _plot(study), "<h2>Figures</h2>", _figures(study)]
    for heading, field in (("Feature error by layer", "feature_error"), ("Gram error by layer", "gram_error")):
        parts += [f"<h2>{heading}</h2>", _heat_map(study, field)]
    parts += ["<h2>SQNR by convolution</h2>", _layer_sqnr(study), _how_it_was_made(study)]
    script = f"<script>\n{_resource('page.js')}</script>" if study.painted else ""
    page = (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>vggquant compare: {_text(study.reference.label)}</title>"
        f"<style>\n{_resource('page.css')}</style></head>\n"
        f"<body>{chr(10).join(parts)}{script}</body></html>\n"
    )
    return page.encode()


def _gallery(study: Comparison) -> str:
    """Content, style and all paintings side by side."""
    figures = "".join(
        f"<figure><figcaption>{_text(label)}</figcaption>"
        f'<img id="{_identifier(label)}" src="{_data_url(picture)}" alt="{_text(label)}"></figure>'
        for label, picture in {**study.sources, **study.painted}.items()
    )
    return f"<h2>The same transfer under each file</h2><div class=row>{figures}</div>"


def _wipe(study: Comparison) -> str:
    """Two paintings over each other, with a slider between them."""
    labels = list(study.painted)

    def select(name: str, chosen: str) -> str:
        options = "".join(
            f'<option value="{_identifier(label)}"{" selected" if label == chosen else ""}>{_text(label)}</option>'
            for label in labels
        )
        return f"<label>{name.capitalize()} <select id={name}>{options}</select></label>"

    return (
        "<h2>Two of them</h2><div class=controls>"
        f"{select('left', labels[0])}{select('right', labels[-1])}"
        "<label>Wipe <input id=at type=range min=0 max=100 value=50></label></div>"
        f'<div class=wipe><img src="{EMPTY_PICTURE}" alt=""><img src="{EMPTY_PICTURE}" alt=""></div>'
    )


def _plot(study: Comparison) -> str:
    """The plot of errors against size, and the names of the files that it cannot show."""
    shown = [file for file in study.files if file.content_error or file.style_error]
    left_out = [file.label for file in (study.reference, *study.files) if file not in shown]
    drawing = error_plot(shown, study.packed) if shown else ""
    note = f"<p>Without an error to draw: {_text(', '.join(left_out))}.</p>"
    return f"<div class=scroll tabindex=0 role=region aria-label=plot>{drawing}</div>{note}"


def _figures(study: Comparison) -> str:
    files = (study.reference, *study.files)
    rows = ((file.label, (f"<td>{_text(cell)}</td>" for cell in columns_of(file)[1:])) for file in files)
    return _table("figures", COLUMNS, rows)


def _heat_map(study: Comparison, field: str) -> str:
    """Errors by layer, in cells that are the darker the larger the error."""
    layers = list(getattr(study.reference, field))

    def cell(error: float | None) -> str:
        # the root tells small errors apart, where most of them are
        share = 0 if error is None else round(DARKEST * min(1.0, error) ** 0.5)
        return f'<td style="background: color-mix(in srgb, var(--mark) {share}%, transparent)">{error_text(error)}</td>'

    rows = ((file.label, (cell(getattr(file, field).get(layer)) for layer in layers)) for file in study.files)
    return _table(field.replace("_", " "), ("", *layers), rows)


def _layer_sqnr(study: Comparison) -> str:
    layers = list(study.reference.layer_sqnr_db)

    def cell(file: Measured, layer: str) -> str:
        lossless = layer in file.lossless_layers if layer in file.layer_sqnr_db else None
        return f"<td>{decibels(file.layer_sqnr_db.get(layer), lossless, digits=1)}</td>"

    rows = ((file.label, (cell(file, layer) for layer in layers)) for file in study.files)
    return _table("SQNR", ("", *layers), rows)


def _how_it_was_made(study: Comparison) -> str:
    """Command, versions, definitions of the errors, and checksums of all that was measured."""
    made = study.made
    versions = ", ".join(f"{name} {version}" for name, version in made.items() if name not in {"command", "transfer"})
    checksums = {file.label: file.sha256 for file in (study.reference, *study.files)} | dict(study.pictures)
    listed = "".join(f"<li>{_text(name)}: <code>{digest}</code></li>" for name, digest in checksums.items())
    transfer = f"<p>Each transfer: {_text(made['transfer'])}.</p>" if "transfer" in made else ""
    return (
        f"<h2>How it was made</h2><pre>{_text(made['command'])}</pre><p>{_text(versions)}.</p>{transfer}"
        f"<p>Measured on {_text(', '.join(study.pictures))}.</p>"
        "<p>Feature error is ‖F − F*‖ / ‖F*‖ of the activations under a file and under the reference; content error is "
        "that at relu4_2, style error the mean of the same for the Gram matrices at relu1_1 … relu5_1; regret is the "
        "loss, under the reference, of the picture painted with a file over that of the one painted with the reference."
        "</p><p>Sizes, bits a weight and load times are those of whole files, also where only some of their layers are "
        f"compared.</p><p>SHA-256 of files, and of the pixels measured on:</p><ul>{listed}</ul>"
    )


def _table(name: str, columns: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table that scrolls by itself, so that the page stays as wide as a phone; cells are HTML already."""
    head = "".join(f"<th scope=col>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr><th scope=row>{_text(label)}</th>{''.join(cells)}</tr>" for label, cells in rows)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{_text(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _data_url(picture: Tensor) -> str:
    """A picture as the address of itself, which keeps the page in one file."""
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(to_uint8(picture)).save(made, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(made.getvalue()).decode()


def _identifier(label: str) -> str:
    """An identifier of its own for each label, whatever characters it has."""
    return "picture-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in label)


def _resource(name: str) -> str:
    return (importlib.resources.files("vggquant.comparison") / name).read_text("utf-8")


def _text(text: str) -> str:
    return html.escape(text)
