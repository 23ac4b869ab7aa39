"""Checks which devices torch can use on this machine, and how much memory they have left.

What to do with a device, or when memory runs short, is decided by the caller.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vggquant.errors import OptionError

_CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps the memory limit of a container


def require_device(device: torch.device | str) -> torch.device:
    """Try a device by using it once.

    Returns:
        The device.

    Raises:
        OptionError: torch has no such device on this machine.
    """
    try:
        torch.empty(1, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:  # torch raises any of these
        reason = f"{device}: {str(error).splitlines()[0]}"
        raise OptionError("a device that torch has here", reason, "choose cpu", tensor="device") from None


def available_memory(device: torch.device) -> int | None:
    """Bytes of memory that a device has left, or ``None`` if that cannot be known (neither CUDA nor Linux).

    Memory that torch keeps of what was freed, to use it again, counts as left.
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
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
        available = min(available, limit - used + int(statistics["file"]))  # files in the cache make room when needed
    except (OSError, KeyError, ValueError):  # there is no limit
        pass
    return max(0, available)
