"""What matplotlib draws of a study: the plot of errors against size, and the contact sheet of its paintings.

Tables and the page around the plot are left to `report`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggquant.comparison.measuring import Measured
from vggquant.comparison.study import Comparison
from vggquant.errors import OptionError, PictureError

if TYPE_CHECKING:
    from torch import Tensor

SHEET_COLUMNS = 6
LONGEST_LABEL = 24  # characters, as many as fit over a painting of the contact sheet
# text and axes are drawn in this grey, which is then replaced by the colour of the text around the plot
INK = "#767676"
INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")


def require_matplotlib() -> None:
    """See that drawings can be made, before the study takes its time.

    Raises:
        PictureError: matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        cure = "pip install 'vggquant[report]'"
        raise PictureError("the package matplotlib for a report", "no such package here", cure)
    with _settings():
        pass


@contextlib.contextmanager
def _settings(changed: Any = ()) -> Iterator[None]:
    """Draw with matplotlib's own settings, and some that are changed, not those of a `matplotlibrc`.

    Raises:
        PictureError: matplotlib cannot even read such a file, which may lie in the working folder.
    """
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would print what it does not like in the file
    try:
        import matplotlib
    except Exception as error:  # whatever a file can bring about
        cure = "remove or mend the file matplotlibrc"
        raise PictureError("matplotlib with sound settings", str(error), cure) from None
    finally:
        logger.setLevel(level)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(changed)
        yield


def contact_sheet(study: Comparison) -> bytes:
    """Draw the content, the style and the paintings under their labels.

    Returns:
        A PNG file.

    Raises:
        OptionError: Nothing was painted.
    """
    if not study.painted:
        raise OptionError("pictures for a figure", "none", "add `transfer=True`", tensor="figure")
    pictures = {**study.sources, **study.painted}
    columns = min(SHEET_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    made = io.BytesIO()
    with _settings():
        figure = _figure(2.0 * columns, 1.75 * rows)
        for index, (label, picture) in enumerate(pictures.items(), start=1):
            axes = figure.add_subplot(rows, columns, index)
            axes.imshow(to_uint8(picture))
            axes.set_title(_short(label), fontsize=9, parse_math=False)
            axes.set_axis_off()
        _save(figure, made, format="png", dpi=100, metadata={"Software": None})
    return made.getvalue()


def error_plot(files: list[Measured], packed: tuple[str, ...]) -> str:
    """Plot content and style error against the size of the file.

    Args:
        files: With an error each, since zero has no place on a logarithmic axis.
        packed: Labels of the files that a line joins, as one family.

    Returns:
        An SVG element in the colours of the page around it.
    """
    # the same study makes the same bytes: no random names, and text as text
    settings = {"svg.fonttype": "none", "svg.hashsalt": "vggquant", **dict.fromkeys(INKED, INK)}
    with _settings(settings):
        figure = _figure(8, 4.2)
        axes = figure.add_subplot()
        _draw_points(axes, files, packed)
        _draw_axes(axes)
        made = io.StringIO()
        _save(figure, made, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = made.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(INK, "currentColor")
    return drawing.replace("<svg", '<svg role="img" aria-label="error against size"', 1)


def to_uint8(picture: Tensor) -> npt.NDArray[np.uint8]:
    """Round a picture (1, 3, H, W) in [0, 1] to (H, W, 3) in bytes."""
    pixels: npt.NDArray[np.uint8] = (255 * picture[0].clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def _draw_points(axes: Any, files: list[Measured], packed: tuple[str, ...]) -> None:
    for name, marker, color in (("content_error", "o", "C0"), ("style_error", "s", "C1")):
        points = [(file.bytes / 1e6, getattr(file, name), file.label) for file in files if getattr(file, name)]
        axes.plot(
            [x for x, _, _ in points], [y for _, y, _ in points], f"{color}{marker}", label=name.replace("_", " ")
        )
        family = [(x, y) for x, y, label in points if label in packed]
        axes.plot([x for x, _ in family], [y for _, y in family], color)
        for x, y, label in points if name == "content_error" else ():
            place = {"textcoords": "offset points", "xytext": (6, 5), "fontsize": 8}
            axes.annotate(_short(label), (x, y), parse_math=False, **place)


def _draw_axes(axes: Any) -> None:
    axes.set_yscale("log")
    axes.margins(x=0.12, y=0.12)
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    axes.set_xlabel("file, MB")
    axes.set_ylabel("error against the reference")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0)


def _figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, drawn without pyplot, which would look for a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _save(figure: Any, out: IO[Any], **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font may lack a letter of somebody's file name
        figure.tight_layout(pad=0.5)
        figure.savefig(out, **options)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
