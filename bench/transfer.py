"""How does the transfer compare with pastiche's, on the same pictures? `python -m bench.transfer`, about half an hour.

The losses must start equal, and after 100 steps ours may be at most 2% higher. Then it measures the time of a step, the
time until the loss that pastiche has after 500 steps at 512 pixels, and peak memory in fresh processes. One function
computes the losses of all finished pictures, under the reference weights in float32.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.evaluation import photograph
from bench.machine import describe, peak_memory, save, touch_memory
from vggquant.models.vgg import VGG
from vggquant.networks.vgg import CAFFE_MEAN
from vggquant.pictures.files import read_picture
from vggquant.style.loading import load_network
from vggquant.style.options import Precision, StyleOptions
from vggquant.style.transfer import StyleProgress, picture_loss, stylize

STYLE = Path(__file__).parent.parent / "examples" / "swirl.jpg"
STEP_SIDE, STEP_ROUNDS, STEPS_A_ROUND = 320, 5, 4
CURVE_SIDE, CURVE_STEPS = 256, 100
LONG_SIDE, LONG_STEPS = 512, 500
OUR_STEPS = 560  # in three scales: 80, 160 and 320
MEMORY_STEPS = 110  # more than the history of L-BFGS holds
PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")
NETWORKS: dict[Precision, VGG] = {}

MEMORY = """
import sys
from bench.transfer import memory
print(memory(*sys.argv[1:]))
"""


def network(precision: Precision) -> VGG:
    """Load the embedded VGG-19 as the command line does, once for each precision."""
    if precision not in NETWORKS:
        NETWORKS[precision] = load_network(precision, upto="relu5_1")
    return NETWORKS[precision]


def write_pictures(folder: str, side: int) -> tuple[str, str]:
    """Write the content, scikit-image's coffee, and a style of as many pixels, as files that pastiche can read too."""
    paths = (f"{folder}/content-{side}.png", f"{folder}/style-{side}.png")
    with Image.open(photograph("coffee.png")) as content, Image.open(STYLE) as style:
        size = (side, round(side * content.height / content.width))
        content.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(paths[0])
        height = round((size[0] * size[1] * style.height / style.width) ** 0.5)
        style.convert("RGB").resize((round(height * style.width / style.height), height)).save(paths[1])
    return paths


def artist(paths: tuple[str, str]) -> Any:
    """Prepare pastiche's optimisation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pastiche.pastiche import PasticheArtist

        found = PasticheArtist(paths[0], [paths[1]], device="cpu")
    with Image.open(paths[1]) as style:
        assert found.style_sizes == [[style.height, style.width]]
    return found


def painted(theirs: Any) -> Tensor:
    """Convert pastiche's picture to RGB in [0, 1]."""
    caffe = theirs.pastiche.detach() + torch.tensor(CAFFE_MEAN).reshape(3, 1, 1)
    pixels: Tensor = caffe.flip(1) / 255
    return pixels


def run(
    paths: tuple[str, str], options: StyleOptions, progress: Callable[[StyleProgress], None] | None = None
) -> Tensor:
    """Paint the same files with vggquant."""
    content, style = (read_picture(path).pixels for path in paths)
    return stylize(network(options.precision), content, [style], options, progress=progress)


def reference_loss(paths: tuple[str, str], found: Tensor) -> float:
    """Compute the loss of a finished picture, whoever painted it."""
    content, style = (read_picture(path).pixels for path in paths)
    return picture_loss(network("float32"), content, [style], found)


def check_curves(paths: tuple[str, str]) -> dict[str, float]:
    """Check that losses start equal, and are no higher than pastiche's after 100 steps, in both precisions."""
    theirs = artist(paths)
    expected = [theirs.loss]
    for _ in range(CURVE_STEPS):
        theirs.draw()
    found = {"pastiche": reference_loss(paths, painted(theirs))}
    for precision in PRECISIONS:
        seen: list[StyleProgress] = []
        result = run(paths, StyleOptions(steps=CURVE_STEPS, scales=1, precision=precision), seen.append)
        loss = seen[0].values["loss"]
        assert abs(loss / expected[0] - 1) < (1e-4 if precision == "float32" else 0.02), (loss, expected[0])
        found[precision] = reference_loss(paths, result)
    assert found["float32"] < 1.02 * found["pastiche"], found
    assert found["bf16"] < 1.02 * found["float32"], found
    return found


def step_costs(paths: tuple[str, str]) -> dict[str, dict[str, float]]:
    """Time single steps, in turn."""
    times: dict[str, list[float]] = {"pastiche": [], "float32": [], "bf16": []}
    theirs = artist(paths)
    for _ in range(STEP_ROUNDS):
        for _ in range(STEPS_A_ROUND):
            started = time.perf_counter()
            theirs.draw()
            times["pastiche"].append(time.perf_counter() - started)
        for precision in PRECISIONS:
            seen: list[StyleProgress] = []
            run(paths, StyleOptions(steps=STEPS_A_ROUND + 1, scales=1, precision=precision), seen.append)
            times[precision] += np.diff([report.elapsed for report in seen]).tolist()
    return {name: {"minimum": min(found), "median": float(np.median(found))} for name, found in times.items()}


def time_to_loss(paths: tuple[str, str]) -> dict[str, Any]:
    """Time whole transfers, ours from coarse to fine in bf16, with their preparation but without loading networks."""
    started = time.perf_counter()
    theirs = artist(paths)
    for step in range(LONG_STEPS):
        theirs.draw()
        print(f"pastiche {step + 1} {theirs.loss:.5g} {time.perf_counter() - started:.0f} s", file=sys.stderr)
    seconds = time.perf_counter() - started
    target = reference_loss(paths, painted(theirs))
    options = StyleOptions(steps=OUR_STEPS, precision="bf16")
    curve: list[tuple[float, StyleProgress]] = []
    network("bf16")
    started = time.perf_counter()
    result = run(paths, options, lambda report: curve.append((time.perf_counter() - started, report)))
    ours = time.perf_counter() - started
    reached = reference_loss(paths, result)
    assert reached <= target, (reached, target)
    # when our own loss was first as low at the full size; the finished picture was checked above
    full = [(at, report.values["loss"]) for at, report in curve if report.detail == curve[-1][1].detail]
    when = next((at for at, loss in full if loss <= target), ours)
    return {
        "pastiche_s": seconds,
        "pastiche_steps": LONG_STEPS,
        "ours_steps": OUR_STEPS,
        "pastiche_loss": target,
        "ours_s": ours,
        "ours_loss": reached,
        "reached_s": when,
        "ratio": ours / seconds,
        "reached_ratio": when / seconds,
    }


def memory(who: Literal["pastiche"] | Precision, content: str, style: str) -> int:
    """Measure the peak memory of this whole process, after enough steps to fill the optimiser's history."""
    if who == "pastiche":
        theirs = artist((content, style))
        for _ in range(MEMORY_STEPS):
            theirs.draw()
    else:
        run((content, style), StyleOptions(steps=MEMORY_STEPS, scales=1, precision=who))
    return peak_memory()


def main() -> None:
    """Print the results and write the JSON."""
    touch_memory()
    with tempfile.TemporaryDirectory() as folder:
        paths = {side: write_pictures(folder, side) for side in (STEP_SIDE, CURVE_SIDE, LONG_SIDE)}
        result: dict[str, Any] = {"machine": {**describe("pastiche"), "threads": torch.get_num_threads()}}
        result["loss_after_100"] = check_curves(paths[CURVE_SIDE])
        print(json.dumps(result["loss_after_100"]), flush=True)
        result["step"] = step_costs(paths[STEP_SIDE])
        print(json.dumps(result["step"]), flush=True)
        result["memory"] = {
            who: int(subprocess.check_output([sys.executable, "-c", MEMORY, who, *paths[STEP_SIDE]], text=True))
            for who in ("pastiche", "float32", "bf16")
        }
        print(json.dumps(result["memory"]), flush=True)
        result["to_loss"] = time_to_loss(paths[LONG_SIDE])
        print(json.dumps(result["to_loss"]), flush=True)
    save("transfer", result)


if __name__ == "__main__":
    main()
