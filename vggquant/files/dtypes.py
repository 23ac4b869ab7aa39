"""Float32 weights in 16 bits: rounding them, and how NumPy holds them. Files are left to their writers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from vggquant.codec.palette import energies, sqnr_from_energies
from vggquant.errors import SourceError, located
from vggquant.files.tensors import Array
from vggquant.files.weights import Floats, Weights
from vggquant.networks.network import weight_specs

DType = Literal["float32", "float16", "bfloat16"]
DTYPES: tuple[DType, ...] = get_args(DType)

_LARGEST: dict[DType, float] = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}


def rounded_to(weights: Weights, dtype: DType) -> Weights:
    """Weights that are in float32, rounded to numbers that another type has; what that costs is noted.

    Raises:
        SourceError: A number is too large for the type.
    """
    if dtype == "float32":
        return weights
    arrays = {}
    for name, array in weights.plain.items():
        with located(tensor=name):
            arrays[name] = _rounded(array, dtype)
    ratios = dict(weights.sqnr_db)
    for spec in weight_specs(weights.network):
        signal, noise = energies(weights.plain[spec.name], arrays[spec.name])
        if noise:
            before = 0.0 if spec.name not in ratios else signal / 10 ** (ratios[spec.name] / 10)
            ratios[spec.name] = round(sqnr_from_energies(signal, before + noise), 2)
    provenance = weights.provenance.changed(f"rounded to {dtype} by vggquant")
    return replace(weights, plain=arrays, provenance=provenance, sqnr_db=ratios)


def elements(array: Floats, dtype: DType) -> Array:
    """Float32 elements that another type has, in that type; those of bfloat16, which NumPy lacks, as uint16."""
    if dtype == "bfloat16":
        return (array.view(np.uint32) >> 16).astype(np.uint16)
    return array.astype(dtype, copy=False)


def _rounded(array: Floats, dtype: DType) -> Floats:
    """The nearest numbers that a type has, the even ones on a tie, in float32."""
    largest = float(np.abs(array).max(initial=0))
    if largest > _LARGEST[dtype]:
        raise SourceError(f"numbers up to {_LARGEST[dtype]:g} for {dtype}", f"{largest:g}", "leave `dtype` out")
    if dtype == "float16":
        return array.astype(np.float16).astype(np.float32)
    bits = array.view(np.uint32)
    halves = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return halves.view(np.float32)
