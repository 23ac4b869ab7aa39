from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vggquant.errors import OptionError
from vggquant.models import devices
from vggquant.models.devices import available_memory, computes_bf16, require_device

PROCESSOR_FEATURES = devices.processor_features  # which other tests do without
CPU = torch.device("cpu")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/meminfo")


def test_a_device_that_works_is_given_back() -> None:
    assert require_device("cpu") == require_device(CPU) == CPU


@pytest.mark.parametrize(("device", "got"), [("nonsense", "nonsense;"), ("cuda:99", "cuda:99: "), ("", ": ")])
def test_other_devices_are_refused_in_one_line(device: str, got: str) -> None:
    with pytest.raises(OptionError) as caught:
        require_device(device)
    assert str(caught.value).startswith(f"device: expected a device that torch has here, got {got}")
    assert str(caught.value).endswith("; choose cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match="supplemental_devices: expected a device"):
        require_device(device, "supplemental_devices")


@pytest.mark.parametrize("device", [f"cuda:{'9' * 5000}", 10**30], ids=["text", "number"])
def test_a_device_of_many_digits_is_refused_in_one_line(device: Any) -> None:
    with pytest.raises(OptionError, match=r"^device: expected a device that torch has here, got ") as caught:
        require_device(device)
    assert len(str(caught.value)) < 1000


def test_a_device_without_a_known_memory() -> None:
    assert available_memory(torch.device("meta")) is None


def container(folder: Path, limit: str, used: int = 700, cached: int = 300) -> Path:
    """What Linux says of a container's memory."""
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\nfile {cached}\n")
    return folder


@linux
@pytest.mark.parametrize(("limit", "left"), [("1000", 600), ("200", 0)])
def test_a_container_has_what_its_limit_leaves(
    limit: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_CGROUP", container(tmp_path, limit))
    assert available_memory(CPU) == left


@linux
def test_without_a_limit_it_is_the_machines_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_CGROUP", tmp_path / "none")
    whole = available_memory(CPU)
    assert whole is not None
    assert whole > 1_000_000
    monkeypatch.setattr(devices, "_CGROUP", container(tmp_path, "max"))
    assert available_memory(CPU) == pytest.approx(whole, rel=0.5)


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_memory_that_torch_keeps_for_later_is_left(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device(name)
    for function, answer in (("mem_get_info", (1000, 9000)), ("memory_reserved", 700), ("memory_allocated", 300)):

        def told(asked: torch.device, answer: object = answer) -> object:
            assert asked == device
            return answer

        monkeypatch.setattr(torch.cuda, function, told)
    assert available_memory(device) == 1400


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_freed_memory_of_a_gpu_is_left() -> None:
    device = torch.device("cuda")
    torch.empty(2**28, dtype=torch.uint8, device=device)  # freed at once, and kept by torch
    assert torch.cuda.memory_reserved(device) >= 2**28
    available = available_memory(device)
    assert available is not None
    assert available >= torch.cuda.mem_get_info(device)[0] + 2**28


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_with_bf16(feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
    monkeypatch.setattr(devices, "processor_features", lambda: {"avx512_f", feature})
    assert computes_bf16(cpu)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)  # without it torch makes no use of that
    assert not computes_bf16(cpu)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
    monkeypatch.setattr(devices, "processor_features", lambda: {"avx512_f"})
    assert not computes_bf16(cpu)
    assert not computes_bf16(torch.device("meta"))


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_with_bf16(capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capability)
    assert computes_bf16(torch.device("cuda", 1)) == expected


def test_features_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "torch.cpu.get_capabilities", lambda: {"avx2": True, "amx_bf16": False, "num_sockets": 1}, raising=False
    )
    assert PROCESSOR_FEATURES() == {"avx2"}
    monkeypatch.delattr("torch.cpu.get_capabilities")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512_bf16 sse\n")
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "cpuinfo")
    assert "avx512_bf16" in PROCESSOR_FEATURES()
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "nowhere")
    assert PROCESSOR_FEATURES() == set()
