"""Checks which devices torch can use on this machine, and how much memory they have left.

What to do with a device, or when memory runs short, is decided by the caller.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vggquant.errors import OptionError

_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # on x86, and on ARM
_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps the memory limit of a container


def require_device(device: torch.device | str, option: str = "device") -> torch.device:
    """Try a device by using it once.

    Args:
        device: To be tried.
        option: What the caller knows it as.

    Returns:
        The device.

    Raises:
        OptionError: torch has no such device on this machine.
    """
    try:
        torch.empty(1, device=device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError, ImportError, TypeError, ValueError) as error:  # torch raises any of these
        said = str(error).splitlines()[0]
        reason = str(device) if said.startswith("Expected one of") else f"{device}: {said}"  # not all that torch names
        raise OptionError("a device that torch has here", reason, "choose cpu", tensor=option) from None


def computes_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself, which is faster than float32; no, where that cannot be known."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # older ones only emulate it
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return not _BF16.isdisjoint(processor_features())


def processor_features() -> set[str]:
    """What the processor can do, by the names that Linux has for it; nothing, where that cannot be known."""
    if hasattr(torch.cpu, "get_capabilities"):
        return {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    try:  # where torch is too old to say
        return set(_CPUINFO.read_text().split())
    except OSError:
        return set()


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
