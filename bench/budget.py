"""What do chosen widths gain over one width for all layers, at the same number of bytes? `python -m bench.budget`.

Content and style error are measured on photographs. The sensitivities that the choice rests on were measured on
generated pictures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.evaluation import NAMES, evaluation_pictures
from bench.machine import describe, save
from vggquant.models.features import FeatureErrors, feature_errors
from vggquant.models.load import load_quantized_vgg
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.packing.inspection import info
from vggquant.packing.packer import pack

LAYERS = (*STYLE_LAYERS[:4], CONTENT_LAYER, STYLE_LAYERS[4])


def main() -> None:
    """Print a table and write the JSON."""
    pictures = evaluation_pictures()
    reference = load_quantized_vgg(upto="relu5_1")

    def measure(path: Path) -> FeatureErrors:
        return feature_errors(load_quantized_vgg(path, upto="relu5_1"), reference, pictures, LAYERS)

    rows = []
    print(
        "| at the size of | bytes used | content error: uniform | chosen | times less "
        "| style error: uniform | chosen | times less | widths |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        uniform, chosen = Path(folder) / "uniform", Path(folder) / "chosen"
        pack("vgg19", uniform, bits=8)
        assert measure(uniform).content == 0, "8 bits are not lossless"
        for bits in range(2, 7):
            size = pack("vgg19", uniform, bits=bits, force=True).info.bytes
            pack("vgg19", chosen, max_size=size, force=True)
            found = info(chosen)
            before, after = measure(uniform), measure(chosen)
            assert 0.99 * size < found.bytes <= size
            assert after.content < before.content
            assert after.style < before.style
            widths = "".join(str(layer.bits) for layer in found.layers)
            rows.append(
                {
                    "bits": bits,
                    "uniform_bytes": size,
                    "bytes": found.bytes,
                    "widths": widths,
                    "uniform": {"content": before.content, "style": before.style, "gram": dict(before.gram)},
                    "chosen": {"content": after.content, "style": after.style, "gram": dict(after.gram)},
                }
            )
            gains = (before.content / after.content, before.style / after.style)
            print(
                f"| {bits} bits, {size / 1e6:.2f} MB | {found.bytes / size:.2%} | {before.content:.4f} "
                f"| {after.content:.4f} | {gains[0]:.1f} | {before.style:.4f} | {after.style:.4f} | {gains[1]:.1f} "
                f"| `{widths}` |",
                flush=True,
            )
    save("budget", {"machine": describe(), "pictures": NAMES, "rows": rows})


if __name__ == "__main__":
    main()
