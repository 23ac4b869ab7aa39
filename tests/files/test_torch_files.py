"""Torch's files: every form that torch writes is read without torch, no code in one is run, and damage is found."""

from __future__ import annotations

import io
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.conftest import Floats
from tests.files.conftest import UPTO, reads_as
from tests.hostile.cases import Canary
from vggquant.errors import SourceError
from vggquant.files.contents import open_content
from vggquant.files.disk import Readable
from vggquant.files.sources import read_source
from vggquant.files.tensors import SourceTensor
from vggquant.files.torch_files import read_torch, write_torch

State = dict[str, torch.Tensor]


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def tensors_of(source: Readable) -> Mapping[str, SourceTensor]:
    with open_content(source) as content:
        return read_torch(content).tensors


@pytest.mark.parametrize("ending", [".pth", ".pt"])
def test_every_form_is_read(ending: str, state: State, arrays: dict[str, Floats], tmp_path: Path) -> None:
    torch.save(state, tmp_path / f"a{ending}")
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, tmp_path / f"b{ending}")
    torch.save(state, tmp_path / f"c{ending}", _use_new_zipfile_serialization=False)
    turned = {n: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in state.items()}
    torch.save({n: torch.nn.Parameter(t) for n, t in turned.items()}, tmp_path / f"d{ending}")
    torch.save({"epoch": 3, "optimizer": {"state": {0: {"step": 1.5}}}, "model": state}, tmp_path / f"e{ending}")
    torch.save(OrderedDict(state), tmp_path / f"f{ending}", pickle_protocol=4)
    torch.save(module_of(state).state_dict(), tmp_path / f"g{ending}")  # carries versions in an attribute
    for name in "abcdefg":
        assert reads_as(tmp_path / f"{name}{ending}", arrays, preprocessing="torch")


def test_the_stride_of_a_side_of_one_may_be_any_number(tmp_path: Path) -> None:
    odd = torch.arange(6.0).as_strided((1, 3), (2**62, 2))
    torch.save({"features.0.bias": odd}, tmp_path / "x.pth")
    (tensor,) = tensors_of(tmp_path / "x.pth").values()
    assert tensor.read().tolist() == [[0, 2, 4]]


def test_the_last_value_of_a_name_counts(tmp_path: Path) -> None:
    path, older = tmp_path / "x.pth", {"_use_new_zipfile_serialization": False}
    torch.save({"a": torch.ones(1), "b": torch.ones(1), "c": None}, path, **older)
    path.write_bytes(path.read_bytes().replace(b"X\1\0\0\0c", b"X\1\0\0\0a"))
    assert torch.load(path)["a"] is None
    assert list(tensors_of(path)) == ["b"]


@pytest.mark.parametrize("names", [("model", "state_dict"), ("state_dict", "net")])
def test_state_dicts_that_are_wrapped_twice(names: tuple[str, str], state: State, tmp_path: Path) -> None:
    torch.save({names[0]: {names[1]: state}}, tmp_path / "x.pth")
    assert list(tensors_of(tmp_path / "x.pth")) == list(state)


def module_of(state: State) -> torch.nn.Module:
    """A module with these tensors under these names."""
    root = torch.nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, torch.nn.Parameter(tensor))
    return root


def test_views_of_one_storage_are_read(tmp_path: Path) -> None:
    both = torch.arange(24.0)
    content = {"a": both[4:10], "b": both.reshape(4, 6).T, "c": both[5], "d": both[:0], "e": both[:1].expand(5)}
    for archived in (True, False):
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=archived)
        found = tensors_of(tmp_path / "x.pth")
        for name, tensor in content.items():
            assert found[name].shape == tuple(tensor.shape)
            assert np.array_equal(found[name].read(), tensor.numpy())


def test_python_2_files_are_read() -> None:
    """What torch 0.4 wrote from Python 2, which the oldest published files are."""

    def text(word: bytes) -> bytes:
        return b"U" + bytes([len(word)]) + word

    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"7") + text(b"cpu") + b"K\x03NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00K\x03\x85K\x01\x85tR"
    content = b"\x80\x02ccollections\nOrderedDict\n](](" + text(b"bias") + tensor + b"ee\x85R."
    system = b"\x80\x02}(" + text(b"little_endian") + b"\x88" + text(b"protocol_version") + b"M\xe9\x03u."
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    keys = b"\x80\x02](" + text(b"7") + b"e."
    elements = np.arange(3, dtype="<f4")
    data = magic + b"\x80\x02M\xe9\x03." + system + content + keys + struct.pack("<q", 3) + elements.tobytes()
    assert torch.equal(torch.load(io.BytesIO(data), weights_only=True)["bias"], torch.arange(3.0))
    found = tensors_of(data)
    assert np.array_equal(found["bias"].read(), elements)


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
    with pytest.raises(SourceError, match=r"a whole module .*; save model\.state_dict\(\)"):
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
    with pytest.raises(SourceError, match="expected a torch state dict, got a list; save it anew"):
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


def widened(folder: Path, change: Callable[[bytearray], None]) -> Path:
    """A file of one tensor whose members' sizes are in zip64 fields; changed from where a member begins."""
    torch.save({"a": torch.arange(3.0)}, folder / "plain")
    path = folder / "x.pth"
    with zipfile.ZipFile(folder / "plain") as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(plain.read(name))
    data = bytearray(path.read_bytes())
    assert data[18:26] == b"\xff" * 8  # both sizes of the first member
    change(data)
    path.write_bytes(data)
    return path


WRITES_ZIP64 = pytest.mark.skipif(sys.version_info < (3, 11), reason="zipfile of Python 3.10 writes no such sizes")


@WRITES_ZIP64
def test_sizes_of_64_bits_are_read(tmp_path: Path) -> None:
    assert tensors_of(widened(tmp_path, lambda data: None))["a"].read().tolist() == [0, 1, 2]


@WRITES_ZIP64
@pytest.mark.parametrize("place", [14, 30 + len("plain/data.pkl") + 4, 30 + len("plain/data.pkl") + 12])
def test_sizes_of_64_bits_are_compared_with_the_directory(place: int, tmp_path: Path) -> None:
    """What is changed is the checksum, the size and the size when packed."""

    def change(data: bytearray) -> None:
        data[place] ^= 1

    with pytest.raises(SourceError, match=r"sizes before plain/data\.pkl other than in the directory"):
        tensors_of(widened(tmp_path, change))


# ---- the older form


def older(tmp_path: Path, change: Callable[[bytes], bytes]) -> Path:
    """A file of two tensors in the older form, changed; its storages are called 1 and 2."""
    torch.save({"a": torch.arange(2.0), "b": torch.ones(2)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    keys = sorted(set(re.findall(rb"X....(\d{5,20})", data)))  # the order in which torch writes them
    for number, key in enumerate(keys, start=1):
        data = data.replace(struct.pack("<I", len(key)) + key, b"\1\0\0\0" + str(number).encode())
    (tmp_path / "x.pth").write_bytes(change(data))
    return tmp_path / "x.pth"


def test_storages_come_in_any_order(tmp_path: Path) -> None:
    found = tensors_of(older(tmp_path, lambda data: data))
    assert [found[name].read().tolist() for name in "ab"] == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"(X\1\0\0\0001q\1X\1\0\0\0002q\2e.", b".", "a list of other storages"),
        (b"X\1\0\0\0002q\2e.", b"X\1\0\0\0001q\2e.", "a list of other storages"),
        (b"\2\0\0\0\0\0\0\0", b"\3\0\0\0\0\0\0\0", "a storage 2 of another size"),
        (b"", struct.pack("<f", 1), "something behind the last storage"),
        (struct.pack("<q2f", 2, 1, 1), struct.pack("<qf", 2, 1), "a storage . of another size"),
        (b"little_endianq\2\x88", b"little_endianq\2\x89", "little-endian tensors"),
        (b"K\2N", b"K\3N", "a storage . of another size"),
    ],
    ids=["empty list", "key twice", "size", "longer", "shorter", "big-endian", "other count"],
)
def test_storages_must_be_as_the_tensors_say(old: bytes, new: bytes, match: str, tmp_path: Path) -> None:
    def change(data: bytes) -> bytes:
        assert data.count(old) >= 1
        begin = data.rindex(old)
        return data[:begin] + new + data[begin + len(old) :]

    with pytest.raises(SourceError, match=match):
        read_source(older(tmp_path, change))


# ---- pickles


@pytest.mark.parametrize(
    ("pickled", "match"),
    [
        (b"(", "a pickle that ends early"),
        (b"K\x01K\x02(e.", "a whole module"),  # a list that is none
        (b"q\0.", "a damaged pickle"),
        (b"h\7.", "a damaged pickle"),
        (b"(t(tR.", "a whole module"),
        (b"}K\1(u.", "a whole module"),
        (b"K\1}(K\2K\2K\3u.", "a damaged pickle"),
        (b"](K\1t.", "got a tuple"),
        (b"cbuiltins\neval\n.", "builtins eval"),
        (b"ccollections\nOrderedDict\nK\1\x85R.", "a damaged pickle"),
        (b"ctorch\nFloatStorage\n)R.", "a whole module"),
        (b"\x8f.", "a whole module"),
    ],
    ids=repr,
)
def test_odd_pickles_are_refused(pickled: bytes, match: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02" + pickled)
    with pytest.raises(SourceError, match=match):
        read_source(tmp_path / "x.pth")
