"""How long do foreign files take to read beside their own libraries? `python -m bench.importers`, about a minute.

VGG-19 in float32, 80 MB, is read from a `.pth` beside torch.load, and from an `.h5` beside h5py: one of plain form, as
Keras writes it, and one of the newest form, which a child process reads. That all read the same numbers is checked
first. Readers run in turn for several rounds, in one process. Timed is a whole reading, file and elements included; of
a `.pth` we check the archive's checksums meanwhile, which torch.load leaves unread. Not timed is the SHA-256 that
`pack` takes of what it has read, and that no library takes. First readings of new processes are timed as well, after
their imports: memory is touched for the first time there, and the `.h5` of the newest form waits until the child is up.
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
from vggquant.files.contents import open_content
from vggquant.files.disk import read_file
from vggquant.files.hdf5_files import read_h5
from vggquant.files.torch_files import read_torch

ROUNDS, FRESH_ROUNDS = 15, 9
Arrays = dict[str, npt.NDArray[np.float32]]

FRESH = """
import sys
from bench import importers
print(importers.seconds(importers.READERS[sys.argv[1]], sys.argv[2]))
"""


def our_torch(path: Path) -> Arrays:
    """Read a `.pth` as `pack` does."""
    with open_content(path) as content:
        return {name: tensor.read() for name, tensor in read_torch(content).tensors.items()}


def their_torch(path: Path) -> Arrays:
    """Read a `.pth` as torch does."""
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def our_h5(path: Path) -> Arrays:
    """Read an `.h5` as `pack` does."""
    return {name: tensor.read() for name, tensor in read_h5(read_file(path)).tensors.items()}


def their_h5(path: Path) -> Arrays:
    """Read an `.h5` as h5py does, under our names."""
    found: Arrays = {}
    with h5py.File(path) as file:
        for layer, group in file.items():
            for name, data in group.items():
                found[f"{layer}/{'kernel' if '_W_' in name else 'bias'}"] = data[()]
    return found


READERS: dict[str, Callable[[Path], Arrays]] = {
    "pth": our_torch,
    "torch.load": their_torch,
    "h5": our_h5,
    "h5py": their_h5,
    "h5 by a child": our_h5,
    "h5py, newest form": their_h5,
}
PAIRS = (("pth", "torch.load"), ("h5", "h5py"), ("h5 by a child", "h5py, newest form"))


def write_newest(arrays: Arrays, path: Path) -> None:
    """Write an `.h5` of the newest form, under the names that `unpack` gives."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, array in arrays.items():
            layer, _, part = name.partition("/")
            file[f"{layer}/{layer}_{'W_1:0' if part == 'kernel' else 'b_1:0'}"] = array


def seconds(reader: Callable[[Path], Arrays], path: Path) -> float:
    """Time one reading."""
    began = time.perf_counter()
    found = reader(path)
    taken = time.perf_counter() - began
    del found
    return taken


def measure(files: Mapping[str, Path]) -> dict[str, list[float]]:
    """Seconds of each reader, in turn, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for number in range(ROUNDS + 1):
        for name, reader in READERS.items():
            taken = seconds(reader, files[name])
            if number:
                times[name].append(taken)
    return times


def measure_fresh(files: Mapping[str, Path]) -> dict[str, list[float]]:
    """Seconds of each reader's first reading in a process, in turn."""
    times: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(FRESH_ROUNDS):
        for name in READERS:
            touch_memory(1 << 30)  # the last process may have left memory that the host has to provide anew
            command = [sys.executable, "-c", FRESH, name, str(files[name])]
            times[name].append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
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
        pth, h5, newest = (Path(folder) / name for name in ("vgg19.pth", "vgg19.h5", "newest.h5"))
        unpack("vgg19", pth)
        unpack("vgg19", h5)
        require_equal(our_torch(pth), their_torch(pth))
        write_newest(their_h5(h5), newest)
        for path in (h5, newest):
            require_equal(our_h5(path), their_h5(path))
        files = dict(zip(READERS, (pth, pth, h5, h5, newest, newest), strict=True))
        for when, times in (("warm", measure(files)), ("first", measure_fresh(files))):
            medians = {name: statistics.median(values) for name, values in times.items()}
            result[when] = {
                "seconds": {name: {"median": medians[name], "minimum": min(times[name])} for name in READERS},
                "ratios": {ours: medians[ours] / medians[theirs] for ours, theirs in PAIRS},
            }
            for ours, theirs in PAIRS:
                print(f"{when}: {ours} {1000 * medians[ours]:.0f} ms, {theirs} {1000 * medians[theirs]:.0f} ms")
    save("importers", result)


if __name__ == "__main__":
    main()
