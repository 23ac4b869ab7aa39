"""A comparison as a page and as a contact sheet, self-contained; what is in it was measured in `comparison`."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from vggquant.comparison import Comparison, Measured
from vggquant.errors import OptionError

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("", "file", "in a wheel", "bits a weight", "SQNR", "content error", "style error", "regret", "load")
SHEET_COLUMNS = 6
_JPEG_QUALITY = 92

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --mark: #c2410c; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.row { display: flex; gap: .5rem; overflow-x: auto; padding-bottom: .5rem; }
.row figure { margin: 0; flex: 0 0 auto; } figcaption { font-size: .85rem; text-align: center; }
.row img { display: block; height: 11rem; }
.wipe { position: relative; max-width: 40rem; } .wipe img { display: block; width: 100%; }
.wipe img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at, 50%)); }
.wipe::after { content: ""; position: absolute; inset: 0 auto 0 var(--at, 50%); width: 2px; background: var(--mark); }
.controls { display: flex; flex-wrap: wrap; gap: .75rem; align-items: center; max-width: 40rem; margin: .5rem 0; }
.controls label:last-child { display: flex; flex: 1 1 12rem; gap: .5rem; align-items: center; }
.controls input { flex: 1; min-height: 2.5rem; } select { font: inherit; padding: .4rem; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
svg { max-width: 100%; height: auto; } .heat td { font-size: .85rem; }
pre, code { overflow-wrap: anywhere; white-space: pre-wrap; } li { margin: .3rem 0; }
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
    parts += ["<h2>Fidelity against size</h2>", f"<div class=scroll>{_plot(study)}</div>"]
    parts += ["<h2>Figures</h2>", _table(study), "<h2>Feature error by layer</h2>", _heat_map(study), _made(study)]
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
        axes.set_title(label, fontsize=9)
        axes.set_axis_off()
    figure.tight_layout(pad=0.4)
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=100, metadata={"Software": None})
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
        f'<figure><img id="{_identifier(label)}" src="{_data(picture)}" alt="{_text(label)}">'
        f"<figcaption>{_text(label)}</figcaption></figure>"
        for label, picture in {**study.sources, **study.painted}.items()
    )
    return f"<h2>The same transfer under each file</h2><div class=row tabindex=0>{figures}</div>"


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
        "<div class=wipe><img alt><img alt></div>"
    )


def _table(study: Comparison) -> str:
    head = "".join(f"<th scope=col>{_text(name)}</th>" for name in COLUMNS)
    rows = "".join(
        f"<tr><th scope=row>{_text(file.label)}</th>"
        + "".join(f"<td>{_text(cell)}</td>" for cell in columns_of(file)[1:])
        + "</tr>"
        for file in (study.reference, *study.files)
    )
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _heat_map(study: Comparison) -> str:
    """Errors as a table whose cells are the darker the larger they are."""
    layers = list(study.reference.feature_error)
    head = "<th scope=col></th>" + "".join(f"<th scope=col>{_text(layer)}</th>" for layer in layers)
    rows = ""
    for file in study.files:
        cells = ""
        for layer in layers:
            error = file.feature_error.get(layer)
            share = 0 if error is None else round(100 * min(1.0, error) ** 0.5)
            color = f"color-mix(in srgb, var(--mark) {share}%, transparent)"
            cells += f'<td style="background: {color}">{_number(error)}</td>'
        rows += f"<tr><th scope=row>{_text(file.label)}</th>{cells}</tr>"
    return f"<div class=scroll><table class=heat><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _plot(study: Comparison) -> str:
    """Content and style error against the size of the file, as inline SVG."""
    import matplotlib

    shown = [file for file in study.files if file.content_error is not None or file.style_error is not None]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vggquant", "text.color": "#777777"}):
        figure = _figure(8, 4.2)
        axes = figure.add_subplot()
        for name, marker in (("content_error", "o"), ("style_error", "s")):
            points = sorted(
                (file.bytes / 1e6, getattr(file, name), file.label) for file in shown if getattr(file, name)
            )
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], marker=marker, label=name.replace("_", " "))
            if name == "content_error":
                for x, y, label in points:
                    axes.annotate(label, (x, y), textcoords="offset points", xytext=(6, 4), fontsize=8)
        if any(line.get_xdata().size for line in axes.lines):
            axes.set_yscale("log")
        axes.set_xlabel("file, MB")
        axes.set_ylabel("error against the reference")
        axes.grid(alpha=0.3)
        axes.tick_params(colors="#777777", which="both")
        axes.xaxis.label.set_color("#777777")
        axes.yaxis.label.set_color("#777777")
        axes.legend(labelcolor="#777777", framealpha=0)
        for spine in axes.spines.values():
            spine.set_color("#777777")
        figure.tight_layout(pad=0.5)
        made = io.StringIO()
        figure.savefig(made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = made.getvalue()
    return drawing[drawing.index("<svg") :].replace("<svg", '<svg role="img" aria-label="error against size"', 1)


def _made(study: Comparison) -> str:
    made = study.made
    versions = ", ".join(f"{name} {version}" for name, version in made.items() if name != "command")
    sums = "".join(f"<li>{_text(f.label)}: <code>{f.sha256}</code></li>" for f in (study.reference, *study.files))
    return (
        f"<h2>How it was made</h2><pre>{_text(made['command'])}</pre><p>{_text(versions)}.</p>"
        f"<p>Measured on {_text(', '.join(study.pictures))}.</p>"
        "<p>Feature error is ‖F − F*‖ / ‖F*‖ of the activations under a file and under the reference; content error is "
        "that at relu4_2, style error the mean of the same for the Gram matrices at relu1_1 … relu5_1; regret is the "
        "loss, under the reference, of the picture painted with a file over that of the one painted with the reference."
        f"</p><p>SHA-256:</p><ul>{sums}</ul>"
    )


def require_matplotlib() -> None:
    """Know that a report can be drawn before it is worked for.

    Raises:
        OptionError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        cure = "pip install 'vggquant[report]'"
        raise OptionError("the package matplotlib", "no such package here", cure, tensor="report")


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


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
