"""Continuous weights in the shape of the real layers, to stand in for float32 originals.

The embedded weights have at most 256 values in each layer. Here each weight becomes a seeded random value from its
centroid's cell: the values that are nearer to this centroid than to any other. That restores the density of the layer,
without equal weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vggquant.codec.bitstream import decode_codes
from vggquant.files.container import read
from vggquant.files.sources import embedded_path
from vggquant.files.weights import Weights

Floats = npt.NDArray[np.float32]


def continuous_weights(seed: int = 0) -> Weights:
    """Make a VGG-19 with every weight spread over its centroid's cell, and biases as they are."""
    packed = read(embedded_path())
    arrays = dict(packed.plain)
    for name, tensor in packed.palettized.items():
        arrays[name] = spread(tensor.codebook, decode_codes(tensor.codes), seed).reshape(tensor.shape)
    provenance = replace(packed.provenance, changes="weights spread at random over their centroids' cells")
    return Weights(packed.network, {}, arrays, provenance)


def spread(codebook: Floats, codes: npt.NDArray[np.uint8], seed: int) -> Floats:
    """Draw values evenly from each code's cell. The outermost cells reach as far outwards as inwards."""
    centroids = codebook.astype(np.float64)
    middles = (centroids[1:] + centroids[:-1]) / 2
    low = np.concatenate(([2 * centroids[0] - middles[0]], middles))
    high = np.concatenate((middles, [2 * centroids[-1] - middles[-1]]))
    draws = np.random.Generator(np.random.PCG64(seed)).random(codes.size)
    values: Floats = (low[codes] + draws * (high - low)[codes]).astype(np.float32)
    return values
