"""What a benchmark ran on, and where its results go. All benchmarks share this."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Return the most bytes that this process has held in memory, on Linux only.

    `getrusage` would not do: its peak outlives `exec`, so a child would report that of its parent.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def touch_memory(size: int = 2 << 30) -> None:
    """Touch memory once, so that no measurement pays for the first touch of a page on a virtual machine.

    The first touch makes the host provide the page, which costs about a thousand times as much as a later one. NumPy
    asks for huge pages, which the system takes from another store than small ones, and which can be split into these.
    """
    np.ones(size, np.uint8)


def describe(*packages: str) -> dict[str, Any]:
    """Describe the machine, the date and the versions."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in ("vggquant", "torch", "numpy", *packages)},
    }


def save(name: str, result: Mapping[str, Any]) -> None:
    """Write a result, from which `bench.tables` fills the pages."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULTS / name}.json")
