"""What does calibration gain at each width? `python -m bench.calibration --photographs FOLDER`, about an hour.

The embedded VGG-19 is packed plainly, calibrated on the package's generated pictures, and calibrated on photographs of
a folder, which must not be those that results are shown with; and once more on these, with widths chosen for the size
of the plain file. Content and style errors are measured on the six photographs of the other benches, on the same
photographs at 262,144 pixels, and on the example pictures of this repository. Each packing runs in a process of its
own, and its time and peak memory are measured. Results are saved after each width, and a later run keeps those of the
widths that it does not name. The files packed can be kept for `bench.calibrated_transfer`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.evaluation import NAMES, photograph
from bench.machine import RESULTS, describe, save
from vggquant import load_quantized_vgg, pack
from vggquant.models.features import feature_errors
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.packing.inspection import info
from vggquant.pictures.files import read_picture

ROOT = Path(__file__).parent.parent
LAYERS = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])
SIDES = {"photographs": 256, "photographs at 512": 512, "examples": 256}
PEAK = """
import sys
from bench.machine import peak_memory
from vggquant.cli import cli
try:
    cli(sys.argv[1:])
finally:
    print(peak_memory())
"""


def measured_on(name: str) -> list[Tensor]:
    """The pictures of a column, each (1, 3, H, W)."""
    examples = [ROOT / "examples" / f"{example}.jpg" for example in ("landscape", "swirl")]
    paths = examples if name == "examples" else [photograph(file) for file in NAMES]
    return [read_picture(path, pixels=SIDES[name] ** 2).pixels for path in paths]


def errors(path: Path | None) -> dict[str, dict[str, float]]:
    """Content and style error of a file in each column, or of the reference itself."""
    reference = load_quantized_vgg(upto=LAYERS[-1])
    vgg = load_quantized_vgg(*([] if path is None else [path]), upto=LAYERS[-1])
    found = {}
    for name in SIDES:
        one = feature_errors(vgg, reference, measured_on(name), LAYERS)
        found[name] = {"content": one.content, "style": one.style}
    return found


def packed(options: Sequence[str], out: Path) -> dict[str, Any]:
    """Pack with the command, and tell what it took and what came out."""
    began = time.perf_counter()
    command = ["pack", "vgg19", str(out), *options, "--calibrate", "--force"]
    done = subprocess.run([sys.executable, "-c", PEAK, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - began
    peak = int(done.stdout.split()[-1])
    widths = "".join(str(layer.bits) for layer in info(out).layers)
    found = {"bytes": out.stat().st_size, "widths": widths, "seconds": seconds, "peak_bytes": peak}
    return {**found, "errors": errors(out)}


def measure(bits: int, photographs: str, folder: Path) -> dict[str, Any]:
    """Pack at one width in all ways, as FOLDER/BITS-WAY.safetensors."""
    plain = folder / f"{bits}-plain.safetensors"
    pack("vgg19", plain, bits=bits, force=True)
    size = plain.stat().st_size
    row: dict[str, Any] = {"bits": bits, "machine": describe(), "plain": {"bytes": size, "errors": errors(plain)}}
    ways = {
        "photographs": ("--bits", str(bits), "--images", photographs),
        "generated": ("--bits", str(bits)),
        "chosen": ("--max-size", str(size), "--images", photographs),
    }
    if bits == 1:  # there is no smaller file
        del ways["chosen"]
    for way, options in ways.items():
        row[way] = packed(options, folder / f"{bits}-{way}.safetensors")
        shown = row[way]["errors"]["photographs"]
        took = f"{row[way]['seconds']:.0f} s, {row[way]['peak_bytes'] / 1e9:.2f} GB"
        print(f"{bits} bits, {way}: {shown['content']:.4f}, {shown['style']:.4f}; {took}", flush=True)
        assert row[way]["bytes"] <= (1 if way == "chosen" else 1.03) * size
        rival = row["photographs" if way == "chosen" else "plain"]["errors"]["photographs"]
        assert shown["content"] < rival["content"], (shown, rival)
        assert shown["style"] < rival["style"], (shown, rival)
        assert row[way]["peak_bytes"] < 3e9
    return row


def main() -> None:
    """Measure the widths asked for, and keep them with those measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", required=True, help="the folder to calibrate on")
    parser.add_argument("--bits", type=int, nargs="+", default=[5, 4, 3, 2, 1])
    parser.add_argument("--keep", type=Path, help="a folder for the packed files")
    asked = parser.parse_args()
    assert all(error == 0 for column in errors(None).values() for error in column.values()), "not equal to itself"
    before = RESULTS / "calibration.json"
    rows = {row["bits"]: row for row in json.loads(before.read_text())["rows"]} if before.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for bits in asked.bits:
            rows[bits] = measure(bits, asked.photographs, folder)
            found = [rows[width] for width in sorted(rows, reverse=True)]
            save("calibration", {"pictures": NAMES, "rows": found})


if __name__ == "__main__":
    main()
