"""How good, small and fast is `arbitrary`, beside its teacher and beside itself? `python -m bench.arbitrary --help`.

Four photographs of other packages are painted in the styles of four paintings at 512 × 384, none of which a network was
trained on. The float32 networks of the distillation are not in the repository; `pack_arbitrary` says what they are.
Beside them lie three transfer networks by which the VGG's loss is judged: `arbitrary-before.safetensors`, and what
became of it in 100 steps, `arbitrary-pixels.safetensors` by pixels alone and `arbitrary-both.safetensors` with that
loss. The teacher, a published int8 pair for phones, needs `pip install ai-edge-litert`, and is left out without
`--peers`.
Inception-v3 is the architecture of torchvision with random weights, left out without `--inception`, a TorchScript file:

    python -c "import torch, torchvision; network = torchvision.models.inception_v3(init_weights=False).eval(); \
        torch.jit.trace(network, torch.rand(1, 3, 256, 256), check_trace=False).save('inception.pt')"
"""

from __future__ import annotations

import argparse
import math
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.any_style import PEERS, SIZE, STYLES, Peer, quality
from bench.feedforward import Paint, fitted, milliseconds, photographs, psnr
from bench.machine import describe, save
from bench.magenta import browser_transfer, phone_predictor, phone_transfer
from bench.pack_arbitrary import distilled
from vggquant import load_stylizer
from vggquant.files.sources import embedded_path
from vggquant.models.arbitrary import Arbitrary, seen
from vggquant.models.layout import lay_channels_last
from vggquant.pictures.files import read_picture

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = 100  # in which the VGG's loss shows what it brings


def against_peer(folder: Path, content: Tensor, style: Tensor) -> dict[str, float]:
    """How far our modules with the published weights are from what is published: 100 numbers, and a painting in dB."""
    from bench.magenta import interpreters

    predict, paint = interpreters(folder, 2)
    small = seen(style)
    numbers = predict(small)
    found = phone_predictor(folder)(small)
    share = float((found - numbers).square().mean() / numbers.var())
    ratio = psnr(phone_transfer(folder)(content, numbers), paint(content, numbers))
    assert share < 0.05, share
    assert ratio > 25, ratio
    painted = browser_transfer(folder)(content, numbers)  # other weights, whose numbers mean something else
    assert painted.shape == content.shape
    return {"share_of_variance": share, "psnr": ratio}


def strengths(painter: Arbitrary, contents: dict[str, Tensor], styles: dict[str, Tensor]) -> list[dict[str, float]]:
    """Content and style error at each strength."""
    rows = []
    for strength in STRENGTHS:

        def paint(content: Tensor, given: list[Tensor], strength: float = strength) -> Tensor:
            painted: Tensor = painter(content, given, strength=strength)
            return painted

        found = quality(paint, contents, styles)
        rows.append({"strength": strength, "content": found["content"], "style": found["style"]})
    for lower, higher in pairwise(rows):
        assert lower["style"] > higher["style"], rows
        assert lower["content"] < higher["content"], rows
    return rows


def vgg_term(folder: Path, contents: dict[str, Tensor], styles: dict[str, Tensor]) -> dict[str, Any]:
    """Errors before some steps of a distillation, after them by pixels alone, and with the VGG's loss too."""
    found: dict[str, Any] = {"steps": STEPS}
    for name in ("before", "pixels", "both"):
        painter = distilled(folder, "separable")
        painter.transfer.load_state_dict(load_file(folder / f"arbitrary-{name}.safetensors"))
        found[name] = quality(painter, contents, styles)
    assert found["both"]["style"] < found["pixels"]["style"], found
    return found


def sizes(painters: dict[str, Arbitrary]) -> dict[str, int]:
    """Bytes of the transfer networks alone, in float32."""
    return {
        name: 4 * sum(tensor.numel() for tensor in painter.transfer.parameters()) for name, painter in painters.items()
    }


def main() -> None:
    """Paint, measure, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paintings", type=Path, required=True, help=f"where {', '.join(STYLES)} are")
    parser.add_argument("--trained", type=Path, required=True, help="where the float32 networks are")
    parser.add_argument("--peers", type=Path, help=f"where {' and '.join(PEERS)} are, and the network for browsers")
    parser.add_argument("--inception", type=Path, help="TorchScript of torchvision's inception_v3")
    asked = parser.parse_args()
    contents = {name: fitted(picture, SIZE) for name, picture in photographs().items()}
    styles = {name: read_picture(asked.paintings / name, pixels=math.prod(SIZE)).pixels for name in STYLES}
    first, style = contents["chelsea"], styles[STYLES[0]]
    embedded = load_stylizer("arbitrary")
    assert isinstance(embedded, Arbitrary)
    trained = {kind: distilled(asked.trained, kind) for kind in ("separable", "plain")}
    for painter in trained.values():
        lay_channels_last(painter)
    result: dict[str, Any] = {"machine": describe(), "quality": {}}
    with torch.inference_mode():
        if asked.peers:
            result["against_peer"] = against_peer(asked.peers, first, style)
        pairs = [(content, [given]) for content in contents.values() for given in styles.values()]
        result["psnr"] = statistics.mean(psnr(embedded(*pair), trained["separable"](*pair)) for pair in pairs)
        assert result["psnr"] >= 32, result["psnr"]
        paints: dict[str, Any] = {"untouched": lambda content, _: content, "arbitrary": embedded, **trained}
        if asked.peers:
            paints["peer"] = Peer(asked.peers)
        for name, paint in paints.items():
            result["quality"][name] = quality(paint, contents, styles)
            print(name, result["quality"][name])
        result["vgg_term"] = vgg_term(asked.trained, contents, styles)
        result["strengths"] = strengths(embedded, contents, styles)
        code = embedded.predict(style)

        def under_code(painter: Arbitrary) -> Paint:
            return lambda content: painter.transfer(content, code)

        def with_style(paint: Any) -> Paint:
            return lambda content: paint(content, [style])

        networks = {kind: under_code(painter) for kind, painter in trained.items()}
        result["transfer_milliseconds"] = milliseconds(networks, first)
        whole: dict[str, Paint] = {name: with_style(paints[name]) for name in ("arbitrary", "peer") if name in paints}
        result["picture_milliseconds"] = milliseconds(whole, first)
        predictors: dict[str, Paint] = {"predictor": embedded.predictor}
        if asked.inception:
            loaded: Any = torch.jit
            predictors["inception_v3"] = loaded.load(asked.inception)
        result["predictor_milliseconds"] = milliseconds(predictors, seen(style))
    result["transfer_bytes"] = sizes(trained)
    result["bytes"] = {"arbitrary": embedded_path("arbitrary").stat().st_size}
    if asked.peers:
        result["bytes"]["peer"] = sum((asked.peers / name).stat().st_size for name in PEERS)
    print({key: value for key, value in result.items() if key not in ("quality", "machine")})
    save("arbitrary", result)


if __name__ == "__main__":
    main()
