"""How the golden files were made, once: `python tests/golden/make.py`. They must stay readable for ever.

Each holds conv1_1 of a VGG-11: for `planes` drawn evenly, for `huffman` peaked as trained weights
are, so that the coding pays; `scale.safetensors` has factors per output channel.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import Coding
from vggquant.codec.palette import palettize
from vggquant.files.container import read, write
from vggquant.files.disk import read_file, sha256
from vggquant.files.weights import Provenance, Weights
from vggquant.networks.vgg import ARCHITECTURES, VGGNetwork

FOLDER = Path(__file__).parent


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of a file, and of what it restores to."""
    weights = read(path)
    return {
        "file": sha256(read_file(path)),
        "weight": sha256(weights.array("conv1_1.weight").view(np.uint8).reshape(-1)),
        "bias": sha256(weights.array("conv1_1.bias").view(np.uint8)),
    }


def main() -> None:
    """Write all files and `golden.json`."""
    rng = np.random.Generator(np.random.PCG64(11))
    shape = ARCHITECTURES["vgg11"].convolutions[0].shape
    even = (rng.integers(-400, 400, shape) / 512).astype(np.float32)
    peaked = (np.rint(rng.exponential(3, shape) ** 2) / 64).astype(np.float32)
    bias = (rng.integers(-50, 50, 64) / 32).astype(np.float32)
    provenance = Provenance("0" * 64, "vggquant", attribution="Drawn at random, free of rights", changes="none")
    network = VGGNetwork(ARCHITECTURES["vgg11"], "torch", 1)
    plain = {"conv1_1.bias": bias}
    codings: dict[Coding, npt.NDArray[np.float32]] = {"planes": even, "huffman": peaked}
    for coding, weight in codings.items():
        for bits in range(1, 9):
            tensor = palettize(weight, bits, coding)
            assert tensor.codes.coding == coding
            weights = Weights(network, {"conv1_1.weight": tensor}, plain, provenance, {"conv1_1.weight": 12.5})
            write(FOLDER / f"{coding}-{bits}.safetensors", weights, force=True)
    scale = (rng.integers(1, 64, 64) / 16).astype(np.float32)
    scaled = replace(palettize(even, 3), scale=scale)
    weights = Weights(network, {"conv1_1.weight": scaled}, plain, provenance)
    write(FOLDER / "scale.safetensors", weights, force=True)
    found = {path.name: digests(path) for path in sorted(FOLDER.glob("*.safetensors"))}
    (FOLDER / "golden.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
