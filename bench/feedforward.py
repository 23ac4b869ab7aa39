"""How do networks that paint in one pass compare? `python -m bench.feedforward --paintings FOLDER --peer FILE`.

The embedded `starry` paints four photographs of other packages at 640 × 480 pixels beside a published network for the
same painting, which needs `pip install ai-edge-litert`. Then `starry` is timed beside the optimisation, and packed
painters are compared with themselves in float32. Networks of other widths and depths are the subject of `continuum`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import interpolate

from bench.evaluation import photograph
from bench.machine import describe, save
from vggquant import load_quantized_vgg, load_stylizer, stylize
from vggquant.files.container import write
from vggquant.files.sources import embedded_path
from vggquant.models.features import gram_matrix, relative_error
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.pictures.files import Picture, read_picture, write_picture
from vggquant.style.options import StyleOptions
from vggquant.training.packing import palettized, unquantized

SIZE = (480, 640)
STEPS = 500  # of the optimisation
ROUNDS = 15
Paint = Callable[[Tensor], Tensor]


def photographs() -> dict[str, Tensor]:
    """Four photographs that no painter was trained on, (1, 3, 480, 640)."""
    china, flower = load_sample_images().images
    found = {name: read_picture(photograph(f"{name}.png")).pixels for name in ("chelsea", "coffee")}
    for name, array in (("china", china), ("flower", flower)):
        found[name] = torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255
    return {name: fitted(picture) for name, picture in found.items()}


def fitted(picture: Tensor, size: tuple[int, int] = SIZE) -> Tensor:
    """The middle of a picture, resized to a height and width."""
    scale = max(wanted / had for wanted, had in zip(size, picture.shape[2:], strict=True))
    height, width = (math.ceil(scale * side) for side in picture.shape[2:])
    resized = interpolate(picture, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return resized[:, :, top : top + size[0], left : left + size[1]].contiguous()


def deviation(picture: Tensor) -> float:
    """The standard deviation of yellow against blue, (R + G) / 2 − B, in 0–255."""
    red, green, blue = 255 * picture[0]
    return float(((red + green) / 2 - blue).std())


def quality(paint: Paint, contents: dict[str, Tensor], style: Tensor) -> dict[str, float]:
    """Content and style error of paintings, and how far their colours spread; means over the photographs."""
    vgg = load_quantized_vgg(upto=STYLE_LAYERS[-1])
    layers = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])
    rows = []
    with torch.no_grad():
        wanted = {layer: gram_matrix(x) for layer, x in vgg(style, STYLE_LAYERS).items()}
        for content in contents.values():
            painting = paint(content)
            found = vgg(painting, layers)
            errors = [relative_error(gram_matrix(found[layer]), gram) for layer, gram in wanted.items()]
            content_error = relative_error(found[CONTENT_LAYER], vgg(content, (CONTENT_LAYER,))[CONTENT_LAYER])
            rows.append((content_error, statistics.mean(errors), deviation(painting)))
    return dict(
        zip(("content", "style", "yellow_against_blue"), map(statistics.mean, zip(*rows, strict=True)), strict=True)
    )


def peer(path: str) -> Paint:
    """The published network, whose pictures are 480 wide and 640 high."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=2)
    interpreter.allocate_tensors()
    entrance, exit_ = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def paint(content: Tensor) -> Tensor:
        turned = np.rot90(255 * content[0].permute(1, 2, 0).numpy()).astype(np.float32)
        interpreter.set_tensor(entrance, np.ascontiguousarray(turned)[None])
        interpreter.invoke()
        found = np.rot90(interpreter.get_tensor(exit_)[0], -1)
        return torch.from_numpy(found.copy()).permute(2, 0, 1)[None].clamp(0, 255) / 255

    return paint


def psnr(found: Tensor, expected: Tensor) -> float:
    """In dB, for pictures in [0, 1]."""
    return -10 * math.log10(float((found - expected).square().mean()))


def milliseconds(paints: dict[str, Paint], content: Tensor) -> dict[str, float]:
    """Medians of interleaved runs."""
    taken: dict[str, list[float]] = {name: [] for name in paints}
    for round_ in range(ROUNDS + 2):  # two to warm up
        for name, paint in paints.items():
            began = time.perf_counter()
            paint(content)
            if round_ > 1:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(times) for name, times in taken.items()}


def optimisation(content: Tensor, style: Tensor) -> float:
    """Seconds that 500 steps of the optimisation take, by those between the second and the tenth."""
    vgg = load_quantized_vgg(upto=STYLE_LAYERS[-1])
    moments: list[float] = []
    stylize(
        vgg, content, [style], StyleOptions(steps=10, scales=1), progress=lambda _: moments.append(time.perf_counter())
    )
    return STEPS * (moments[-1] - moments[1]) / (len(moments) - 2)


def packed(folder: Path, contents: dict[str, Tensor]) -> list[dict[str, Any]]:
    """PSNR of paintings of packed painters against those of the same in float32, of which checkpoints tell."""
    rows = []
    for path in sorted(folder.glob("*.checkpoint")):
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = JohnsonNetwork.stock(*(state["options"][name] for name in ("network", "alpha", "blocks")))
        painter = Johnson(network).eval().requires_grad_(False)
        painter.load_state_dict(state["state"]["painter"])
        row: dict[str, Any] = {"painter": path.stem}
        for bits in (8, 6, 5, 4):
            with tempfile.TemporaryDirectory() as temporary:
                write(file := Path(temporary) / "painter", palettized(unquantized(painter, ""), bits, None))
                coarse = load_stylizer(file)
            row[str(bits)] = statistics.mean(psnr(coarse(content), painter(content)) for content in contents.values())
        rows.append(row)
    return rows


def main() -> None:
    """Paint, measure, write the JSON, and the paintings for the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True, help="where starry_night.jpg is")
    parser.add_argument("--peer", help="fritz_starry_night_640x480_025.tflite")
    parser.add_argument("--checkpoints", type=Path, help="of the trainings of the embedded painters")
    asked = parser.parse_args()
    contents = photographs()
    style = read_picture(asked.paintings / "starry_night.jpg", pixels=SIZE[0] * SIZE[1]).pixels
    paints: dict[str, Paint] = {"untouched": lambda content: content, "starry": load_stylizer("starry")}
    if asked.peer:
        paints["peer"] = peer(asked.peer)
    result: dict[str, Any] = {"machine": describe(), "yellow_against_blue_of_the_painting": deviation(style)}
    result["quality"] = {name: quality(paint, contents, style) for name, paint in paints.items()}
    print(result["quality"])
    assert result["quality"]["untouched"]["content"] == 0
    first = next(iter(contents.values()))
    result["milliseconds"] = milliseconds({name: paint for name, paint in paints.items() if name != "untouched"}, first)
    result["bytes"] = {"starry": embedded_path("starry").stat().st_size}
    if asked.peer:
        result["bytes"]["peer"] = Path(asked.peer).stat().st_size
    result["optimisation_s"] = optimisation(first, style)
    if asked.checkpoints:
        result["psnr"] = packed(asked.checkpoints, contents)
    save("feedforward", result)
    for name, paint in paints.items():
        for picture, content in contents.items():
            write_picture(Path(tempfile.gettempdir()) / f"{picture}-{name}.png", Picture(paint(content)), force=True)


if __name__ == "__main__":
    main()
