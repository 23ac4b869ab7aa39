from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from vggquant.errors import OptionError
from vggquant.models import devices
from vggquant.models.devices import available_memory, require_device

CPU = torch.device("cpu")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/meminfo")


def test_a_device_that_works_is_given_back() -> None:
    assert require_device("cpu") == require_device(CPU) == CPU


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", ""])
def test_other_devices_are_refused_in_one_line(device: str) -> None:
    with pytest.raises(OptionError) as caught:
        require_device(device)
    assert str(caught.value).startswith(f"device: expected a device that torch has here, got {device}: ")
    assert str(caught.value).endswith("; choose cpu")
    assert "\n" not in str(caught.value)


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
