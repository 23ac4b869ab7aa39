"""Mutants of packed files against the slow decoder, for `tests.fuzz`.

Half stay as mutated and must be refused; half get their checksums made right, and must be refused with a typed error
or restore exactly what `tests.reference` says, and be read by safetensors too.
"""

from __future__ import annotations

import random
import time

import numpy as np
import safetensors.numpy

from tests import reference
from tests.fuzz import SLOWEST, WrongEndError
from tests.mutants import SEEDS, SEEDS_BY_VERSION, raw_mutant, resealed_mutant
from tests.toy import toy_family
from vggquant.errors import VggQuantError
from vggquant.files.container import from_bytes


def mutant(seed: int, number: int) -> tuple[bytes, str]:
    """A file, and whether its checksums were made right: ``resealed`` or ``raw``."""
    rng = random.Random(f"{seed}/{number}")
    data = rng.choice(rng.choice(SEEDS_BY_VERSION))
    if number % 2:
        return resealed_mutant(rng, data), "resealed"
    return raw_mutant(rng, data), "raw"


def judge(data: bytes, manner: str) -> str:
    """How a mutant ended.

    Raises:
        WrongEndError: Neither refused as it should nor read as it should.
    """
    began = time.perf_counter()
    try:
        with toy_family():
            weights = from_bytes(np.frombuffer(data, np.uint8))
            restored = {spec.name: weights.array(spec.name) for spec in weights.network.tensors}
    except VggQuantError as error:
        if "\n" in str(error) or len(str(error)) > 2000 or not str(error).isprintable():
            raise WrongEndError(f"a message of several lines: {error!r}") from error
        outcome = "refused"
    except BaseException as error:
        raise WrongEndError(f"{type(error).__name__}: {error}") from error
    else:
        outcome = "accepted"
    if time.perf_counter() - began > SLOWEST:
        raise WrongEndError(f"{time.perf_counter() - began:.1f} s")
    if outcome == "refused":
        return outcome
    if manner == "raw" and data not in SEEDS:
        raise WrongEndError("accepted with wrong checksums")
    try:
        safetensors.numpy.load(data)
        expected = reference.restore(data)
    except Exception as error:
        raise WrongEndError(f"accepted, but refused by safetensors or the slow decoder: {error}") from error
    if set(restored) != set(expected):
        raise WrongEndError("other tensors than the slow decoder's")
    for name, array in restored.items():
        if not np.isfinite(array).all():
            raise WrongEndError(f"{name}: values that are not finite")
        if not np.array_equal(array, expected[name]):
            raise WrongEndError(f"{name}: other values than the slow decoder's")
    return "read as resealed" if manner == "resealed" else "unchanged"
