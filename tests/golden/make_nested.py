"""How the golden files of nested huffman were made, once: `python -m tests.golden.make_nested`.

`nested.safetensors` holds conv1_1 of a VGG-11, `version2/nested.safetensors` a toy network. Most of their codes lie
next to each other, and a few far away; they lie on three levels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.golden import make, make_version2
from tests.toy import Floats, ToyNetwork, toy_family
from vggquant.codec.bitstream import EncodedCodes, decode_codes
from vggquant.codec.huffman import nest
from vggquant.codec.palette import PalettizedTensor
from vggquant.files.container import write
from vggquant.files.weights import Provenance, Weights
from vggquant.networks.vgg import ARCHITECTURES, VGGNetwork

LEVELS = (8, 4, 1)
PROVENANCE = Provenance("0" * 64, "vggquant", attribution="Drawn at random, free of rights", changes="none")


def drawn(shape: tuple[int, ...], rng: np.random.Generator) -> PalettizedTensor:
    """Codes around 30, and a few far from there."""
    codes = 30 + np.rint(rng.exponential(0.35, shape) * rng.choice((-1, 1), shape)).astype(np.int64)
    flat = codes.reshape(-1)
    far = rng.permutation(flat.size)[:40]
    flat[far] = np.arange(40) * 2
    used, codes = np.unique(codes, return_inverse=True)
    codebook: Floats = ((used - 30) / 64).astype(np.float32)
    coded = codes.reshape(-1).astype(np.uint8)
    centre = int(np.bincount(coded).argmax())
    encoded = EncodedCodes(nest(coded, LEVELS, centre), coded.size, 6, "huffman", LEVELS, centre)
    assert np.array_equal(decode_codes(encoded), coded)
    return PalettizedTensor(encoded, codebook, shape)


def main() -> None:
    """Write both files, and enter them into `golden.json`."""
    rng = np.random.Generator(np.random.PCG64(13))
    tensor = drawn(ARCHITECTURES["vgg11"].convolutions[0].shape, rng)
    bias = (rng.integers(-50, 50, 64) / 32).astype(np.float32)
    network = VGGNetwork(ARCHITECTURES["vgg11"], "torch", 1)
    path = make.FOLDER / "nested.safetensors"
    write(path, Weights(network, {"conv1_1.weight": tensor}, {"conv1_1.bias": bias}, PROVENANCE), force=True)
    enter(make.FOLDER / "golden.json", path.name, make.digests(path))

    toy = ToyNetwork(40, 30)
    palettized = {
        spec.name: drawn(spec.shape, rng) for spec in toy.tensors if spec.name in ("conv.weight", "fc.weight")
    }
    plain = {
        spec.name: (rng.integers(-400, 400, spec.shape) / 512).astype(np.float32)
        for spec in toy.tensors
        if spec.name not in palettized
    }
    path = make_version2.FOLDER / "nested.safetensors"
    with toy_family():
        write(path, Weights(toy, palettized, plain, PROVENANCE), force=True)
        enter(make_version2.FOLDER / "golden.json", path.name, make_version2.digests(path))


def enter(record: Path, name: str, digests: dict[str, str]) -> None:
    """Add a file to those whose digests are recorded."""
    record.write_text(json.dumps({**json.loads(record.read_text()), name: digests}, indent=1) + "\n")


if __name__ == "__main__":
    main()
