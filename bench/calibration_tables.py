"""The tables of docs/calibration.md and of what README.md says of calibration. Pages are left to `tables`."""

from __future__ import annotations

from typing import Any

from bench.markdown import files, load, mb, prose, span, table, when

WAYS = ("plain", "generated", "photographs")
METRICS = ("content", "style")


def _measured(result: Any, page: str) -> str:
    rows = result["rows"]
    return (
        f"Measured by `python -m bench.calibration` on {when(rows[-1])} ([JSON]({page}bench/results/calibration.json))."
    )


def _errors(row: Any, pictures: str, ways: tuple[str, ...], digits: int) -> list[str]:
    return [f"{row[way]['errors'][pictures][metric]:.{digits}f}" for metric in METRICS for way in ways]


def calibration() -> str:
    """What calibration gains at each width."""
    result = load("calibration")
    rows = [
        [row["bits"], mb(row["photographs"]["bytes"]), *_errors(row, "photographs", WAYS, 4)] for row in result["rows"]
    ]
    header = (
        "| bits | file | content error: plain k-means | calibrated on generated pictures | on photographs "
        "| style error: plain k-means | on generated pictures | on photographs |"
    )
    runs = [row[way] for row in result["rows"] for way in (*WAYS[1:], "chosen") if way in row]
    return table(header, rows) + prose(
        "The errors are those of [What each width costs](fidelity.md), on six photographs of scikit-image's package at "
        f"65,536 pixels. Packing takes {span(run['seconds'] for run in runs)} seconds and up to "
        f"{max(run['peak_bytes'] for run in runs) / 1e9:.1f} GB of memory. {_measured(result, '../')}"
    )


def calibration_elsewhere() -> str:
    """The same on larger and on other pictures."""
    result, ways = load("calibration"), ("plain", "photographs")
    rows = [
        [row["bits"], *(cell for name in ("photographs at 512", "examples") for cell in _errors(row, name, ways, 4))]
        for row in result["rows"]
    ]
    header = (
        "| bits | at 512 × 512, content error: plain | calibrated | style error: plain | calibrated "
        "| example pictures, content error: plain | calibrated | style error: plain | calibrated |"
    )
    return table(header, rows) + prose(
        "The same photographs at 262,144 pixels, and the two example pictures of this repository. Calibrated on "
        "photographs."
    )


def calibration_sizes() -> str:
    """Widths chosen for calibration against one width for all."""
    result, ways = load("calibration"), ("photographs", "chosen")
    rows = [
        [
            f"{row['bits']} bits, {mb(row['plain']['bytes'])}",
            *(mb(row[way]["bytes"]) for way in ways),
            *_errors(row, "photographs", ways, 4),
            f"`{row['chosen']['widths']}`",
        ]
        for row in result["rows"]
        if "chosen" in row
    ]
    header = (
        "| `--max-size` | one width: file | chosen: file | content error: one width | chosen "
        "| style error: one width | chosen | widths |"
    )
    return table(header, rows) + prose("Calibrated on photographs, and measured as above.")


def regrets() -> str:
    """How calibrated files paint beside plain ones."""
    result = load("calibrated_transfer")
    return files(result["files"]) + prose(
        f"Transfers are of the pictures in the repository, with {result['steps']} steps each. "
        f"Measured by `python -m bench.calibrated_transfer` on {when(result)} "
        "([JSON](../bench/results/calibrated_transfer.json))."
    )
