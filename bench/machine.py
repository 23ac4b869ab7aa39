"""What a benchmark ran on, and where its results go; shared by all of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Most bytes that this process has held in memory; Linux only.

    `getrusage` would not do: what it reports outlives `exec`, so a child tells its parent's peak.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def touch_memory(size: int = 2 << 30) -> None:
    """Have the host of a virtual machine back its pages: the first touch of each costs a thousand times a later one."""
    bytearray(size)[::4096] = b"\1" * (size // 4096)


def describe(*packages: str) -> dict[str, Any]:
    """Machine, date and versions."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: version(package) for package in ("vggquant", "torch", "numpy", *packages)},
    }


def save(name: str, result: Mapping[str, Any]) -> None:
    """Write a result, for the tables of bench/README.md and README.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULTS / name}.json")
