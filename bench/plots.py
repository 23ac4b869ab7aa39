"""Draw the plot of bench/README.md from bench/results: `python -m bench.plots`.

The benchmark that measures calls this too; run it alone to draw a committed result again.
"""

from __future__ import annotations

import json
from typing import Any

from bench.machine import RESULTS


def draw_load_time(result: dict[str, Any]) -> None:
    """Draw time against width, beside safetensors' and torch's."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "vggquant"  # the same names in every file
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if "huffman" not in row["file"]]
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    threads = result["machine"]["threads"]
    for kind, label in (
        ("warm", f"warm, {threads} threads"),
        ("one_thread", "warm, one thread"),
        ("fresh", "first in a process"),
    ):
        times = [1e3 * row[kind]["median"] for row in rows]
        axes.plot([int(row["file"][0]) for row in rows], times, marker="o", label=f"vggquant, {label}")
    for name, style in (("safetensors", "--"), ("torch", ":")):
        level = 1e3 * result["peers"][name]["warm"]["median"]
        axes.axhline(level, color="0.4", linestyle=style, label=f"{name}, float32 file, warm")
    axes.set(xlabel="bits", ylabel="ms for a whole load of VGG-19", ylim=(0, None))
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(RESULTS / "load_time.svg", metadata={"Date": None})


def main() -> None:
    """Draw the committed result."""
    draw_load_time(json.loads((RESULTS / "load_time.json").read_text()))
    print(f"drew {RESULTS / 'load_time.svg'}")


if __name__ == "__main__":
    main()
