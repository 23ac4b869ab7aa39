"""Torch's files: every form that torch writes is read, no code in one is ever run, and damage is found."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.conftest import GOLDEN, Floats
from tests.files.conftest import UPTO, reads_as
from tests.hostile.cases import Canary
from vggquant.errors import SourceError
from vggquant.files.sources import read_source
from vggquant.files.tensors import write_safetensors
from vggquant.files.torch_files import write_torch
from vggquant.networks.vgg import ARCHITECTURES, require_vgg

State = dict[str, torch.Tensor]


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("ending", [".pth", ".pt"])
def test_every_form_is_read(ending: str, state: State, arrays: dict[str, Floats], tmp_path: Path) -> None:
    torch.save(state, tmp_path / f"a{ending}")
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, tmp_path / f"b{ending}")
    torch.save(state, tmp_path / f"c{ending}", _use_new_zipfile_serialization=False)
    turned = {n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in state.items()}
    torch.save({n: torch.nn.Parameter(t) for n, t in turned.items()}, tmp_path / f"d{ending}")
    for name in "abcd":
        assert reads_as(tmp_path / f"{name}{ending}", arrays, preprocessing="torch")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_other_types(dtype: torch.dtype, ending: str, state: State, tmp_path: Path) -> None:
    converted = {name: tensor.to(dtype) for name, tensor in state.items()}
    path = tmp_path / f"x{ending}"
    if ending == ".pth":
        torch.save(converted, path)
    else:
        safetensors.torch.save_file(converted, path)
    weights = read_source(path, preprocessing="torch", arch="vgg11", upto="relu1_1", ignore_extra=True).weights
    for part in ("weight", "bias"):
        assert np.array_equal(weights.array(f"conv1_1.{part}"), converted[f"features.0.{part}"].float().numpy())


def test_what_is_written_is_torchs_own(state: State, tmp_path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    chunks = write_torch(arrays)
    assert [bytes(chunk) for chunk in chunks] == [bytes(chunk) for chunk in write_torch(arrays)]
    (tmp_path / "x.pth").write_bytes(b"".join(bytes(chunk) for chunk in chunks))
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


# ---- versions of torch


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cu117", "2.4.0a0"])
def test_pth_needs_a_torch_without_the_hole(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved({"conv1_1.weight": torch.zeros(3)}, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(SourceError) as caught:
        read_source(path)
    assert str(caught.value) == (
        f"{path}: expected torch 2.10 or newer to read a .pth, got torch {version}, whose reader can be made to run "
        "code (CVE-2026-24747); upgrade torch, or convert the file to safetensors where you trust it"
    )


def test_other_files_need_no_such_torch(
    arrays: dict[str, Floats], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.0")
    (tmp_path / "x").write_bytes(b"".join(bytes(chunk) for chunk in write_safetensors(arrays, {})))
    assert reads_as(tmp_path / "x", arrays)
    packed = read_source(GOLDEN / "planes-3.safetensors").weights
    assert require_vgg(packed.network).architecture == ARCHITECTURES["vgg11"]


# ---- what is more than tensors, or something else


def test_a_pickle_never_runs(state: State, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({**state, "x": Canary(canary)}, tmp_path / "a.pth")
    torch.save({"x": Canary(canary)}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Canary(canary)))
    for name in "abc":
        with pytest.raises(SourceError, match="torch state dict"):
            read_source(tmp_path / f"{name}.pth", preprocessing="torch")
        assert not canary.exists()


def test_a_state_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["state_dict"] = state
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(SourceError, match="no tensors"):
        read_source(tmp_path / "x.pth", preprocessing="torch")


def test_a_tensor_that_claims_a_huge_shape_is_refused(state: State, tmp_path: Path) -> None:
    huge = torch.zeros(1, dtype=torch.bfloat16).expand(2**40)
    torch.save({**state, "features.3.weight": huge}, tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"features\.3\.weight: expected shape"):
        read_source(tmp_path / "x.pth", preprocessing="torch", arch="vgg11", upto=UPTO)


def test_a_whole_module_says_what_to_save(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 64, 3), tmp_path / "x.pth")
    with pytest.raises(SourceError, match=r"a whole module; save model\.state_dict\(\)"):
        read_source(tmp_path / "x.pth", preprocessing="torch")


@pytest.mark.parametrize("kind", ["sparse", "meta", "int8"])
def test_tensors_of_other_kinds_are_refused(kind: str, state: State, tmp_path: Path) -> None:
    weight = state["features.3.weight"]
    odd = {
        "sparse": lambda: weight.to_sparse(),
        "meta": lambda: weight.to("meta"),
        "int8": lambda: weight.to(torch.int8),
    }[kind]()
    torch.save({**state, "features.3.weight": odd}, tmp_path / "x.pth")
    with pytest.raises(SourceError):
        read_source(tmp_path / "x.pth", preprocessing="torch", arch="vgg11", upto=UPTO)


def test_torch_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a torch state dict, got list; save model"):
        read_source(saved([torch.zeros(3)], tmp_path / "x.pth"))
    with pytest.raises(SourceError, match="got no tensors"):
        read_source(saved({"epoch": 3}, tmp_path / "x.pth"))


def test_a_zip_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(SourceError, match="torch state dict"):
        read_source(tmp_path / "x.pth")


# ---- damage


def test_a_flipped_bit_is_found(state: State, tmp_path: Path) -> None:
    path = saved(state, tmp_path / "x.pth")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        read_source(path, preprocessing="torch", arch="vgg11", upto=UPTO)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = saved({"conv1_1.weight": torch.zeros(999)}, tmp_path / "x.pth")
    data = bytearray(path.read_bytes())
    place = data.index(bytes(3000))
    data[place + 1500] ^= 1  # not in what pads its header
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"got a damaged member x/data/0; get it again"):
        read_source(path)


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", bytes(1000))
    data = (tmp_path / "x.pth").read_bytes()
    begin, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[begin:end]
    directory = entry + entry.replace(b"x/data", b"y/data")
    record = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, len(directory), begin, 0)
    (tmp_path / "x.pth").write_bytes(data[:begin] + directory + record)
    with pytest.raises(SourceError, match="got members that overlap"):
        read_source(tmp_path / "x.pth")
