"""What devices torch has here, and the memory that they have left; what for is the caller's affair."""

from __future__ import annotations

from pathlib import Path

import torch

from vggquant.errors import OptionError

_CGROUP = Path("/sys/fs/cgroup")  # where a container is held to a limit


def require_device(device: torch.device | str) -> torch.device:
    """A device, known to work.

    Raises:
        OptionError: torch has no such device here.
    """
    try:
        torch.empty(1, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:  # torch has no one type for it
        reason = f"{device}: {str(error).splitlines()[0]}"
        raise OptionError("a device that torch has here", reason, "choose cpu", tensor="device") from None


def available_memory(device: torch.device) -> int | None:
    """Bytes that a device has left, or ``None`` where it does not say (not CUDA, not Linux)."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    if device.type != "cpu":
        return None
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        available = min(available, limit - used + int(statistics["file"]))  # cached files give way
    except (OSError, KeyError, ValueError):  # no such limit
        pass
    return max(0, available)
