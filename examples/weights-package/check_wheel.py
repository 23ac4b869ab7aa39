"""Refuse a wheel that is too large, or that lacks its weights or their licence: `python check_wheel.py dist/*.whl`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

LIMIT = 80_000  # bytes of the wheel: every user downloads them
ENDINGS = ("/vgg19-relu2_1.safetensors", ".dist-info/licenses/LICENSE-WEIGHTS")


def problems(wheel: Path) -> list[str]:
    """What keeps a wheel from being published, in lines."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    found = [
        f"{wheel.name}: expected a file named *{ending}, got none; see license-files and packages in pyproject.toml"
        for ending in ENDINGS
        if not any(name.endswith(ending) for name in names)
    ]
    size = wheel.stat().st_size
    if size > LIMIT:
        found.append(f"{wheel.name}: expected {LIMIT:,} bytes at most, got {size:,}; pack the weights with fewer bits")
    return found


if __name__ == "__main__":
    wheels = [Path(name) for name in sys.argv[1:]]
    found = [problem for wheel in wheels for problem in problems(wheel)]
    sys.exit("\n".join(found) or (None if wheels else "expected the names of wheels, got none"))
