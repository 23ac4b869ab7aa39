"""What does it cost to read foreign files in a child process? `python -m bench.wall`.

Each file is read as ever, and with its reader in this process; both must give the same. The first reading of a process
starts the child, which then stays.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from PIL import Image

from bench.machine import describe, save, touch_memory
from vggquant.isolation import messages, parent
from vggquant.isolation.messages import Answer, Limits
from vggquant.pictures import files as picture_files
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures

ROUNDS = 15
AREA = 250_000  # pixels that are wanted of each picture


@dataclass(frozen=True)
class Job:
    """A file to read.

    Args:
        name: Of the row.
        module: That asks the child process.
        read: Reads the file, and gives tensors by name.
    """

    name: str
    module: ModuleType
    read: Callable[[], Mapping[str, torch.Tensor]]

    def read_here(self) -> Mapping[str, torch.Tensor]:
        """Read it with the reader in this process."""
        with mock.patch.object(self.module, "read_isolated", _asked_here):
            return self.read()


def _asked_here(reader: str, data: memoryview, arguments: Mapping[str, Any], _: Limits) -> Answer:
    found: Answer = messages.function_of(reader)(bytes(data), **arguments)
    return found


def picture_jobs(folder: Path) -> list[Job]:
    """Pictures of usual types and sizes."""
    made = Image.fromarray(generated_pictures(1, 512, 512)[0])
    kinds: dict[str, dict[str, Any]] = {"PNG": {}, "JPEG": {"quality": 90}, "WEBP": {"quality": 90}, "TIFF": {}}
    jobs = []
    for side in (500, 3500):
        for kind, options in kinds.items():
            path = folder / f"{side}.{kind.lower()}"
            made.resize((side, side), Image.Resampling.BICUBIC).save(path, kind, **options)
            name = f"{kind}, {side * side / 1e6:.2g} megapixels"
            jobs.append(Job(name, picture_files, partial(read_pixels, path)))
    return jobs


def read_pixels(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a picture at the size that painting wants."""
    return {"pixels": read_picture(path, most=AREA).pixels}


def check_equal(job: Job) -> None:
    """Check that the child process gives what this one does."""
    walled, plain = job.read(), job.read_here()
    assert list(walled) == list(plain), job.name
    assert all(torch.equal(tensor, plain[name]) for name, tensor in walled.items()), job.name


def seconds(call: Callable[[], Any]) -> float:
    """Time one call. What it returns is freed outside of the measurement."""
    start = time.perf_counter()
    kept = call()
    elapsed = time.perf_counter() - start
    del kept
    return elapsed


def first(job: Job) -> Mapping[str, torch.Tensor]:
    """Read a file in a child process that must be started for it."""
    parent._child().close()
    return job.read()


def measure(job: Job) -> dict[str, Any]:
    """Time both ways in turn, after one round for warming up, and then first readings."""
    times = [(seconds(job.read), seconds(job.read_here)) for _ in range(ROUNDS + 1)][1:]
    walled, plain = (statistics.median(way) for way in zip(*times, strict=True))
    ratio = statistics.median(one / other for one, other in times)
    alone = statistics.median(seconds(partial(first, job)) for _ in range(ROUNDS))
    return {"file": job.name, "first": alone, "walled": walled, "plain": plain, "ratio": ratio}


def main() -> None:
    """Print a table and write the JSON."""
    touch_memory()
    with tempfile.TemporaryDirectory() as folder:
        jobs = picture_jobs(Path(folder))
        for job in jobs:
            check_equal(job)
        rows = [measure(job) for job in jobs]
    for row in rows:
        alone, there, here = (f"{1e3 * row[way]:.1f} ms" for way in ("first", "walled", "plain"))
        print(f"{row['file']:24} {alone} at first, {there} later, {here} without a child, ratio {row['ratio']:.2f}")
    save("wall", {"machine": describe("pillow"), "rows": rows})


if __name__ == "__main__":
    main()
