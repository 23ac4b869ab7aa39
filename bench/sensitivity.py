"""How much does style transfer notice of each layer's error at each width? `python -m bench.sensitivity`.

This makes the tables of `vggquant.packing.budget`, that for calibrated weights with `--calibrated`, in about half an
hour. With `--fine` it makes that of `vggquant.packing.rates` from both results, at once. One layer at a time is
palettized, and content, style and feature errors (`vggquant.models.features`) are measured behind it. The squares of
these errors nearly add up over layers, as if they were independent, and they grow with the noise that causes them. The
pictures are generated, and never those that results are shown with or weights are calibrated on.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from bench.machine import RESULTS, describe, save
from vggquant.codec.palette import dequantize, energies, palettize
from vggquant.models.features import gram_matrix, relative_error
from vggquant.models.load import load_quantized_vgg
from vggquant.models.vgg import VGG
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.packing.calibration import Activations
from vggquant.packing.calibration_pictures import calibration_pictures
from vggquant.packing.goals import solve
from vggquant.pictures.generated import generated_pictures

PICTURES, SIDE = 12, 224
WIDTHS = range(1, 8)
# Style transfer ignores the layers behind the style layers, but others may look there.
FEATURE_SHARE = 0.1
# What the table for fine grids is computed with, see `vggquant.packing.rates`.
FINE_WIDTHS, FINE_STYLE, FINE_FEATURES = (4, 5, 6), 4, 0.05


@dataclass(frozen=True)
class Row:
    """One layer at one width: the relative squared error of its plain weights, and the squared errors behind it."""

    layer: str
    bits: int
    noise: float
    content: float
    style: float
    feature: float

    @property
    def sensitivity(self) -> float:
        """Visible loss for each unit of noise."""
        return (self.content + self.style + FEATURE_SHARE * self.feature) / self.noise


def behind(vgg: VGG, layer: str, x: Tensor) -> dict[str, Tensor]:
    """Compute all relus from a convolution on, given the input of that convolution."""
    found = {}
    for name in vgg.layers[vgg.layers.index(layer) :]:
        x = vgg.run_layer(name, x)
        if name.startswith("relu"):
            found[name] = x
    return found


def errors(found: dict[str, Tensor], expected: dict[str, Tensor], relus: int) -> tuple[float, float, float]:
    """Measure content error, style error and mean squared feature error; layers not in `found` have no error."""
    feature = {name: relative_error(x, expected[name]) for name, x in found.items()}
    gram = [relative_error(gram_matrix(found[n]), gram_matrix(expected[n])) for n in STYLE_LAYERS if n in found]
    squares = sum(error**2 for error in feature.values()) / relus
    return feature.get(CONTENT_LAYER, 0.0), sum(gram) / len(STYLE_LAYERS), squares


def passed(vgg: VGG, pictures: Tensor) -> tuple[dict[str, list[Tensor]], list[dict[str, Tensor]]]:
    """Compute what enters each convolution, picture by picture, and all relus of each picture."""
    entering: dict[str, list[Tensor]] = {}
    expected: list[dict[str, Tensor]] = []
    for picture in pictures:
        x = vgg.prepare(picture[None])
        kept: dict[str, Tensor] = {}
        for name in vgg.layers:
            if name.startswith("conv"):
                entering.setdefault(name, []).append(x)
            x = vgg.run_layer(name, x)
            if name.startswith("relu"):
                kept[name] = x
        expected.append(kept)
    return entering, expected


class Palettizer:
    """Palettizes one layer after the other, by k-means or by calibration on what enters it in the reference."""

    def __init__(self, vgg: VGG, calibrated: bool) -> None:
        self.vgg = vgg
        self.activations = (
            Activations(calibration_pictures(None, 1).pictures, vgg.preprocessing) if calibrated else None
        )

    def at_widths(self, layer: str, weight: Tensor, bias: Tensor) -> Iterator[tuple[int, float, Tensor, Tensor]]:
        """Find weight and bias at each width, and the noise that k-means causes."""
        problem = None if self.activations is None else self.activations.problem(layer, weight.flatten(1), bias)
        for bits in WIDTHS:
            plain = dequantize(palettize(weight.numpy(), bits))
            signal, noise = energies(weight.numpy(), plain)
            if problem is None:
                yield bits, noise / signal, torch.from_numpy(plain), bias
            else:
                rounded, found = solve(problem, 2**bits)
                yield bits, noise / signal, rounded.weight.reshape(weight.shape), found
        if self.activations is not None:
            both = (weight.numpy(), bias.numpy())
            after = self.vgg.layers[self.vgg.layers.index(layer) + 2]
            self.activations.pass_on(both, both, pool=after.startswith("pool"))


def fine() -> dict[str, tuple[float, float]]:
    """Visible loss for each unit of noise of a fine grid, of plain and of calibrated weights, to two digits."""
    found: dict[str, list[float]] = {}
    for name in ("sensitivity", "sensitivity_calibrated"):
        logs: dict[str, list[float]] = {}
        for row in json.loads((RESULTS / f"{name}.json").read_text())["rows"]:
            if row["bits"] in FINE_WIDTHS:
                loss = row["content"] + FINE_STYLE * row["style"] + FINE_FEATURES * row["feature"]
                logs.setdefault(row["layer"], []).append(math.log(loss / row["noise"]))
        for layer, values in logs.items():
            found.setdefault(layer, []).append(float(f"{math.exp(sum(values) / len(values)):.2g}"))
    return {layer: (plain, calibrated) for layer, (plain, calibrated) in found.items()}


def main() -> None:
    """Print the table as it stands in `budget`, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrated", action="store_true", help="measure calibrated weights")
    parser.add_argument("--fine", action="store_true", help="print the table for fine grids")
    asked = parser.parse_args()
    if asked.fine:
        for layer, pair in fine().items():
            print(f'    "{layer}": ({pair[0]:g}, {pair[1]:g}),')
        return
    calibrated = asked.calibrated
    vgg = load_quantized_vgg()
    pictures = torch.from_numpy(generated_pictures(PICTURES, SIDE, SIDE)).permute(0, 3, 1, 2).float() / 255
    relus = [name for name in vgg.layers if name.startswith("relu")]
    palettizer = Palettizer(vgg, calibrated)
    rows: list[Row] = []
    with torch.no_grad():
        entering, expected = passed(vgg, pictures)
        for layer, inputs in entering.items():
            parameters = [vgg.get_parameter(f"{layer}.{part}") for part in ("weight", "bias")]
            originals = [parameter.detach().clone() for parameter in parameters]
            assert behind(vgg, layer, inputs[0]).keys() <= expected[0].keys()
            assert all(torch.equal(x, expected[0][n]) for n, x in behind(vgg, layer, inputs[0]).items())
            for bits, noise, *changed in palettizer.at_widths(layer, *originals):
                for parameter, value in zip(parameters, changed, strict=True):
                    parameter.copy_(value)
                measured = [errors(behind(vgg, layer, x), e, len(relus)) for x, e in zip(inputs, expected, strict=True)]
                content, style, feature = np.array(measured).T
                row = Row(layer, bits, noise, content.mean() ** 2, style.mean() ** 2, float(feature.mean()))
                rows.append(row)
            for parameter, value in zip(parameters, originals, strict=True):
                parameter.copy_(value)
            shown = ", ".join(f"{row.sensitivity:.2g}" for row in rows if row.layer == layer)
            print(f'    "{layer}": ({shown}),', flush=True)
    save(
        "sensitivity_calibrated" if calibrated else "sensitivity",
        {
            "machine": describe(),
            "pictures": PICTURES,
            "side": SIDE,
            "feature_share": FEATURE_SHARE,
            "rows": [{**asdict(row), "sensitivity": row.sensitivity} for row in rows],
        },
    )


if __name__ == "__main__":
    main()
