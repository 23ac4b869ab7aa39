"""The frozen dataclasses that carry the flow, `FloatWeights` and `QuantizedWeights`; knows of no files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vggquant.codec.palette import PalettizedTensor, dequantize
from vggquant.errors import OptionError, located
from vggquant.networks.vgg import Architecture, Preprocessing

Floats = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """Where weights came from.

    Args:
        sha256: SHA-256 of the file they were read from, lower-case hexadecimal.
        layout: Naming and axis convention of that file.
        folded_batch_norm: Whether a batch normalisation was folded into the convolutions.
        attribution: Authors and licence to be passed on; ``None`` if unknown.
        changes: What was changed since, to be passed on; ``None`` if nothing.
    """

    sha256: str
    layout: str
    folded_batch_norm: bool = False
    attribution: str | None = None
    changes: str | None = None


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One convolution in float32.

    Args:
        weight: OIHW.
        bias: One per output channel.
        sqnr_db: What an earlier quantization of these very weights is known to have cost, in dB;
            ``None`` where nothing is known to be lost.
    """

    weight: Floats
    bias: Floats
    sqnr_db: float | None = None


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One convolution in codes.

    Args:
        weight: Codes, codebook and scale, OIHW.
        bias: float32, one per output channel.
        sqnr_db: Against the weights that were palettized, rounded to 0.01 dB; ``None`` if lossless.
    """

    weight: PalettizedTensor
    bias: Floats
    sqnr_db: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in a file, header aside."""
        return self.weight.nbytes + self.bias.nbytes


@dataclass(frozen=True, eq=False)
class FloatWeights:
    """The convolutions of a VGG in float32, from the input up to some layer.

    Args:
        architecture: Which VGG.
        preprocessing: How its inputs must be prepared, ``caffe`` or ``torch``.
        layers: Convolutions by name, input side first.
        provenance: Where they came from.
    """

    architecture: Architecture
    preprocessing: Preprocessing
    layers: Mapping[str, FloatLayer]
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class QuantizedWeights:
    """The convolutions of a VGG in codes, from the input up to some layer.

    Args:
        architecture: Which VGG.
        preprocessing: How its inputs must be prepared, ``caffe`` or ``torch``.
        layers: Convolutions by name, input side first.
        provenance: Where they came from.
    """

    architecture: Architecture
    preprocessing: Preprocessing
    layers: Mapping[str, QuantizedLayer]
    provenance: Provenance

    @property
    def complete(self) -> bool:
        """Whether no layer of the architecture was cut off."""
        return len(self.layers) == len(self.architecture.convolutions)

    def cut(self, upto: str | None) -> QuantizedWeights:
        """Without the convolutions deeper than the layer `upto`; unchanged for ``None``.

        Raises:
            OptionError: No such layer, or these weights end before it.
        """
        if upto is None:
            return self
        names = [convolution.name for convolution in self.architecture.convolutions_upto(upto)]
        if names[-1] not in self.layers:
            last = list(self.layers)[-1]
            raise OptionError(f"a layer up to {last}, where the file ends", upto, "choose one of these", tensor="upto")
        return replace(self, layers={name: self.layers[name] for name in names})

    def map_layers(self, function: Callable[[QuantizedLayer], T], threads: int) -> dict[str, T]:
        """What a function makes of each layer, several at once, since NumPy releases the interpreter's lock."""

        def work(name: str) -> T:
            with located(tensor=name):
                return function(self.layers[name])

        # the largest first, so that no thread is left with one at the end
        names = sorted(self.layers, key=lambda name: -self.layers[name].weight.codes.count)
        with ThreadPoolExecutor(threads) as pool:
            made = dict(zip(names, pool.map(work, names), strict=True))
        return {name: made[name] for name in self.layers}


def restore(weights: QuantizedWeights, threads: int | None = None) -> FloatWeights:
    """Restore every layer in float32.

    Args:
        weights: Codes and codebooks.
        threads: Layers worked on at once; as many as there are processors if not given.

    Raises:
        ContainerError: A stream of codes is damaged.
    """

    def restore_layer(layer: QuantizedLayer) -> FloatLayer:
        # the bias is copied so that the file's bytes are let go
        return FloatLayer(dequantize(layer.weight), layer.bias.copy(), layer.sqnr_db)

    layers = weights.map_layers(restore_layer, threads or os.cpu_count() or 1)
    return FloatWeights(weights.architecture, weights.preprocessing, layers, weights.provenance)
