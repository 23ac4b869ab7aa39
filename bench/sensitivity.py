"""How much does style transfer notice of each layer's error at each width? `python -m bench.sensitivity`.

This makes the table of `vggquant.packing.budget`. One layer at a time is palettized, and content, style and feature
errors (`vggquant.models.features`) are measured behind it. The squares of these errors nearly add up over layers, as if
they were independent, and they grow with the noise that causes them. The pictures are generated, and never those that
results are shown with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from bench.machine import describe, save
from vggquant.codec.palette import dequantize, energies, palettize
from vggquant.models.features import gram_matrix, relative_error
from vggquant.models.load import load_quantized_vgg
from vggquant.models.vgg import VGG
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.pictures.generated import generated_pictures

PICTURES, SIDE = 12, 224
WIDTHS = range(1, 8)
# Style transfer ignores the layers behind the style layers, but others may look there.
FEATURE_SHARE = 0.1


@dataclass(frozen=True)
class Row:
    """One layer at one width: the relative squared error of its weights, and the squared errors behind it."""

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


def main() -> None:
    """Print the table as it stands in `budget`, and write the JSON."""
    vgg = load_quantized_vgg()
    pictures = torch.from_numpy(generated_pictures(PICTURES, SIDE, SIDE)).permute(0, 3, 1, 2).float() / 255
    relus = [name for name in vgg.layers if name.startswith("relu")]
    rows: list[Row] = []
    with torch.no_grad():
        # the input of each convolution, picture by picture
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
        for layer, inputs in entering.items():
            weight = vgg.get_parameter(f"{layer}.weight")
            original = weight.detach().clone()
            assert behind(vgg, layer, inputs[0]).keys() <= expected[0].keys()
            assert all(torch.equal(x, expected[0][n]) for n, x in behind(vgg, layer, inputs[0]).items())
            for bits in WIDTHS:
                restored = dequantize(palettize(original.numpy(), bits))
                signal, noise = energies(original.numpy(), restored)
                weight.copy_(torch.from_numpy(restored))
                measured = [errors(behind(vgg, layer, x), e, len(relus)) for x, e in zip(inputs, expected, strict=True)]
                content, style, feature = np.array(measured).T
                row = Row(layer, bits, noise / signal, content.mean() ** 2, style.mean() ** 2, float(feature.mean()))
                rows.append(row)
            weight.copy_(original)
            shown = ", ".join(f"{row.sensitivity:.2g}" for row in rows if row.layer == layer)
            print(f'    "{layer}": ({shown}),', flush=True)
    save(
        "sensitivity",
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
