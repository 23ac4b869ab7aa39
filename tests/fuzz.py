"""Mutants of packed files against the slow decoder: `python -m tests.fuzz --mutants 1000000`.

Half stay as mutated and must be refused; half get their checksums made right, and must be refused with a typed error
or restore exactly what `tests.reference` says, and be read by safetensors too. Mutant N of a seed is always the same.
What fails is kept in tests/regressions, where a test tries it again.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import safetensors.numpy

from tests import reference
from tests.mutants import SEEDS, SEEDS_BY_VERSION, raw_mutant, resealed_mutant
from tests.toy import toy_family
from vggquant.errors import VggQuantError
from vggquant.files.container import from_bytes

REGRESSIONS = Path(__file__).parent / "regressions"
SLOWEST = 2.0  # seconds


class WrongEndError(Exception):
    """A mutant came to another end than it should."""


def mutant(seed: int, number: int) -> tuple[bytes, bool]:
    """A file, and whether its checksums were made right."""
    rng = random.Random(f"{seed}/{number}")
    data = rng.choice(rng.choice(SEEDS_BY_VERSION))
    if number % 2:
        return resealed_mutant(rng, data), True
    return raw_mutant(rng, data), False


def judge(data: bytes, resealed: bool) -> str:
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
    if not resealed and data not in SEEDS:
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
    return "read as resealed" if resealed else "unchanged"


def try_range(seed: int, numbers: Iterable[int], keep: bool = True) -> Counter[str]:
    """Judge mutants; count how they ended."""
    ends: Counter[str] = Counter()
    for number in numbers:
        data, resealed = mutant(seed, number)
        try:
            ends[judge(data, resealed)] += 1
        except WrongEndError as error:
            ends["wrong"] += 1
            print(f"seed {seed}, mutant {number}: {error}", file=sys.stderr, flush=True)
            if keep:
                kind = "resealed" if resealed else "raw"
                (REGRESSIONS / f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.bin").write_bytes(data)
    return ends


def _share(task: tuple[int, int, int]) -> Counter[str]:
    seed, begin, end = task
    return try_range(seed, range(begin, end))


def main() -> None:
    """Try many, on all processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    REGRESSIONS.mkdir(exist_ok=True)
    began = time.monotonic()
    step = 10_000
    tasks = [(given.seed, at, min(at + step, given.mutants)) for at in range(0, given.mutants, step)]
    ends: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for found in pool.imap_unordered(_share, tasks):
            ends += found
            print(f"\r{ends.total():,} mutants, {time.monotonic() - began:.0f} s: {dict(ends)}", end="", flush=True)
    print()
    sys.exit(1 if ends["wrong"] else 0)


if __name__ == "__main__":
    main()
