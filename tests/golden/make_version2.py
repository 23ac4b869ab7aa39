"""How the golden files of version 2 were made, once: `python -m tests.golden.make_version2`.

They hold toy networks (`tests.toy`) and must stay readable for ever: `shared`, three weights of which two share a
codebook; `huffman`, all of them entropy-coded; `mixed`, a weight with scales, one of 8 bits, and one in float32.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.toy import Floats, ToyNetwork, toy_family
from vggquant.codec.palette import PalettizedTensor, palettize, palettize_together
from vggquant.files.container import read, write
from vggquant.files.disk import read_file, sha256
from vggquant.files.weights import Provenance, Weights

FOLDER = Path(__file__).parent / "version2"
PROVENANCE = Provenance("0" * 64, "vggquant", attribution="Drawn at random, free of rights", changes="none")


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of a file, and of each tensor that it restores to."""
    weights = read(path).restored()
    tensors = {name: sha256(array.reshape(-1).view(np.uint8)) for name, array in weights.plain.items()}
    return {"file": sha256(read_file(path)), **tensors}


def tensors_of(network: ToyNetwork, rng: np.random.Generator, peaked: bool = False) -> dict[str, Floats]:
    """Values that every machine draws alike; peaked ones as trained weights are."""
    found = {}
    for spec in network.tensors:
        values = np.rint(rng.exponential(3, spec.shape) ** 2) if peaked else rng.integers(-400, 400, spec.shape)
        found[spec.name] = (values / 512).astype(np.float32)
    return found


def assemble(network: ToyNetwork, arrays: dict[str, Floats], palettized: dict[str, PalettizedTensor]) -> Weights:
    """Weights of which some are palettized."""
    plain = {name: array for name, array in arrays.items() if name not in palettized}
    return Weights(network, palettized, plain, PROVENANCE, {"conv.weight": 12.5})


def main() -> None:
    """Write all files and `golden.json`."""
    rng = np.random.Generator(np.random.PCG64(12))
    network = ToyNetwork(8, 5)
    arrays = tensors_of(network, rng)
    conv, depthwise = palettize_together([arrays["conv.weight"], arrays["depthwise.weight"]], 3)
    palettized = {"conv.weight": conv, "depthwise.weight": depthwise, "fc.weight": palettize(arrays["fc.weight"], 5)}
    write(FOLDER / "shared.safetensors", assemble(network, arrays, palettized), force=True)

    palettized = {"conv.weight": palettize(arrays["conv.weight"], 8)}
    scale = (rng.integers(1, 64, 8) / 16).astype(np.float32)
    palettized["depthwise.weight"] = replace(palettize(arrays["depthwise.weight"], 2), scale=scale)
    write(FOLDER / "mixed.safetensors", assemble(network, arrays, palettized), force=True)

    network = ToyNetwork(48, 30)
    arrays = tensors_of(network, rng, peaked=True)
    palettized = {name: palettize(array, 4, "huffman") for name, array in arrays.items() if array.ndim > 1}
    assert all(tensor.codes.coding == "huffman" for tensor in palettized.values())
    write(FOLDER / "huffman.safetensors", assemble(network, arrays, palettized), force=True)

    found = {path.name: digests(path) for path in sorted(FOLDER.glob("*.safetensors"))}
    (FOLDER / "golden.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    with toy_family():
        main()
