"""`Weights`, the one form in which the weights of any network travel between files, the codec and models.

What the tensors are called and how they are shaped is said by the network's record; how a tensor is coded, by
`codec.palette`. Nothing here reads or writes a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from vggquant.codec.palette import PalettizedTensor, dequantize
from vggquant.errors import located
from vggquant.networks.network import Network, layer_of
from vggquant.networks.vgg import require_vgg
from vggquant.threads import map_in_threads

Floats = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class Provenance:
    """Where weights came from.

    Args:
        sha256: SHA-256 of the file they were read from, lower-case hexadecimal.
        layout: Naming and axis convention of that file.
        folded_batch_norm: Whether a batch normalisation was folded into the convolutions of a VGG.
        attribution: Authors and licence to be passed on; ``None`` if unknown.
        changes: What was changed since, to be passed on; ``None`` if nothing.
    """

    sha256: str
    layout: str
    folded_batch_norm: bool = False
    attribution: str | None = None
    changes: str | None = None

    def changed(self, change: str) -> Provenance:
        """The same with one more change."""
        return replace(self, changes=change if self.changes is None else f"{self.changes}; {change}")


@dataclass(frozen=True, eq=False)
class Weights:
    """All tensors of a network, each either palettized or in float32.

    Args:
        network: What the tensors are.
        palettized: Those that are codes and codebook, by name. Tensors that share a codebook hold the same array.
        plain: All others, in float32, by name.
        provenance: Where they came from.
        sqnr_db: What quantization is known to have cost a tensor, in dB, by name. A tensor that is missing here
            lost nothing, as far as is known.
    """

    network: Network
    palettized: Mapping[str, PalettizedTensor]
    plain: Mapping[str, Floats]
    provenance: Provenance
    sqnr_db: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: tensor.shape for name, tensor in self.palettized.items()}
        shapes |= {name: array.shape for name, array in self.plain.items()}
        assert len(shapes) == len(self.palettized) + len(self.plain), "a tensor both palettized and plain"
        assert shapes == {spec.name: spec.shape for spec in self.network.tensors}, "not the network's tensors"

    def array(self, name: str) -> Floats:
        """One tensor in float32, restored if it is palettized.

        Raises:
            ContainerError: Its stream of codes is damaged.
        """
        return self.plain[name] if name in self.plain else dequantize(self.palettized[name])

    def restored(self, threads: int | None = None) -> Weights:
        """The same weights with every tensor in float32.

        Args:
            threads: Tensors restored at once; as many as there are processors if not given.

        Raises:
            ContainerError: A stream of codes is damaged.
        """
        arrays = self.map_palettized(dequantize, threads or os.cpu_count() or 1)
        # copied, so that the bytes of the file they lie in are let go
        arrays |= {name: array.copy() for name, array in self.plain.items()}
        return replace(self, palettized={}, plain=arrays)

    def map_palettized(self, function: Callable[[PalettizedTensor], T], threads: int) -> dict[str, T]:
        """What a function makes of each palettized tensor, several at once: NumPy releases the interpreter's lock."""

        def work(name: str) -> T:
            with located(tensor=layer_of(name)):
                return function(self.palettized[name])

        # the largest first, so that no thread is left with a large one at the end
        names = sorted(self.palettized, key=lambda name: -self.palettized[name].codes.count)
        made = dict(zip(names, map_in_threads(work, names, threads), strict=True))
        return {name: made[name] for name in self.palettized}

    def cut(self, upto: str | None) -> Weights:
        """A VGG's weights without the convolutions deeper than the layer `upto`; unchanged for ``None``.

        Raises:
            NetworkError: The network is no VGG.
            OptionError: No such layer, or these weights end before it.
        """
        if upto is None:
            return self
        network = require_vgg(self.network).cut(upto)
        names = {spec.name for spec in network.tensors}
        return replace(
            self,
            network=network,
            palettized={name: tensor for name, tensor in self.palettized.items() if name in names},
            plain={name: array for name, array in self.plain.items() if name in names},
            sqnr_db={name: ratio for name, ratio in self.sqnr_db.items() if name in names},
        )
