"""Torch's files: strange tensors, pickles and archives, cases 60 to 74 and 112 to 116."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.hostile.cases import Canary, Cases, Prepared, Tensors, packing, tensors

CASES = Cases()

CASES.torch_source(60, "bfloat16", None, lambda s, _: {k: v.bfloat16() for k, v in s.items()})
CASES.torch_source(61, "complex", "complex|float", lambda s, _: {k: v.to(torch.complex64) for k, v in s.items()})
CASES.torch_source(
    62,
    "channels-last",
    None,
    lambda s, _: {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in s.items()},
)
CASES.torch_source(
    64, "sparse", "plain dense tensor", lambda s, _: {**s, "features.0.weight": s["features.0.weight"].to_sparse()}
)
CASES.torch_source(
    64, "meta", "plain dense tensor", lambda s, _: {**s, "features.0.weight": s["features.0.weight"].to("meta")}
)
CASES.torch_source(65, "requires grad", None, lambda s, _: {k: torch.nn.Parameter(v) for k, v in s.items()})
CASES.torch_source(67, "an extra layer", "extra", lambda s, _: {**s, "extra.weight": torch.zeros(3)})
CASES.torch_source(
    69, "wrapped and prefixed", None, lambda s, _: {"state_dict": {f"module.{k}": v for k, v in s.items()}}
)
CASES.torch_source(70, "a whole module", "state_dict", lambda s, _: torch.nn.Conv2d(3, 64, 3))


CASES.torch_source(
    71, "a pickle that runs code", "save model.state_dict", lambda s, folder: {**s, "x": Canary(folder / "canary")}
)


def rezipped(folder: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], method: int) -> None:
    """A torch file whose archive was made otherwise."""
    torch.save(tensors(), folder / "plain")
    with zipfile.ZipFile(folder / "plain") as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    (folder / "plain").unlink()
    with zipfile.ZipFile(folder / "x.pth", "w", method) as archive:
        for name, data in change(members):
            archive.writestr(name, data)


@CASES.case(72)
def a_zip_bomb(folder: Path) -> Prepared:
    rezipped(folder, lambda members: [*members, ("plain/bomb", bytes(3 * 10**8))], zipfile.ZIP_DEFLATED)
    return packing(folder / "x.pth"), "compressed members"


@CASES.case(72)
def a_small_bomb_of_bz2(folder: Path) -> Prepared:
    with zipfile.ZipFile(folder / "x.pth", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    return packing(folder / "x.pth"), "compressed members"


@CASES.case(72)
def an_archive_that_torch_reads_otherwise(folder: Path) -> Prepared:
    torch.save(tensors(), folder / "x.pth")
    data = bytearray((folder / "x.pth").read_bytes())
    locator = len(data) - 42
    assert data[locator : locator + 4] == b"PK\6\7"
    data[locator + 8 : locator + 16] = struct.pack("<Q", 0)
    (folder / "x.pth").write_bytes(data)
    return packing(folder / "x.pth"), "two directories"


def small_pickle(number: int, name: str, pickled: bytes, match: str) -> None:
    """A case that is a torch file of a few bytes, in either form."""

    def archived(folder: Path) -> Prepared:
        torch.save({}, folder / "x.pth")
        with zipfile.ZipFile(folder / "x.pth") as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        with zipfile.ZipFile(folder / "x.pth", "w") as archive:
            for member, data in members:
                archive.writestr(member, pickled if member.endswith("data.pkl") else data)
        return packing(folder / "x.pth"), match

    def legacy(folder: Path) -> Prepared:
        torch.save({}, folder / "x.pth", _use_new_zipfile_serialization=False)
        data = (folder / "x.pth").read_bytes()
        begin = data.index(b"}q", 60)
        (folder / "x.pth").write_bytes(data[: begin - 2] + pickled + data[begin:])
        return packing(folder / "x.pth"), match

    CASES.add(number, name, archived)
    CASES.add(number, f"{name}, in the older form", legacy)


BYTEARRAY = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", 2 * 10**9) + b"\x85Rs."
small_pickle(71, "a pickle that takes 2 GB", BYTEARRAY, "a pickle that holds more")
DEEP = b"\x80\x02})" + b"\x85" * 30_000 + b"K\x01s."
small_pickle(71, "a tuple 30,000 deep", DEEP, "a pickle that holds more|a damaged pickle|names")
METHOD = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x05sb."
small_pickle(71, "an attribute over a method", METHOD, "expected names|state dict")


def odd_tensor(name: str, make: Callable[[], torch.Tensor]) -> None:
    def made(found: Tensors, _: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of things that will go
            return {**found, "x": make()}

    CASES.torch_source(64, name, "a pickle that holds more", made)


odd_tensor("nested", lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(4)]))
odd_tensor("negated", lambda: torch.tensor([1 + 2j, 3 - 4j]).conj().imag)
odd_tensor("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8))


def numbered(found: Tensors, _: Path) -> object:
    strange: dict[object, torch.Tensor] = {5: torch.zeros(3)}
    return strange | dict[object, torch.Tensor](found)


CASES.torch_source(64, "a name that is no text", "expected names, got a int", numbered)


def tied(found: Tensors, _: Path) -> object:
    both = torch.cat([found["features.0.bias"], found["features.3.bias"]])
    return {**found, "features.0.bias": both[:64], "features.3.bias": both[64:]}


CASES.torch_source(65, "memory shared", None, tied)


@CASES.case(73)
def duplicate_members(folder: Path) -> Prepared:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rezipped(folder, lambda members: [*members, members[1]], zipfile.ZIP_STORED)
    return packing(folder / "x.pth"), "of one name"


@CASES.case(73)
def case_mangled_members(folder: Path) -> Prepared:
    rezipped(folder, lambda members: [*members, (members[1][0].upper(), b"x")], zipfile.ZIP_STORED)
    return packing(folder / "x.pth"), "of one name"


@CASES.case(65)
def saved_on_a_gpu(folder: Path) -> Prepared:
    def moved(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        cpu, cuda = (b"X" + struct.pack("<I", len(word)) + word for word in (b"cpu", b"cuda:0"))
        assert cpu in dict(members)["plain/data.pkl"]
        return [(name, data.replace(cpu, cuda) if name == "plain/data.pkl" else data) for name, data in members]

    rezipped(folder, moved, zipfile.ZIP_STORED)
    return packing(folder / "x.pth"), None


@CASES.case(74)
def a_legacy_tar(folder: Path) -> Prepared:
    with tarfile.open(folder / "x.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"\x80\x02}."))
    return packing(folder / "x.pth"), "beginning b'storages"


@CASES.case(74)
def a_protocol_0_pickle(folder: Path) -> Prepared:
    (folder / "x.pth").write_bytes(pickle.dumps(Canary(folder / "canary"), 0))
    return packing(folder / "x.pth"), "beginning b'c"


TWINS = b"\x80\x02}K\x01\x85" + b"2\x86" * 60 + b"K\x01s."  # each tuple holds the one before twice
small_pickle(112, "a key of tuples whose hash takes for ever", TWINS, "names|a whole module|no tensors")


@CASES.case(113)
def a_second_pickle_in_capitals(folder: Path) -> Prepared:
    def changed(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        plain = dict(members)["plain/data.pkl"]
        others = [(name, data) for name, data in members if name != "plain/data.pkl"]
        return [("plain/DATA.PKL", BYTEARRAY), *others, ("plain/zz/data.pkl", plain)]

    rezipped(folder, changed, zipfile.ZIP_STORED)
    return packing(folder / "x.pth"), "an archive of something else"


@CASES.case(114)
def a_directory_in_another_place(folder: Path) -> Prepared:
    with zipfile.ZipFile(folder / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    data = bytearray((folder / "x.pth").read_bytes())
    end = data.index(b"PK\5\6")
    directory, begin = data[data.index(b"PK\1\2") : end], end - 46 - len("x/data.pkl")
    hidden = data[:begin] + directory + directory + data[end:]  # the offset names the first, the place the second
    (folder / "x.pth").write_bytes(hidden)
    return packing(folder / "x.pth"), "two directories"


@CASES.case(114)
def a_directory_of_the_whole_file(folder: Path) -> Prepared:
    size = 2**23
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size - 4, 4, 0)
    (folder / "x.pth").write_bytes(b"PK\3\4" + bytes(size - 4) + end)
    return packing(folder / "x.pth"), f"a directory of {size - 4} bytes"


@CASES.case(114)
def a_member_that_is_a_folder(folder: Path) -> Prepared:
    torch.save(tensors(), folder / "x.pth")
    data = bytearray((folder / "x.pth").read_bytes())
    entry = data.rindex(b"PK\1\2", 0, data.rindex(b"/data/0"))
    data[entry + 38] |= 0x10
    (folder / "x.pth").write_bytes(data)
    return packing(folder / "x.pth"), "folders, which torch never writes"


@CASES.case(115)
def storages_that_are_not_listed(folder: Path) -> Prepared:
    torch.save({"features.0.bias": torch.ones(64)}, folder / "x.pth", _use_new_zipfile_serialization=False)
    data = (folder / "x.pth").read_bytes()
    begin = data.rindex(b"\x80\x02]")
    (folder / "x.pth").write_bytes(data[:begin] + b"\x80\x02].")
    return packing(folder / "x.pth"), "a list of other storages"


COPIES = b"\x80\x02ccollections\nOrderedDict\nq\0](" + b"h\0)R" * 26_000 + b"e."
small_pickle(116, "thousands of dicts", COPIES, "got a list|a damaged pickle")
LONG = b"\x80\x02K\x01K\x02\x86q\x02]q\x01(" + b"h\x02" * 60_000 + b"eccollections\nOrderedDict\nq\x03"
small_pickle(116, "copies of a long dict", LONG + b"h\x01\x85R" + b"h\x03h\x01\x85R" * 300 + b".", "pickle")


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
