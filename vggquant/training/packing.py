"""A trained painter to weights that a packed file holds: palettized, with how it was made in words.

Choosing codes is left to `packing.quantizing`.
"""

from __future__ import annotations

import numpy as np

from vggquant.codec.bitstream import MAX_BITS
from vggquant.errors import OptionError
from vggquant.files.state_dicts import checksum, read_state_dict
from vggquant.files.weights import Provenance, Weights
from vggquant.models.painters import Painter
from vggquant.networks.network import weight_specs
from vggquant.packing.budget import parse_size
from vggquant.packing.quantizing import Quantizer
from vggquant.packing.widths import Bits, parse_bits


def unquantized(painter: Painter, made: str, attribution: str | None = None) -> Weights:
    """The weights of a painter in float32, copied.

    Args:
        painter: Trained.
        made: How.
        attribution: Authors and licence of what it was made from, to be passed on.
    """
    file = read_state_dict(painter)
    arrays = {name: np.array(tensor.read()) for name, tensor in file.tensors.items()}
    provenance = Provenance(checksum(file.tensors), "vggquant", attribution=attribution, changes=made)
    return Weights(painter.network, {}, arrays, provenance)


def palettized(weights: Weights, bits: Bits | None, max_size: int | str | None) -> Weights:
    """The weights of a painter with codes of a width, 8 bits if none is given, or of a size.

    Raises:
        OptionError: A width or a size has no meaning, or both are given.
    """
    if bits is not None and max_size is not None:
        raise OptionError("widths or a size", "both", "leave out `bits` or `max_size`", tensor="max_size")
    if max_size is not None:
        return Quantizer().to_size(weights, parse_size(max_size))
    layers = tuple(spec.layer for spec in weight_specs(weights.network))
    return Quantizer().to_widths(weights, parse_bits(MAX_BITS if bits is None else bits, layers))
