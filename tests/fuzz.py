"""Tries mutants of files: `python -m tests.fuzz packed --mutants 1000000`, or `hdf5`, `pictures` or `torch`.

Each kind has a module of its own, which makes mutants of sound files and judges how they end. Mutant N of a seed is
always the same. What fails is kept in tests/regressions, where a test tries it again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KINDS = ("hdf5", "packed", "pictures", "torch")  # each a module `fuzz_…` beside this one
REGRESSIONS = Path(__file__).parent / "regressions"
SLOWEST = 2.0  # seconds


class WrongEndError(Exception):
    """A mutant came to another end than it should."""


def module_of(kind: str) -> Any:
    """What makes and judges the mutants of a kind.

    Its ``mutant(seed, number)`` gives a file and the manner in which it was made; ``judge(data, manner)`` gives how it
    ended, or raises `WrongEndError`.
    """
    return importlib.import_module(f"tests.fuzz_{kind}")


def try_range(kind: str, seed: int, numbers: Iterable[int], keep: bool = True) -> Counter[str]:
    """Judge mutants; count how they ended."""
    module = module_of(kind)
    ends: Counter[str] = Counter()
    for number in numbers:
        data, manner = module.mutant(seed, number)
        try:
            ends[module.judge(data, manner)] += 1
        except WrongEndError as error:
            ends["wrong"] += 1
            print(f"seed {seed}, mutant {number}: {error}", file=sys.stderr, flush=True)
            if keep:
                name = f"{kind}-{manner}-{hashlib.sha256(data).hexdigest()[:16]}.bin"
                (REGRESSIONS / name).write_bytes(data)
    return ends


def _share(task: tuple[str, int, int, int]) -> Counter[str]:
    kind, seed, begin, end = task
    return try_range(kind, seed, range(begin, end))


def main() -> None:
    """Try many, on all processors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    REGRESSIONS.mkdir(exist_ok=True)
    began = time.monotonic()
    step = 2_000
    tasks = [(given.kind, given.seed, at, min(at + step, given.mutants)) for at in range(0, given.mutants, step)]
    ends: Counter[str] = Counter()
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for found in pool.imap_unordered(_share, tasks):
            ends += found
            print(f"\r{ends.total():,} mutants, {time.monotonic() - began:.0f} s: {dict(ends)}", end="", flush=True)
    print()
    sys.exit(1 if ends["wrong"] else 0)


if __name__ == "__main__":
    from tests import fuzz  # not this one, whose errors are others than those of the kinds' modules

    fuzz.main()
