"""How good and how fast is `adain`, beside what it was pruned from? `python -m bench.any_style --help`.

Four photographs of other packages are painted in the styles of four paintings at 512 × 384, none of which a network was
trained on. The float32 weights of the training are not in the repository. A published pair of networks for phones
paints beside them, which needs `pip install ai-edge-litert`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad, relu

from bench.feedforward import Paint, fitted, milliseconds, photographs, psnr
from bench.machine import describe, save
from vggquant import load_quantized_vgg, load_stylizer, pack
from vggquant.files.sources import embedded_path, read_source
from vggquant.models.adain import AdaIN, statistics_of
from vggquant.models.features import gram_matrix, relative_error
from vggquant.models.painters import painter_of
from vggquant.networks.adain import FIRST_OF_BLOCKS
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.pictures.files import read_picture

SIZE = (384, 512)
RATE = 4.6  # bits a weight of the pruned network, packed without training
STYLES = ("040_starry_night.jpg", "038_rain_princess.jpg", "011_the_scream.jpg", "036_mosaic.jpg")
PEERS = ("style_predict_quantized_256.tflite", "style_transfer_quantized_dynamic.tflite")
LAYERS = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])
ROOT = Path(__file__).parent.parent
FIGURE, SWIRL = ROOT / "docs" / "any-style.jpg", ROOT / "examples" / "swirl.jpg"


class Peer:
    """The published pair for phones: 100 numbers of a style, and a painter that follows them."""

    def __init__(self, folder: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._predictor, self._painter = (Interpreter(model_path=str(folder / name), num_threads=2) for name in PEERS)
        self._predictor.allocate_tensors()

    def __call__(self, content: Tensor, styles: list[Tensor]) -> Tensor:
        """Paint a picture (1, 3, H, W) in the style of another."""
        small = interpolate(styles[0], (256, 256), mode="bicubic", antialias=True).clamp(0, 1)
        numbers = self._run(self._predictor, small)
        entrances = {tuple(entry["shape"])[-1]: entry["index"] for entry in self._painter.get_input_details()}
        self._painter.resize_tensor_input(entrances[3], [1, *content.shape[2:], 3])
        self._painter.allocate_tensors()
        self._painter.set_tensor(entrances[100], numbers)
        found = self._run(self._painter, content, entrances[3])
        return torch.from_numpy(found).permute(0, 3, 1, 2).clamp(0, 1)

    @staticmethod
    def _run(interpreter: Any, picture: Tensor, entrance: int | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        where = interpreter.get_input_details()[0]["index"] if entrance is None else entrance
        interpreter.set_tensor(where, picture.permute(0, 2, 3, 1).contiguous().numpy())
        interpreter.invoke()
        found: np.ndarray[Any, np.dtype[np.float32]] = interpreter.get_tensor(
            interpreter.get_output_details()[0]["index"]
        )
        return found


def quality(paint: Any, contents: Mapping[str, Tensor], styles: Mapping[str, Tensor]) -> dict[str, Any]:
    """Mean content and style error of all pairs, and the Gram errors by layer."""
    vgg = load_quantized_vgg(upto=STYLE_LAYERS[-1])
    content_errors, grams = [], []
    with torch.no_grad():
        wanted = {name: vgg(content, (CONTENT_LAYER,))[CONTENT_LAYER] for name, content in contents.items()}
        manners = {
            name: {layer: gram_matrix(x) for layer, x in vgg(style, STYLE_LAYERS).items()}
            for name, style in styles.items()
        }
        for name, content in contents.items():
            for manner, style in styles.items():
                found = vgg(paint(content, [style]), LAYERS)
                content_errors.append(relative_error(found[CONTENT_LAYER], wanted[name]))
                grams.append([relative_error(gram_matrix(found[x]), manners[manner][x]) for x in STYLE_LAYERS])
    layers = dict(zip(STYLE_LAYERS, map(statistics.mean, zip(*grams, strict=True)), strict=True))
    return {"content": statistics.mean(content_errors), "style": statistics.mean(layers.values()), "layers": layers}


def float32(path: Path) -> AdaIN:
    """The network of a float32 file."""
    painter = painter_of(read_source(path).weights)
    assert isinstance(painter, AdaIN)
    return painter


def plainly(painter: AdaIN) -> Any:
    """A network as torch computes it without further ado: channels first, and pixels doubled before convolutions."""
    weights = {name: parameter.detach().contiguous() for name, parameter in painter.named_parameters()}

    def convolved(x: Tensor, name: str) -> Tensor:
        return conv2d(pad(x, (1, 1, 1, 1), mode="reflect"), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def encode(x: Tensor) -> Tensor:
        for layer in painter.network.encoder:
            x = max_pool2d(x, 2, ceil_mode=True) if layer.name.endswith(FIRST_OF_BLOCKS) else x
            x = relu(convolved(x, layer.name))
        return x

    def paint(content: Tensor, styles: list[Tensor]) -> Tensor:
        x = encode(content)
        own, style = statistics_of(x), statistics_of(encode(styles[0]))
        x = (x - own.mean) / own.deviation * style.deviation + style.mean
        for layer in painter.network.decoder[:-1]:
            x = relu(convolved(x, layer.name))
            x = interpolate(x, scale_factor=2) if layer.name.endswith(FIRST_OF_BLOCKS) else x
        return convolved(x, painter.network.decoder[-1].name).clamp(0, 1)

    return paint


def figure(paints: Mapping[str, Any], contents: Mapping[str, Tensor], styles: Mapping[str, Tensor]) -> None:
    """Content, style, and what the original, the pruned and the packed network make of them.

    Of the paintings only the names are shown, since they are not the project's to distribute.
    """
    swirl = read_picture(SWIRL, pixels=math.prod(SIZE)).pixels
    rows = []
    pairs = [
        ("chelsea", "swirl", swirl),
        ("coffee", STYLES[0], styles[STYLES[0]]),
        ("china", STYLES[2], styles[STYLES[2]]),
    ]
    for name, title, style in pairs:
        shown = fitted(style, SIZE) if title == "swirl" else _words(title[4:-4].replace("_", " "))
        painted = [paint(contents[name], [style]) for paint in paints.values()]
        rows.append(torch.cat([contents[name], shown, *painted], 3))
    pixels = (255 * torch.cat(rows, 2)[0].permute(1, 2, 0)).round().byte().numpy()
    whole = Image.fromarray(pixels)
    whole.resize((1280, round(1280 * whole.height / whole.width)), Image.Resampling.LANCZOS).save(FIGURE, quality=82)


def _words(words: str) -> Tensor:
    image = Image.new("RGB", (SIZE[1], SIZE[0]), "white")
    ImageDraw.Draw(image).text((SIZE[1] // 2, SIZE[0] // 2), words, "black", font_size=48, anchor="mm")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def main() -> None:
    """Paint, measure, write the JSON and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True, help=f"where {', '.join(STYLES)} are")
    parser.add_argument("--original", type=Path, required=True, help="the network before it was pruned, in float32")
    parser.add_argument("--pruned", type=Path, required=True, help="the network that was packed as adain, in float32")
    parser.add_argument("--peers", type=Path, help=f"where {' and '.join(PEERS)} are")
    asked = parser.parse_args()
    contents = {name: fitted(picture, SIZE) for name, picture in photographs().items()}
    styles = {name: read_picture(asked.paintings / name, pixels=math.prod(SIZE)).pixels for name in STYLES}
    ours: dict[str, Any] = {"original": float32(asked.original), "pruned": float32(asked.pruned)}
    with tempfile.TemporaryDirectory() as folder:
        pack(asked.pruned, coded := Path(folder) / "coded", rate=RATE)
        ours["coded"], coded_size = load_stylizer(coded), coded.stat().st_size
    ours["adain"] = load_stylizer("adain")
    paints = {"untouched": lambda content, _: content, **ours}
    if asked.peers:
        paints["peer"] = Peer(asked.peers)
    result: dict[str, Any] = {"machine": describe(), "quality": {}}
    for name, paint in paints.items():
        result["quality"][name] = quality(paint, contents, styles)
        print(name, result["quality"][name])
    assert result["quality"]["untouched"]["content"] == 0
    for error in ("content", "style"):
        assert result["quality"]["pruned"][error] < 1.08 * result["quality"]["original"][error]
        assert result["quality"]["adain"][error] < 1.03 * result["quality"]["pruned"][error]
    first, style = contents["chelsea"], styles[STYLES[0]]

    def with_style(paint: Any) -> Paint:
        return lambda content: paint(content, [style])

    timed = {name: with_style(paint) for name, paint in paints.items() if name != "untouched"}
    with torch.inference_mode():
        plain = plainly(ours["original"])
        assert float((plain(first, [style]) - ours["original"](first, [style])).abs().max()) < 1e-3
        result["milliseconds"] = milliseconds({"plain": with_style(plain), **timed}, first)
        pairs = [(content, [style]) for content in contents.values() for style in styles.values()]
        result["psnr"] = {
            name: [psnr(ours[name](*pair), ours["pruned"](*pair)) for pair in pairs] for name in ("coded", "adain")
        }
        figure({name: ours[name] for name in ("original", "pruned", "adain")}, contents, styles)
    result["weights"] = {name: painter.network.parameters for name, painter in ours.items()}
    result["bytes"] = {
        "original": asked.original.stat().st_size,
        "pruned": asked.pruned.stat().st_size,
        "coded": coded_size,
        "adain": embedded_path("adain").stat().st_size,
        **({"peer": sum((asked.peers / name).stat().st_size for name in PEERS)} if asked.peers else {}),
    }
    print(result["milliseconds"], min(result["psnr"]["coded"]), result["bytes"])
    save("any_style", result)


if __name__ == "__main__":
    main()
