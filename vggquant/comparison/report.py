"""A comparison as a page and as a contact sheet, self-contained; what is in it was measured in `comparison`."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import warnings
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from vggquant.comparison.study import Comparison, Measured
from vggquant.errors import OptionError, PictureError

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("", "file", "in a wheel", "bits a weight", "SQNR", "content error", "style error", "regret", "load")
SHEET_COLUMNS = 6
_JPEG_QUALITY = 92
_LABEL = 24  # characters of a label in a drawing
_INK = "#767676"  # what becomes the colour of the text around a drawing
_NO_PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --mark: #c2410c; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
.row figure { margin: 0; } figcaption { font-size: .85rem; text-align: center; }
.row img { display: block; height: 7rem; max-width: 100%; }
.wipe { position: relative; max-width: 40rem; } .wipe img { display: block; width: 100%; }
.wipe img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at, 50%)); }
.wipe::after { content: ""; position: absolute; inset: 0 auto 0 var(--at, 50%); width: 2px; background: var(--mark); }
.controls { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; max-width: 40rem; margin: .5rem 0; }
.controls label:last-child { display: flex; flex: 1 1 12rem; gap: .5rem; align-items: center; }
.controls input { flex: 1; min-height: 2.5rem; } .controls label { min-width: 0; max-width: 100%; }
select { font: inherit; padding: .4rem; max-width: 100%; } figcaption { max-width: 12rem; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
svg { width: 100%; min-width: 36rem; max-width: 60rem; height: auto; } td { font-size: .9rem; }
pre { white-space: pre-wrap; } li { margin: .3rem 0; }
"""

_SCRIPT = """
const [left, right] = document.querySelectorAll(".wipe img");
const at = document.getElementById("at");
const show = (image, select) => {
  const picture = document.getElementById(select.value);
  image.src = picture.src; image.alt = picture.alt;
};
for (const [image, name] of [[left, "left"], [right, "right"]]) {
  const select = document.getElementById(name);
  select.addEventListener("change", () => show(image, select));
  show(image, select);
}
at.addEventListener("input", () => left.parentElement.style.setProperty("--at", at.value + "%"));
"""


def report_page(study: Comparison) -> bytes:
    """One page of HTML, which fetches nothing."""
    parts = [f"<h1>{_text(study.reference.label)} and fewer bits</h1>"]
    parts += [f"<p>{_text(note)}</p>" for note in study.notes]
    if study.painted:
        parts += [_gallery(study), _wipe(study)]
    parts += ["<h2>Fidelity against size</h2>", _plot(study), "<h2>Figures</h2>", _summary(study)]
    for heading, field in (("Feature error by layer", "feature_error"), ("Gram error by layer", "gram_error")):
        parts += [f"<h2>{heading}</h2>", _heat_map(study, field)]
    parts += ["<h2>SQNR by convolution, dB</h2>", _noise(study), _made(study)]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    script = f"<script>{_SCRIPT}</script>" if study.painted else ""
    page = (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>vggquant compare: {_text(study.reference.label)}</title><style>{_STYLE}</style></head>\n"
        f"<body>{chr(10).join(parts)}{script}</body></html>\n"
    )
    return page.encode()


def contact_sheet(study: Comparison) -> bytes:
    """The paintings under their labels, as a PNG.

    Raises:
        OptionError: Nothing was painted.
    """
    if not study.painted:
        raise OptionError("pictures for a figure", "none", "add --transfer", tensor="figure")
    pictures = {**study.sources, **study.painted}
    columns = min(SHEET_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = _figure(2.0 * columns, 1.75 * rows)
    for index, (label, picture) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(rows, columns, index)
        axes.imshow(_pixels(picture))
        axes.set_title(_short(label), fontsize=9, parse_math=False)
        axes.set_axis_off()
    made = io.BytesIO()
    _save(figure, made, format="png", dpi=100, metadata={"Software": None})
    return made.getvalue()


def columns_of(file: Measured) -> tuple[str, ...]:
    """A file's figures as a row under `COLUMNS`."""
    return (
        file.label,
        f"{file.bytes / 1e6:.2f} MB",
        "-" if file.wheel_bytes is None else f"{file.wheel_bytes / 1e6:.2f} MB",
        f"{file.bits_per_weight:.2f}",
        "lossless" if file.sqnr_db is None else f"{file.sqnr_db:.1f} dB",
        _number(file.content_error),
        _number(file.style_error),
        "-" if file.transfer_regret is None else f"{file.transfer_regret:.3f}",
        "-" if file.load_s is None else f"{1000 * file.load_s:.0f} ms",
    )


def _gallery(study: Comparison) -> str:
    figures = "".join(
        f"<figure><figcaption>{_text(label)}</figcaption>"
        f'<img id="{_identifier(label)}" src="{_data(picture)}" alt="{_text(label)}"></figure>'
        for label, picture in {**study.sources, **study.painted}.items()
    )
    return f"<h2>The same transfer under each file</h2><div class=row>{figures}</div>"


def _wipe(study: Comparison) -> str:
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
        f'<div class=wipe><img src="{_NO_PICTURE}" alt=""><img src="{_NO_PICTURE}" alt=""></div>'
    )


def _table(name: str, columns: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table that scrolls by itself; cells are HTML."""
    head = "".join(f"<th scope=col>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr><th scope=row>{_text(label)}</th>{''.join(cells)}</tr>" for label, cells in rows)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{_text(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _summary(study: Comparison) -> str:
    files = (study.reference, *study.files)
    rows = ((file.label, (f"<td>{_text(cell)}</td>" for cell in columns_of(file)[1:])) for file in files)
    return _table("figures", COLUMNS, rows)


def _heat_map(study: Comparison, field: str) -> str:
    """Errors as a table whose cells are the darker the larger they are."""
    layers = list(getattr(study.reference, field))

    def cell(error: float | None) -> str:
        share = 0 if error is None else round(80 * min(1.0, error) ** 0.5)  # text stays readable on it
        return f'<td style="background: color-mix(in srgb, var(--mark) {share}%, transparent)">{_number(error)}</td>'

    rows = ((file.label, (cell(getattr(file, field).get(layer)) for layer in layers)) for file in study.files)
    return _table(field.replace("_", " "), ("", *layers), rows)


def _noise(study: Comparison) -> str:
    layers = list(study.reference.layer_sqnr_db)

    def cell(file: Measured, layer: str) -> str:
        ratio = file.layer_sqnr_db.get(layer)
        return f"<td>{'-' if layer not in file.layer_sqnr_db else 'lossless' if ratio is None else f'{ratio:.1f}'}</td>"

    rows = ((file.label, (cell(file, layer) for layer in layers)) for file in study.files)
    return _table("SQNR", ("", *layers), rows)


def _plot(study: Comparison) -> str:
    """Content and style error against the size of the file, as inline SVG."""
    import matplotlib

    shown = [file for file in study.files if file.content_error or file.style_error]
    left_out = [file.label for file in (study.reference, *study.files) if file not in shown]
    drawing = ""
    if shown:
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "vggquant"}
        for part in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"):
            settings[part] = _INK
        with matplotlib.rc_context(settings):
            drawing = _drawing(study, shown)
    note = f"<p>Without an error to draw: {_text(', '.join(left_out))}.</p>"
    return f"<div class=scroll tabindex=0 role=region aria-label=plot>{drawing}</div>{note}"


def _drawing(study: Comparison, shown: list[Measured]) -> str:
    figure = _figure(8, 4.2)
    axes = figure.add_subplot()
    for name, marker, color in (("content_error", "o", "C0"), ("style_error", "s", "C1")):
        points = [(file.bytes / 1e6, getattr(file, name), file.label) for file in shown if getattr(file, name)]
        axes.plot(
            [x for x, _, _ in points], [y for _, y, _ in points], f"{color}{marker}", label=name.replace("_", " ")
        )
        packed = [(x, y) for x, y, label in points if label in study.packed]  # one family, which a line may join
        axes.plot([x for x, _ in packed], [y for _, y in packed], color)
        for x, y, label in points if name == "content_error" else ():
            place = {"textcoords": "offset points", "xytext": (6, 5), "fontsize": 8}
            axes.annotate(_short(label), (x, y), parse_math=False, **place)
    axes.set_yscale("log")
    axes.margins(x=0.12, y=0.12)
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    axes.set_xlabel("file, MB")
    axes.set_ylabel("error against the reference")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)
    made = io.StringIO()
    _save(figure, made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = made.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "currentColor")
    return drawing.replace("<svg", '<svg role="img" aria-label="error against size"', 1)


def _made(study: Comparison) -> str:
    made = study.made
    told = {"command", "transfer"}
    versions = ", ".join(f"{name} {version}" for name, version in made.items() if name not in told)
    sums = {file.label: file.sha256 for file in (study.reference, *study.files)} | dict(study.pictures)
    listed = "".join(f"<li>{_text(name)}: <code>{digest}</code></li>" for name, digest in sums.items())
    transfer = f"<p>Each transfer: {_text(made['transfer'])}.</p>" if "transfer" in made else ""
    return (
        f"<h2>How it was made</h2><pre>{_text(made['command'])}</pre><p>{_text(versions)}.</p>{transfer}"
        f"<p>Measured on {_text(', '.join(study.pictures))}.</p>"
        "<p>Feature error is ‖F − F*‖ / ‖F*‖ of the activations under a file and under the reference; content error is "
        "that at relu4_2, style error the mean of the same for the Gram matrices at relu1_1 … relu5_1; regret is the "
        "loss, under the reference, of the picture painted with a file over that of the one painted with the reference."
        f"</p><p>SHA-256 of files, and of the pixels measured on:</p><ul>{listed}</ul>"
    )


def require_matplotlib() -> None:
    """Know that a report can be drawn before it is worked for.

    Raises:
        PictureError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        cure = "pip install 'vggquant[report]'"
        raise PictureError("the package matplotlib for a report", "no such package here", cure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _save(figure: Any, out: IO[Any], **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a font that lacks a letter of somebody's file name
        figure.tight_layout(pad=0.5)
        figure.savefig(out, **options)


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…"


def _pixels(picture: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = (
        (255 * picture[0].clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    )
    return pixels


def _data(picture: Tensor) -> str:
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(_pixels(picture)).save(made, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(made.getvalue()).decode()


def _number(error: float | None) -> str:
    return "-" if error is None else "0" if error == 0 else f"{error:.4f}"


def _identifier(label: str) -> str:
    return "picture-" + "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in label)


def _text(text: str) -> str:
    return html.escape(text)
