"""A file's figures in words, one row of the table that the terminal and the page both show."""

from __future__ import annotations

from vggquant.comparison.measuring import Measured
from vggquant.wording import decibels, megabytes

COLUMNS = ("", "file", "in a wheel", "bits a weight", "SQNR", "content error", "style error", "regret", "load")


def columns_of(file: Measured) -> tuple[str, ...]:
    """Word a file's figures as a row under `COLUMNS`."""
    return (
        file.label,
        megabytes(file.bytes),
        "-" if file.wheel_bytes is None else megabytes(file.wheel_bytes),
        "-" if file.bits_per_weight is None else f"{file.bits_per_weight:.2f}",
        decibels(file.sqnr_db, file.lossless, digits=1),
        error_text(file.content_error),
        error_text(file.style_error),
        "-" if file.transfer_regret is None else f"{file.transfer_regret:.3f}",
        "-" if file.load_s is None else f"{1000 * file.load_s:.0f} ms",
    )


def error_text(error: float | None) -> str:
    """Word a relative error: ``-`` if it is unknown, and ``0`` only if nothing differs at all."""
    return "-" if error is None else "0" if error == 0 else f"{error:.4f}"
