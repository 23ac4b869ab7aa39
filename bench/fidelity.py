"""What does each width cost where style transfer looks? `python -m bench.fidelity`, about twelve minutes.

Errors are measured on six photographs. A file must differ in nothing from itself, and plain k-means must give the
errors that it gave when this project began. The pictures in the repository are painted at each width, for
docs/fidelity.jpg.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from bench.machine import describe, save
from vggquant.comparison.drawing import contact_sheet
from vggquant.comparison.study import TRANSFER, compare
from vggquant.models.load import load_quantized_vgg
from vggquant.style.transfer import picture_loss, stylize

ROOT = Path(__file__).parent.parent
FIGURE = ROOT / "docs" / "fidelity.jpg"
WIDTHS = range(8, 0, -1)
WITHIN = 0.03
ROUNDING = 0.0005  # half a unit in the last place of the known Gram errors
CHANCES = 4
# content error and Gram errors at relu1_1 … relu5_1, of a plain k-means on these weights and photographs
KNOWN = {
    7: (0.0295, 0.013, 0.023, 0.028, 0.023, 0.032),
    6: (0.0564, 0.030, 0.057, 0.063, 0.053, 0.070),
    5: (0.1064, 0.060, 0.087, 0.090, 0.117, 0.183),
    4: (0.2235, 0.139, 0.143, 0.180, 0.274, 0.440),
    3: (0.5489, 0.294, 0.309, 0.486, 0.677, 0.848),
    2: (0.8761, 0.613, 0.554, 0.814, 0.955, 0.996),
}


def against_known(files: list[dict[str, Any]]) -> dict[int, float]:
    """Find the largest relative difference from the known errors, by width, beyond what rounding explains."""
    found = {}
    for bits, known in KNOWN.items():
        file = next(file for file in files if file["label"] == f"{bits}-bit")
        measured = (file["content_error"], *file["gram_error"].values())
        found[bits] = max(
            max(0.0, abs(ours - theirs) - ROUNDING) / theirs for ours, theirs in zip(measured, known, strict=True)
        )
    return found


def regrets_by_chance(content: Tensor, style: Tensor, loss: float) -> list[float]:
    """Measure regrets of the reference itself, from starts that differ by at most half of a 255th."""
    vgg = load_quantized_vgg()
    found = []
    for seed in range(CHANCES):
        torch.manual_seed(seed)
        start = (content + (torch.rand_like(content) - 0.5) / 255).clamp(0, 1)
        painted = stylize(vgg, content, [style], TRANSFER, start=start)
        found.append(picture_loss(vgg, content, [style], painted, TRANSFER) / loss)
    return found


def main() -> None:
    """Measure, write the JSON, and draw the picture."""
    itself = compare("vgg19", ["vgg19"], images="scikit-image").files[0]
    assert itself.content_error == itself.style_error == 0
    assert itself.sqnr_db is None
    started = time.perf_counter()
    plain = compare("vgg19", widths=WIDTHS, images="scikit-image")
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    study = compare(
        "vgg19",
        widths=WIDTHS,
        images="scikit-image",
        transfer=True,
        content=ROOT / "examples" / "landscape.jpg",
        style=ROOT / "examples" / "swirl.jpg",
        progress=lambda report: print(f"\r{report.done} of {report.total}, {report.detail}", end="", flush=True),
    )
    whole_seconds = time.perf_counter() - started
    numbers = study.numbers
    for once, twice in zip(plain.numbers["files"], numbers["files"], strict=True):
        same = [key for key in once if not key.startswith(("load", "transfer"))]
        assert {key: once[key] for key in same} == {key: twice[key] for key in same}, "measured twice, not equal"
    off = against_known(numbers["files"])
    assert max(off.values()) <= WITHIN, off
    painting = study.sources
    assert study.reference.transfer_loss is not None
    chance = regrets_by_chance(painting["content"], painting["style"], study.reference.transfer_loss)
    print(f"\nstudy {seconds:.0f} s, with transfers {whole_seconds:.0f} s; off the known rows by", off)
    result = {
        "machine": describe(),
        "seconds": seconds,
        "seconds_with_transfers": whole_seconds,
        "steps": TRANSFER.steps,
        "off_the_known": off,
        "regrets_by_chance": chance,
        **numbers,
    }
    save("fidelity", result)
    with Image.open(io.BytesIO(contact_sheet(study))) as sheet:  # as JPEG it has a third of its size
        sheet.convert("RGB").save(FIGURE, quality=92, subsampling=0)


if __name__ == "__main__":
    main()
