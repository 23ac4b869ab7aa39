"""Words sizes, signal-to-noise ratios and interrupts for people; printing them is left to `cli` and `comparison`."""

from __future__ import annotations

import math

SQNR = "SQNR: signal-to-quantization-noise ratio of the weights; about 6 dB are one bit"
INTERRUPTED = "Interrupted; every file is the old one or a whole new one."


def megabytes(count: int) -> str:
    """Say a number of bytes in MB of 10⁶, or in kB of 10³ where little is left of an MB."""
    return f"{count / 1e6:.2f} MB" if count >= 10**5 else f"{count / 1e3:.2f} kB"


def decibels(ratio: float | None, lossless: bool | None, digits: int = 2) -> str:
    """Say what is known of a loss: an SQNR in dB, ``lossless``, or ``-`` if nothing was compared.

    Args:
        ratio: The SQNR in dB; ``None`` or infinite where no number can tell it.
        lossless: Whether nothing was lost; ``None`` if nothing was compared.
        digits: After the point.
    """
    if lossless is None:
        return "-"
    if lossless:
        return "lossless"
    # without a ratio there is noise all the same: on weights that should be zero, all of them
    return "-∞ dB" if ratio is None or math.isinf(ratio) else f"{ratio:.{digits}f} dB"
