"""How long do foreign files take to read beside their own libraries? `python -m bench.importers`, about a minute.

VGG-19 in float32, 80 MB, is read from a `.pth` beside torch.load, and from an `.h5` beside h5py; that all read the same
numbers is checked first. Readers run in turn for several rounds, in one process. Timed is a whole reading, file and
elements included. What a child process costs to start is timed in a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch

from bench.machine import describe, save, touch_memory
from vggquant import unpack
from vggquant.files.disk import read_file
from vggquant.files.hdf5_files import read_h5
from vggquant.files.torch_files import read_torch

ROUNDS = 15
Arrays = dict[str, npt.NDArray[np.float32]]

# the first reading of a process, and the second, in seconds
FRESH = """
import sys, time
from vggquant.files.disk import read_file
from vggquant.files.hdf5_files import read_h5
times = []
for _ in range(2):
    began = time.perf_counter()
    for tensor in read_h5(read_file(sys.argv[1])).tensors.values():
        tensor.read()
    times.append(time.perf_counter() - began)
print(*times)
"""


def our_torch(path: Path) -> Arrays:
    """Read a `.pth` as `pack` does."""
    return {name: tensor.read() for name, tensor in read_torch(read_file(path)).tensors.items()}


def their_torch(path: Path) -> Arrays:
    """Read a `.pth` as torch does."""
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def our_h5(path: Path) -> Arrays:
    """Read an `.h5` as `pack` does, by a child process that is there already."""
    return {name: tensor.read() for name, tensor in read_h5(read_file(path)).tensors.items()}


def their_h5(path: Path) -> Arrays:
    """Read an `.h5` as h5py does, under our names."""
    found: Arrays = {}
    with h5py.File(path) as file:
        for layer, group in file.items():
            for name, data in group.items():
                found[f"{layer}/{'kernel' if '_W_' in name else 'bias'}"] = data[()]
    return found


def measure(readers: Mapping[str, Callable[[], Arrays]]) -> dict[str, list[float]]:
    """Seconds of each reader, in turn, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(ROUNDS + 1):
        for name, reader in readers.items():
            began = time.perf_counter()
            found = reader()
            taken = time.perf_counter() - began
            del found
            if number:
                times[name].append(taken)
    return times


def require_equal(ours: Arrays, theirs: Arrays) -> None:
    """Refuse to time readers that read different numbers."""
    if ours.keys() != theirs.keys() or not all(np.array_equal(ours[name], theirs[name]) for name in ours):
        raise SystemExit("the readers do not agree")


def main() -> None:
    """Write the files, check the readers, time them, and keep the result."""
    touch_memory()
    result: dict[str, Any] = {**describe("h5py"), "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as folder:
        pth, h5 = Path(folder) / "vgg19.pth", Path(folder) / "vgg19.h5"
        unpack("vgg19", pth)
        unpack("vgg19", h5)
        require_equal(our_torch(pth), their_torch(pth))
        require_equal(our_h5(h5), their_h5(h5))
        times = measure(
            {
                "pth": lambda: our_torch(pth),
                "torch.load": lambda: their_torch(pth),
                "h5": lambda: our_h5(h5),
                "h5py": lambda: their_h5(h5),
            }
        )
        fresh = subprocess.run([sys.executable, "-c", FRESH, h5], capture_output=True, text=True, check=True).stdout
    medians = {name: statistics.median(values) for name, values in times.items()}
    first, second = map(float, fresh.split())
    result["seconds"] = {name: {"median": medians[name], "minimum": min(values)} for name, values in times.items()}
    result["ratios"] = {"pth": medians["pth"] / medians["torch.load"], "h5": medians["h5"] / medians["h5py"]}
    result["start_of_a_child_s"] = first - second
    for name, ratio in result["ratios"].items():
        print(f".{name}: {1000 * medians[name]:.1f} ms, {ratio:.2f} of its library's")
    print(f"start of a child process: {1000 * (first - second):.0f} ms")
    save("importers", result)


if __name__ == "__main__":
    main()
