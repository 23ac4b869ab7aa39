"""That no small file costs much time or memory before it is refused."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.hostile import (
    test_codes,
    test_container,
    test_keras_sources,
    test_metadata,
    test_pictures,
    test_sources,
    test_torch_sources,
)
from tests.hostile.cases import number_of
from vggquant.errors import PictureError
from vggquant.pictures.files import read_picture

SECTIONS = [
    module.CASES
    for module in (test_container, test_metadata, test_codes, test_sources, test_torch_sources, test_keras_sources)
]

# Refuses each file, and fails if one takes over 100 ms, the best of three, or 16 MB.
SCRIPT = """
import sys, time
import h5py, torch
from vggquant.errors import VggQuantError
from vggquant.files.sources import read_source

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

def refuse(path):
    try:
        source = read_source(path)
    except VggQuantError:
        return
    try:
        source.weights.restored()  # a code beyond the codebook shows here
    except VggQuantError:
        return
    raise SystemExit(f"{path}: accepted")

for warm in sys.argv[1:]:
    refuse(warm)
for path in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, times = peak(), []
    for _ in range(3):
        began = time.perf_counter()
        refuse(path)
        times.append(time.perf_counter() - began)
    grown = peak() - before
    if grown > 16e6 or min(times) > 0.1:
        raise SystemExit(f"{path}: {grown} bytes, {min(times)} s")
"""

# Reads each file, and prints the seconds of processor time and the bytes that this process and its child took at most.
MEASURED = """
import resource, sys, time
from vggquant.errors import VggQuantError
from vggquant.isolation.parent import _child
if sys.argv[1] == "weights":
    from vggquant.files.sources import read_source as read
else:
    from vggquant.pictures.files import read_picture as read

began = time.process_time()
for path in sys.argv[2:]:
    try:
        read(path)
    except VggQuantError:
        pass
_child().close()
child = resource.getrusage(resource.RUSAGE_CHILDREN)
line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time() - began + child.ru_utime + child.ru_stime, 1024 * (int(line.split()[1]) + child.ru_maxrss))
"""
KERNEL = test_keras_sources.KERNEL


def measured(kind: str, *paths: str | Path) -> tuple[float, float]:
    """Seconds and bytes that a new process and its child need for files."""
    command = [sys.executable, "-c", MEASURED, kind, *map(str, paths)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, size = map(float, found.stdout.split())
    return seconds, size


def small_files(folder: Path) -> list[str]:
    """The sources of cases that are refused, if they are no larger than 4 KB."""
    found = []
    for section in SECTIONS:
        for name, made in section.made.items():
            if number_of(name) in (*range(1, 53), *range(71, 79), *range(112, 117)):
                place = folder / re.sub(r"\W", "", name)
                place.mkdir()
                command, match = made(place)
                if match is not None and Path(str(command[1])).stat().st_size <= 4096:
                    found.append(str(command[1]))
    with h5py.File(folder / "cycle.h5", "w") as file:
        for letter in "abcdefghij":
            file[letter] = file["/"]
    return [*found, str(folder / "cycle.h5")]


@pytest.mark.parametrize("name", test_pictures.CASES.names)
def test_pictures_cost_seconds_at_most(name: str, tmp_path: Path) -> None:
    command, _ = test_pictures.CASES.made[name](tmp_path)
    began = time.perf_counter()
    with contextlib.suppress(PictureError):
        read_picture(str(command[1]), most=10**6)
    assert time.perf_counter() - began < 10


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
def test_pictures_cost_as_much_memory_as_sound_ones(tmp_path: Path) -> None:
    paths = []
    for number, made in enumerate(test_pictures.CASES.made.values()):
        (tmp_path / str(number)).mkdir()
        command, _ = made(tmp_path / str(number))
        paths.append(str(command[1]))
    Image.new("RGB", (1000, 1000), "olive").save(tmp_path / "sound.jpg")
    _, sound = measured("pictures", tmp_path / "sound.jpg")
    _, hostile = measured("pictures", *paths)
    assert hostile < 4 * sound


def with_a_text(file: Any) -> None:
    file.attrs["attribution"] = "somebody"


def deflated(file: Any) -> None:
    kernel = file[KERNEL][()]
    del file[KERNEL]
    file.create_dataset(KERNEL, data=kernel, compression="gzip")


def deflated_and_large(file: Any) -> None:
    deflated(file)
    file["block1_conv2/unused"] = np.ones(2**22, "f4")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("117 a text whose length makes the library loop", with_a_text),
        ("118 a chunk that inflates to gigabytes", deflated),
        ("118 attributes that are all one large text", deflated_and_large),
        ("119 a thousand references to one text", with_a_text),
    ],
)
def test_h5_files_cost_two_seconds_and_as_much_memory_as_sound_ones(
    name: str, change: Callable[[Any], object], tmp_path: Path
) -> None:
    command, _ = test_keras_sources.CASES.made[name](tmp_path)
    seconds, size = measured("weights", str(command[1]))
    command = test_keras_sources.keras(tmp_path, change)
    _, sound = measured("weights", str(command[1]))
    assert seconds < 2
    assert size < 4 * sound


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_h5_files_of_moderate_size_cost_two_seconds(tmp_path: Path) -> None:
    command, _ = test_keras_sources.CASES.made["117 a text whose length makes the library loop"](tmp_path)
    with open(str(command[1]), "ab") as file:
        file.write(bytes(10_000_000))
    seconds, _ = measured("weights", str(command[1]))
    assert 1 < seconds < 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
def test_small_hostile_files_cost_little(tmp_path: Path) -> None:
    paths = small_files(tmp_path)
    assert len(paths) > 80
    assert sum(path.endswith(".pth") for path in paths) >= 5
    found = subprocess.run([sys.executable, "-c", SCRIPT, *paths], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
