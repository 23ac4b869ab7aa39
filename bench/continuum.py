"""What do width and depth of a network that paints buy? `python -m bench.continuum STYLE PHOTOGRAPHS --keep FOLDER`.

Johnson's network is trained at several widths and depths for the same few steps, and `tiny` beside it. Then all of them
paint four photographs of other packages at 640 × 480 pixels: how far the results are from content and style, how long
one takes, interleaved in one run, and how large the files are. What is trained is kept, so a second run only measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from bench.feedforward import SIZE, milliseconds, photographs, quality
from bench.machine import describe, save
from vggquant import load_stylizer, pack
from vggquant.pictures.files import read_picture
from vggquant.training import TrainingOptions, train

ALPHAS, BLOCKS = (1.0, 0.5, 0.3, 0.2), (5, 3)
NETWORKS = [("johnson", alpha, blocks) for alpha in ALPHAS for blocks in BLOCKS] + [("tiny", 0.3, 3)]
TRAINING = TrainingOptions(
    steps=80, size=128, batch=2, style_pixels=SIZE[0] * SIZE[1], content_weight=1.5, precision="float32"
)
FIGURE = Path(__file__).parent.parent / "docs" / "continuum.png"


def trained(style: Path, images: Path, keep: Path, network: tuple[str, float, int]) -> Path:
    """The file of a network that was trained, now or in an earlier run."""
    name, alpha, blocks = network
    out = keep / f"{name}-{alpha}-{blocks}.safetensors"
    if not out.exists():
        options = TrainingOptions(**{**TRAINING.__dict__, "network": name, "alpha": alpha, "blocks": blocks})
        print(train(style, out, options, images=images))
    return out


def plotted(rows: list[dict[str, Any]]) -> None:
    """Error against time, each point with its network."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for row in rows:
        error = (row["content"] + row["style"]) / 2
        axes.scatter(row["milliseconds"], error, s=row["bytes_at_8"] / 2000, alpha=0.6)
        axes.annotate(
            row["network"], (row["milliseconds"], error), fontsize=8, xytext=(6, 4), textcoords="offset points"
        )
    axes.set(
        xscale="log",
        xlim=(70, 3000),
        xlabel="milliseconds for 640 × 480 pixels",
        ylabel="mean of content and style error",
        title=f"Width and depth, after {TRAINING.steps} steps of training (areas: size of the file)",
    )
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Train what is not there yet, measure, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="folder of trained networks")
    parser.add_argument("--train", action="store_true", help="train and measure nothing, as measuring needs quiet")
    asked = parser.parse_args()
    files = {network: trained(asked.style, asked.photographs, asked.keep, network) for network in NETWORKS}
    if asked.train:
        return
    contents, style = photographs(), read_picture(asked.style, pixels=SIZE[0] * SIZE[1]).pixels
    painters = {
        f"{name} α={alpha} B={blocks}": load_stylizer(files[name, alpha, blocks]) for name, alpha, blocks in files
    }
    times = milliseconds(dict(painters), next(iter(contents.values())))
    rows = []
    for (name, painter), file in zip(painters.items(), files.values(), strict=True):
        pack(file, five := file.with_suffix(".5"), bits=5, force=True)
        row = {
            "network": name,
            "weights": painter.network.parameters,
            "bytes_at_8": file.stat().st_size,
            "bytes_at_5": five.stat().st_size,
            "milliseconds": times[name],
            **quality(painter, contents, style),
        }
        rows.append(row)
        print(row)
    save("continuum", {"machine": describe(), "training": TRAINING.__dict__, "rows": rows})
    plotted(rows)


if __name__ == "__main__":
    main()
