"""The cases of docs/hostile.md, by number, through the command: one line, exit 1, nothing new, or the stated result."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import compressobj, crc32

import h5py
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from PIL import Image

from tests.conftest import GOLDEN, random_layers, run
from tests.fuzz import reseal, unseal
from tests.test_container import ASCENDING, LAYER, rebuilt
from vggquant.codec.coding import EncodedCodes, decode_codes
from vggquant.errors import ContainerError, printable
from vggquant.files.layouts import tensor_names, write_layout
from vggquant.networks.vgg import ARCHITECTURES

DOCUMENT = (Path(__file__).parent.parent / "docs" / "hostile.md").read_text()
SMALL = (GOLDEN / "planes-3.safetensors").read_bytes()
HUFFMAN = (GOLDEN / "huffman-2.safetensors").read_bytes()
VGG11 = ARCHITECTURES["vgg11"]
UPTO = "relu2_1"

Case = Callable[[Path], tuple[tuple[object, ...], str | None]]
"""Prepares a folder; gives the command and what its one line says, or None if it must work."""
CASES: dict[str, Case] = {}


def case(number: str) -> Callable[[Case], Case]:
    def note(made: Case) -> Case:
        CASES[f"{number} {made.__name__.strip('_').replace('_', ' ')}"] = made
        return made

    return note


def packed(numbers: str, name: str, data: Callable[[], bytes], match: str | None, command: str = "verify") -> None:
    """A case that is a packed file's bytes."""

    def made(folder: Path) -> tuple[tuple[object, ...], str | None]:
        (folder / "x.safetensors").write_bytes(data())
        return (command, folder / "x.safetensors"), match

    CASES[f"{numbers} {name}"] = made


def header_of(data: bytes) -> tuple[bytes, bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return data[8 : 8 + length], data[8 + length :]


def with_header(text: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + body


def changed(change: Callable[[dict[str, Any], dict[str, Any]], object], data: bytes = SMALL) -> Callable[[], bytes]:
    """Structure changed, checksums right."""

    def made() -> bytes:
        header, metadata, body = unseal(data)
        change(header, metadata)
        return reseal(header, metadata, body)

    return made


def tensor(suffix: str, **fields: Any) -> Callable[[], bytes]:
    return changed(lambda header, _: header[f"{LAYER}.{suffix}"].update(fields))


def layer(**fields: Any) -> Callable[[], bytes]:
    return changed(lambda _, metadata: metadata["layers"][LAYER].update(fields))


def text(old: bytes, new: bytes) -> Callable[[], bytes]:
    """The header's text changed; no checksum matters before the text is read."""
    return lambda: with_header(header_of(SMALL)[0].replace(old, new, 1), header_of(SMALL)[1])


def inner(old: str, new: str) -> Callable[[], bytes]:
    """The text of the metadata changed and sealed."""

    def made() -> bytes:
        header, metadata, body = unseal(SMALL)
        sealed = reseal(header, metadata, body, lambda t: t.replace(old.encode(), new.encode(), 1))
        assert old.encode() in SMALL
        return sealed

    return made


def shifted(suffix: str, by: int) -> Callable[[], bytes]:
    def change(header: dict[str, Any], _: dict[str, Any]) -> None:
        offsets = header[f"{LAYER}.{suffix}"]["data_offsets"]
        offsets[:] = [offset + by for offset in offsets]

    return changed(change)


# ---- container
packed("1", "empty", lambda: b"", "got 0 bytes")
packed("2", "under 8 bytes", lambda: SMALL[:7], "got 7 bytes")
packed("3", "header length 0", lambda: bytes(8) + SMALL[8:], "a header of 0 bytes")
packed("4", "header over 1 MiB", lambda: with_header(b"{" + b" " * 2**20, b""), "header of 1048577 bytes")
packed(
    "5",
    "header longer than the file",
    lambda: struct.pack("<Q", len(SMALL)) + SMALL[8:],
    "header of 1664 bytes in a file of 1664",
)
packed("6", "header length 2^63", lambda: struct.pack("<Q", 2**63) + SMALL[8:], "header of 9223372036854775808 bytes")
packed("7", "an HTML page", lambda: b"<!DOCTYPE html><html><body>Not found</body></html>", "HTML")
packed("8", "a git-LFS pointer", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2\n", "LFS")
packed("9", "a renamed pickle", lambda: pickle.dumps({"a": 1}, 2) + bytes(99), "got a pickle")
packed("9", "a renamed zip", lambda: b"PK\x03\x04" + bytes(99), "got a zip")
packed("9", "a renamed h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "got an HDF5")
packed("10", "truncated", lambda: SMALL[:-1], "within 935")
packed("11", "trailing bytes", lambda: SMALL + b"\0", "936 bytes of tensors, got 937")
packed(
    "12",
    "overlapping offsets",
    shifted("weight.codebook", -4),
    "codebook: expected data from byte 256 on, within 936, got 252",
)
packed("13", "a hole", shifted("bias", 4), "expected data from byte 0 on")
packed("14", "offsets reversed", tensor("bias", data_offsets=[256, 0]), "expected 256 bytes .* got -256")
packed("14", "offsets negative", tensor("bias", data_offsets=[-256, 0]), "below 0")
packed("14", "offsets past the end", tensor("bias", data_offsets=[10**9, 10**9 + 256]), "from byte .* within 936")
packed("15", "offsets that disagree with the shape", tensor("bias", shape=[63]), "expected 252 bytes")
packed("16", "not UTF-8", text(b"conv1_1.bias", b"\xffonv1_1.bias"), "header: expected JSON in UTF-8, got .utf-8")
packed(
    "16", "a byte order mark", lambda: with_header(b"\xef\xbb\xbf" + header_of(SMALL)[0], header_of(SMALL)[1]), "xef"
)
packed("16", "NUL padding", lambda: with_header(header_of(SMALL)[0] + bytes(8), header_of(SMALL)[1]), "Extra data")
packed("17", "nested 200,000 deep", lambda: with_header(b"[" * 200_000 + b"]" * 200_000, b""), r"\[\[\[")
packed("18", "top level not an object", lambda: with_header(b"[]      ", b""), r"\[\]")
packed(
    "19",
    "duplicate name",
    text(b"{", b'{"conv1_1.bias":{"dtype":"F32","shape":[64],"data_offsets":[0,256]},'),
    "a name given twice",
)
packed("20", "unknown field", tensor("bias", zero=0), "dtype, shape and data_offsets")
for odd in ("", "\x00", "\ud800", "\x1b[2J\x1b[31m", "../../x"):
    said = f"{LAYER}.bias: expected a tensor of that name" if odd.isprintable() and odd else "expected a printable name"
    said = "header: expected JSON in UTF-8" if odd == "\ud800" else said
    packed("21", f"the name {odd!r}", changed(lambda h, m, n=odd: h.update({n: h.pop(f"{LAYER}.bias")})), said)  # type: ignore[misc]
many = {f"t{index}": np.zeros(1, np.float32) for index in range(257)}
packed("22", "over 256 tensors", lambda: safetensors.numpy.save(many), "256")
packed(
    "23",
    "an ordinary safetensors file",
    lambda: safetensors.numpy.save({"a": np.zeros(3, np.float32)}),
    "vggquant pack",
)

# ---- metadata
packed("24", "key missing", changed(lambda h, m: h.update(__metadata__={"format": "pt"})), "vggquant pack")
packed("25", "bad JSON", inner('{\\"architecture', "{architecture"), "vggquant: expected JSON")
packed(
    "25",
    "metadata that is no object",
    lambda: safetensors.numpy.save({}, {"vggquant": "[]"}),
    "vggquant: expected a JSON object, got list",
)
packed(
    "26",
    "duplicate keys",
    inner('{\\"architecture', '{\\"coding\\":1,\\"coding\\":1,\\"architecture'),
    "a name given twice",
)
packed("27", "NaN", layer(sqnr_db=float("nan")), "got NaN, which JSON has not")
packed("27", "Infinity", layer(sqnr_db=float("inf")), "Infinity, which JSON has not")
packed("28", "an integer of 4,301 digits", inner('\\"bits\\":3', f'\\"bits\\":{"9" * 4301}'), "beyond 64 bits")
for no_integer in (True, 3.0, "3"):
    packed("29", f"bits {no_integer!r}", layer(bits=no_integer), "bits")
packed("30", "format version missing", changed(lambda h, m: m.pop("format_version")), "format_version")
packed("30", "format version newer", changed(lambda h, m: m.update(format_version=2)), "upgrade vggquant")
packed("31", "unknown architecture", changed(lambda h, m: m.update(architecture="vgg12")), "vgg11")
packed(
    "32",
    "layers not the architecture's",
    changed(lambda h, m: m["layers"].update(conv9_9={})),
    "first layers of vgg11, got conv1_1, conv9_9",
)
packed(
    "33",
    "entry without tensor",
    changed(lambda h, m: m["layers"].update(conv2_1={**m["layers"][LAYER], "shape": [128, 64, 3, 3]})),
    "conv2_1.weight.codes: expected a tensor of that name, got none",
)
packed("34", "no entry at all", changed(lambda h, m: m.update(layers={})), "first layers of vgg11, got none")
packed(
    "34",
    "tensor without entry",
    changed(lambda h, m: h.update({"conv2_1.bias": {"dtype": "F32", "shape": [0], "data_offsets": [936, 936]}})),
    "conv2_1.bias: expected only tensors of its layers",
)
packed("35", "checksum missing", changed(lambda h, m: m["layers"][LAYER].pop("crc32")), "crc32")
packed("35", "checksum wrong", lambda: SMALL[:-1] + bytes([SMALL[-1] ^ 1]), "checksum")


def upper_case() -> bytes:
    found = re.search(rb'(?<=\\"crc32\\":\\")[0-9a-f]{8}', SMALL)
    assert found
    assert found[0] != found[0].upper()
    header, metadata, body = unseal(SMALL)
    crc = metadata["layers"][LAYER]["crc32"]
    return reseal(header, metadata, body, lambda t: t.replace(crc.encode(), crc.upper().encode(), 1))


packed("35", "checksum in another letter case", upper_case, "lower-case")
packed(
    "35", "a flipped bit of the header", lambda: SMALL.replace(b'layout\\":\\"v', b'layout\\":\\"w'), "header checksum"
)

# ---- codes
for bits in (0, 9, -1):
    packed(
        "36",
        f"bits {bits}",
        layer(bits=bits),
        "below 0" if bits < 0 else f"bits: expected an integer from 1 to 8, got {bits}",
    )
packed("37", "stream one byte short", lambda: rebuilt(weight_codes=np.zeros(647, np.uint8)), "shape")
packed("37", "stream one byte long", lambda: rebuilt(weight_codes=np.zeros(649, np.uint8)), "shape")
packed("39", "dtype not uint8", tensor("weight.codes", dtype="I8"), "U8")
codes = np.full(648, 0xFF, np.uint8)
packed(
    "40",
    "a code beyond the codebook",
    lambda: rebuilt(weight_codebook=ASCENDING[:7], weight_codes=codes),
    "codes below 7",
)
packed("41", "codebook empty", lambda: rebuilt(weight_codebook=ASCENDING[:0]), "centroids")
packed("41", "codebook over 2^bits", lambda: rebuilt(weight_codebook=np.arange(9, dtype=np.float32)), "centroids")
packed("42", "codebook of another type", tensor("weight.codebook", dtype="I32"), "F32")
packed("42", "codebook of another rank", tensor("weight.codebook", shape=[8, 1]), r"centroids, got \(8, 1\)")
for name, value in (
    ("weight_codebook", ASCENDING),
    ("weight_scale", np.ones(64, np.float32)),
    ("bias", np.ones(64, np.float32)),
):
    for wrong in (np.nan, np.inf):
        spoilt = value.copy()
        spoilt[-1] = wrong
        packed("43", f"{wrong} in {name}", lambda name=name, spoilt=spoilt: rebuilt(**{name: spoilt}), "finite")  # type: ignore[misc]
packed(
    "43",
    "a scale that overflows",
    lambda: rebuilt(weight_codebook=ASCENDING * 1e30, weight_scale=np.full(64, 1e30, np.float32)),
    "weight.scale: expected weights within float32",
)
packed("44", "centroids unsorted", lambda: rebuilt(weight_codebook=ASCENDING[::-1].copy()), "ascending")
packed("44", "centroids repeated", lambda: rebuilt(weight_codebook=np.repeat(ASCENDING[:4], 2)), "ascending")
packed("45", "shape product overflow", tensor("bias", shape=[2**62, 2**62]), "elements, got 2")
packed("46", "offsets up to 2^64 - 1", tensor("bias", data_offsets=[0, 2**64 - 1]), "two offsets")
packed("47", "rank over 8", tensor("bias", shape=[64, *[1] * 8]), "rank 8 at most")
packed("48", "shape not the architecture's", layer(shape=[64, 3, 3, 4]), "shape")


def shared_stream(header: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata["layers"]["conv2_1"] = dict(metadata["layers"][LAYER])
    for suffix in ("weight.codes", "weight.codebook", "bias"):
        header[f"conv2_1.{suffix}"] = dict(header[f"{LAYER}.{suffix}"])


packed("49", "one stream shared by two layers", changed(shared_stream), "conv2_1.bias: expected data from byte")


def with_stream(stream: bytes) -> bytes:
    header, metadata, body = unseal(HUFFMAN)
    codes = header[f"{LAYER}.weight.codes"]
    begin, end = codes["data_offsets"]
    body = body[:begin] + stream + body[end:]
    by = len(stream) - (end - begin)
    for entry in header.values():
        if "data_offsets" in entry and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]
    codes["data_offsets"], codes["shape"] = [begin, begin + len(stream)], [len(stream)]
    return reseal(header, metadata, body)


def deflated(size: int) -> bytes:
    packer = compressobj(9, 8, -15)
    return packer.compress(bytes(size)) + packer.flush()


packed("50", "output over budget", lambda: with_stream(deflated(2**18)), "runs on")
packed("52", "a huffman stream that ends early", lambda: with_stream(deflated(10)), "ends early")
packed("52", "a huffman stream that runs on", lambda: with_stream(deflated(432) + b"\0"), "runs on")
packed("52", "a huffman stream that expands too far", lambda: with_stream(deflated(10**5)), "runs on")


def unaligned() -> bytes:
    found = header_of(SMALL)
    bare = found[0].rstrip()
    bare += b" " * (1 - len(bare) % 2)
    seal = re.compile(rb'(?<=header_crc32\\":\\")[0-9a-f]{8}')
    zeroed = struct.pack("<Q", len(bare)) + seal.sub(b"00000000", bare)
    return seal.sub(f"{crc32(zeroed):08x}".encode(), zeroed) + found[1]


packed("51", "an unaligned codebook", unaligned, None)


def test_38_nonzero_padding_is_refused() -> None:
    """VGG's layers have no padding: `coding` alone can show it."""
    stream = np.array([0b1000_0001], np.uint8)
    with pytest.raises(ContainerError, match="padding"):
        decode_codes(EncodedCodes(stream=stream, bits=1, count=7, coding="planes"))


def test_80_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(SMALL)
    assert run("verify", path).exit_code == 0  # and all is imported that another user may not read
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        result = run("verify", path)
    finally:
        os.seteuid(user)
    assert result.exit_code == 1
    cure = "check the path and its permissions"
    assert result.stderr == f"Error: {path}: expected a readable file, got Permission denied; {cure}\n"


# ---- sources


def state(**changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    layers = random_layers(VGG11, upto=UPTO)
    arrays = dict(write_layout(layers, "torchvision", VGG11))
    for name, change in changes.items():
        key = name.replace("_", ".")
        if change is None:
            del arrays[key]
        else:
            arrays[key] = change(arrays[key]) if callable(change) else change
    return arrays


def packing(folder: Path, source: Path, *more: object) -> tuple[object, ...]:
    return (
        "pack",
        source,
        folder / "out.safetensors",
        "--preprocessing",
        "torch",
        "--arch",
        "vgg11",
        "--upto",
        UPTO,
        *more,
    )


def source(number: str, name: str, match: str | None, *more: object, **changes: Any) -> None:
    """A case that is a safetensors file of other weights."""

    def made(folder: Path) -> tuple[tuple[object, ...], str | None]:
        safetensors.numpy.save_file(state(**changes), folder / "x.safetensors")
        return packing(folder, folder / "x.safetensors", *more), match

    CASES[f"{number} {name}"] = made


def torch_source(
    number: str, name: str, match: str | None, make: Callable[[dict[str, torch.Tensor], Path], object]
) -> None:
    """A case that is a torch file."""

    def made(folder: Path) -> tuple[tuple[object, ...], str | None]:
        tensors = {key: torch.from_numpy(array) for key, array in state().items()}
        torch.save(make(tensors, folder), folder / "x.pth")
        return packing(folder, folder / "x.pth"), match

    CASES[f"{number} {name}"] = made


def poked(value: float) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    def made(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array = array.copy()
        array.flat[5] = value
        return array

    return made


WEIGHT = "features_0_weight"
source("53", "NaN", r"conv1_1|features\.0\.weight", **{WEIGHT: poked(np.nan)})
source("54", "infinity", r"conv1_1|features\.0\.weight", **{WEIGHT: poked(-np.inf)})
source(
    "55",
    "minus zero and subnormals",
    None,
    **{WEIGHT: lambda a: np.where(np.arange(a.size).reshape(a.shape) % 2, -0.0, 1e-40).astype(np.float32)},
)
source("56", "empty", "shape", **{WEIGHT: np.zeros((0, 3, 3, 3), np.float32)})
source("57", "scalar", "shape", **{WEIGHT: np.array(3, np.float32)})
source("58", "constant layer", None, **{WEIGHT: lambda a: np.full_like(a, 0.25)})
source("59", "fewer values than 2^bits", None, **{WEIGHT: lambda a: np.sign(a)})
source("60", "float16", None, **{WEIGHT: lambda a: a.astype(np.float16)})
source("60", "float64", None, **{WEIGHT: lambda a: a.astype(np.float64)})
source("60", "float64 beyond float32", "float32|finite", **{WEIGHT: lambda a: a.astype(np.float64) * 1e300})
source("61", "integers", "int|float", **{WEIGHT: lambda a: a.astype(np.int32)})
source("61", "bool", "bool|float|BOOL", **{WEIGHT: lambda a: a > 0})
source("66", "missing layer", r"features\.3", features_3_weight=None)
source("68", "HWIO for OIHW", "OIHW", **{WEIGHT: lambda a: np.ascontiguousarray(a.transpose(2, 3, 1, 0))})

torch_source("60", "bfloat16", None, lambda s, _: {k: v.bfloat16() for k, v in s.items()})
torch_source("61", "complex", "complex|float", lambda s, _: {k: v.to(torch.complex64) for k, v in s.items()})
torch_source(
    "62",
    "channels-last",
    None,
    lambda s, _: {k: v.to(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in s.items()},
)
torch_source(
    "64", "sparse", "plain dense tensor", lambda s, _: {**s, "features.0.weight": s["features.0.weight"].to_sparse()}
)
torch_source(
    "64", "meta", "plain dense tensor", lambda s, _: {**s, "features.0.weight": s["features.0.weight"].to("meta")}
)
torch_source("65", "requires grad and tied", None, lambda s, _: {k: torch.nn.Parameter(v) for k, v in s.items()})
torch_source("67", "an extra layer", "extra", lambda s, _: {**s, "extra.weight": torch.zeros(3)})
torch_source("69", "wrapped and prefixed", None, lambda s, _: {"state_dict": {f"module.{k}": v for k, v in s.items()}})
torch_source("70", "a whole module", "state_dict", lambda s, _: torch.nn.Conv2d(3, 64, 3))


class Canary:
    """Runs code when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


torch_source(
    "71", "a pickle that runs code", "save model.state_dict", lambda s, folder: {**s, "x": Canary(folder / "canary")}
)


@case("67")
def an_extra_layer_ignored(folder: Path) -> tuple[tuple[object, ...], str | None]:
    safetensors.numpy.save_file({**state(), "extra.weight": np.zeros(3, np.float32)}, folder / "x.safetensors")
    return packing(folder, folder / "x.safetensors", "--ignore-extra"), None


@case("68")
def vgg11_given_as_13(folder: Path) -> tuple[tuple[object, ...], str | None]:
    arrays = write_layout(random_layers(ARCHITECTURES["vgg11"]), "torchvision", ARCHITECTURES["vgg11"])
    safetensors.numpy.save_file(dict(arrays), folder / "x.safetensors")
    return (
        "pack",
        folder / "x.safetensors",
        folder / "o",
        "--arch",
        "vgg13",
        "--preprocessing",
        "torch",
    ), "features.2.weight: .* pass --arch"


@case("68")
def vgg11_bn_given_as_13(folder: Path) -> tuple[tuple[object, ...], str | None]:
    numbered = tensor_names("torchvision", VGG11, batch_norm=True)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, one in random_layers(VGG11).items():
        weight, bias = numbered[name]
        arrays |= {weight: one.weight, bias: one.bias}
        normalisation = f"features.{int(weight.split('.')[1]) + 1}"
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{normalisation}.{part}"] = np.ones_like(one.bias)
    safetensors.numpy.save_file(arrays, folder / "x.safetensors")
    command = ("pack", folder / "x.safetensors", folder / "o", "--preprocessing", "torch")
    assert run(*command, "--bits", "1").exit_code == 0
    (folder / "o").unlink()
    return (*command, "--arch", "vgg13"), r"features\.3\.weight: .* pass --arch"


def rezipped(folder: Path, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], method: int) -> None:
    """A torch file whose archive was made otherwise."""
    torch.save({key: torch.from_numpy(array) for key, array in state().items()}, folder / "plain")
    with zipfile.ZipFile(folder / "plain") as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    (folder / "plain").unlink()
    with zipfile.ZipFile(folder / "x.pth", "w", method) as archive:
        for name, data in change(members):
            archive.writestr(name, data)


@case("72")
def a_zip_bomb(folder: Path) -> tuple[tuple[object, ...], str | None]:
    rezipped(folder, lambda members: [*members, ("plain/bomb", bytes(3 * 10**8))], zipfile.ZIP_DEFLATED)
    return packing(folder, folder / "x.pth"), "compressed members"


@case("72")
def a_small_bomb_of_bz2(folder: Path) -> tuple[tuple[object, ...], str | None]:
    with zipfile.ZipFile(folder / "x.pth", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", bytes(10**7))
    return packing(folder, folder / "x.pth"), "compressed members"


@case("72")
def an_archive_that_torch_reads_otherwise(folder: Path) -> tuple[tuple[object, ...], str | None]:
    torch.save({key: torch.from_numpy(array) for key, array in state().items()}, folder / "x.pth")
    data = bytearray((folder / "x.pth").read_bytes())
    locator = len(data) - 42
    assert data[locator : locator + 4] == b"PK\6\7"
    data[locator + 8 : locator + 16] = struct.pack("<Q", 0)
    (folder / "x.pth").write_bytes(data)
    return packing(folder, folder / "x.pth"), "two directories"


def small_pickle(number: str, name: str, pickled: bytes, match: str) -> None:
    """A case that is a torch file of a few bytes, in either form."""

    def archived(folder: Path) -> tuple[tuple[object, ...], str | None]:
        torch.save({}, folder / "x.pth")
        with zipfile.ZipFile(folder / "x.pth") as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
        with zipfile.ZipFile(folder / "x.pth", "w") as archive:
            for member, data in members:
                archive.writestr(member, pickled if member.endswith("data.pkl") else data)
        return packing(folder, folder / "x.pth"), match

    def legacy(folder: Path) -> tuple[tuple[object, ...], str | None]:
        torch.save({}, folder / "x.pth", _use_new_zipfile_serialization=False)
        data = (folder / "x.pth").read_bytes()
        begin = data.index(b"}q", 60)
        (folder / "x.pth").write_bytes(data[: begin - 2] + pickled + data[begin:])
        return packing(folder, folder / "x.pth"), match

    CASES[f"{number} {name}"], CASES[f"{number} {name}, in the older form"] = archived, legacy


BYTEARRAY = b"\x80\x02}X\x01\x00\x00\x00acbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", 2 * 10**9) + b"\x85Rs."
small_pickle("71", "a pickle that takes 2 GB", BYTEARRAY, "a pickle that holds more")
DEEP = b"\x80\x02})" + b"\x85" * 30_000 + b"K\x01s."
small_pickle("71", "a tuple 30,000 deep", DEEP, "far larger than that of a VGG")
METHOD = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x05sb."
small_pickle("71", "an attribute over a method", METHOD, "expected names|state dict")


def odd_tensor(name: str, make: Callable[[], torch.Tensor]) -> None:
    def made(tensors: dict[str, torch.Tensor], _: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of things that will go
            return {**tensors, "x": make()}

    torch_source("64", name, "a pickle that holds more", made)


odd_tensor("nested", lambda: torch.nested.nested_tensor([torch.zeros(3), torch.zeros(4)]))
odd_tensor("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8))


def numbered(tensors: dict[str, torch.Tensor], _: Path) -> object:
    found: dict[object, torch.Tensor] = {5: torch.zeros(3)}
    found.update(tensors)
    return found


torch_source("64", "a name that is no text", "expected names, got a int", numbered)


def tied(tensors: dict[str, torch.Tensor], _: Path) -> object:
    both = torch.cat([tensors["features.0.bias"], tensors["features.3.bias"]])
    return {**tensors, "features.0.bias": both[:64], "features.3.bias": both[64:]}


torch_source("65", "memory shared", None, tied)


@case("31")
def a_source_of_an_unknown_architecture(folder: Path) -> tuple[tuple[object, ...], str | None]:
    safetensors.numpy.save_file(state(), folder / "x.safetensors", {"architecture": "vgg99"})
    command = ("pack", folder / "x.safetensors", folder / "o", "--preprocessing", "torch")
    return command, "architecture vgg11, vgg13, vgg16, vgg19, got vgg99"


@case("73")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def duplicate_members(folder: Path) -> tuple[tuple[object, ...], str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rezipped(folder, lambda members: [*members, members[1]], zipfile.ZIP_STORED)
    return packing(folder, folder / "x.pth"), "of one name"


@case("73")
def case_mangled_members(folder: Path) -> tuple[tuple[object, ...], str | None]:
    rezipped(folder, lambda members: [*members, (members[1][0].upper(), b"x")], zipfile.ZIP_STORED)
    return packing(folder, folder / "x.pth"), "of one name"


@case("65")
def saved_on_a_gpu(folder: Path) -> tuple[tuple[object, ...], str | None]:
    def moved(members: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        cpu, cuda = (b"X" + struct.pack("<I", len(word)) + word for word in (b"cpu", b"cuda:0"))
        assert cpu in dict(members)["plain/data.pkl"]
        return [(name, data.replace(cpu, cuda) if name == "plain/data.pkl" else data) for name, data in members]

    rezipped(folder, moved, zipfile.ZIP_STORED)
    return packing(folder, folder / "x.pth"), None


@case("74")
def a_legacy_tar(folder: Path) -> tuple[tuple[object, ...], str | None]:
    with tarfile.open(folder / "x.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"\x80\x02}."))
    return packing(folder, folder / "x.pth"), "beginning b'storages"


@case("74")
def a_protocol_0_pickle(folder: Path) -> tuple[tuple[object, ...], str | None]:
    (folder / "x.pth").write_bytes(pickle.dumps(Canary(folder / "canary"), 0))
    return packing(folder, folder / "x.pth"), "beginning b'c"


def keras(folder: Path, change: Callable[[Any], object], dtype: str = "<f4") -> tuple[object, ...]:
    with h5py.File(folder / "x.h5", "w") as file:
        for name, one in random_layers(VGG11, upto=UPTO).items():
            block = f"block{name[4]}_conv{name[6]}"
            file[f"{block}/{block}/kernel:0"] = one.weight.transpose(2, 3, 1, 0).astype(dtype)
            file[f"{block}/{block}/bias:0"] = one.bias.astype(dtype)
        change(file)
    return ("pack", folder / "x.h5", folder / "out.safetensors", "--arch", "vgg11", "--upto", UPTO)


def keras_case(number: str, name: str, match: str | None, change: Callable[[Any], object], dtype: str = "<f4") -> None:
    CASES[f"{number} {name}"] = lambda folder: (keras(folder, change, dtype), match)


KERNEL = "block1_conv1/block1_conv1/kernel:0"


def huge(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (2**20, 2**20), "f4", chunks=(1024, 1024))


def expanding(file: Any) -> None:
    del file[KERNEL]
    size = (3, 3, 3, 64)
    file.create_dataset(KERNEL, size, "f4", maxshape=(None,) * 4, chunks=(3, 3, 3, 2**16), compression="gzip")


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3, 3, 3, 64), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 3, 3, 64))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file: Any) -> None:
    del file[KERNEL]
    file.create_dataset(KERNEL, (3, 3, 3, 64), "f4", external=[("/etc/passwd", 0, 6912)])


keras_case("63", "big-endian h5", None, lambda file: None, ">f4")
keras_case("75", "h5 external link", "link", lambda file: file.__setitem__("a", h5py.ExternalLink("o.h5", "/x")))
keras_case("75", "h5 soft link", "link", lambda file: file.__setitem__("a", h5py.SoftLink("/block2_conv1")))
keras_case(
    "75", "h5 of groups within themselves", "a group in two places", lambda file: file.__setitem__("a", file["/"])
)
keras_case(
    "75", "h5 of too many groups", "at most 4096 objects", lambda f: [f.create_group(f"g{n}") for n in range(5000)]
)
keras_case("76", "h5 that expands", "odd chunks", lambda file: expanding(file))
keras_case("76", "h5 of a type alone", "something else", lambda file: file.__setitem__("t", np.dtype("f4")))
keras_case("76", "h5 of nothing", "something else", lambda file: file.__setitem__("n", h5py.Empty("f4")))
keras_case("76", "h5 external data set", "external|virtual", external)
keras_case("76", "h5 virtual data set", "external|virtual", virtual)
keras_case("77", "h5 that claims a huge shape", "shape", huge)


@case("78")
def a_shard_index(folder: Path) -> tuple[tuple[object, ...], str | None]:
    index = {"metadata": {}, "weight_map": {"features.0.weight": "../../etc/passwd"}}
    (folder / "x.safetensors.index.json").write_text(json.dumps(index))
    return packing(folder, folder / "x.safetensors.index.json"), 'beginning b.{"metadata'


# ---- files


@case("79")
def missing(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("verify", folder / "x"), "No such file"


@case("81")
def a_folder(folder: Path) -> tuple[tuple[object, ...], str | None]:
    (folder / "x").mkdir()
    return ("verify", folder / "x"), "a folder"


@case("81")
def a_fifo(folder: Path) -> tuple[tuple[object, ...], str | None]:
    os.mkfifo(folder / "x")
    return ("verify", folder / "x"), "a pipe"


@case("81")
def a_device(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("verify", "/dev/zero"), "device"


def small(folder: Path, name: str = "x.safetensors") -> Path:
    (folder / name).write_bytes(SMALL)
    return folder / name


@case("82")
def output_exists(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("pack", small(folder), small(folder, "y")), "--force"


@case("83")
def input_is_output(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("pack", small(folder), folder / "x.safetensors", "--force"), "the same file"


@case("83")
def input_is_output_by_symlink(folder: Path) -> tuple[tuple[object, ...], str | None]:
    (folder / "y").symlink_to(small(folder))
    return ("pack", folder / "x.safetensors", folder / "y", "--force"), "the same file"


@case("83")
def input_is_output_by_hard_link(folder: Path) -> tuple[tuple[object, ...], str | None]:
    os.link(small(folder), folder / "y")
    return ("pack", folder / "x.safetensors", folder / "y", "--force"), "the same file"


@case("85")
def a_looping_link(folder: Path) -> tuple[tuple[object, ...], str | None]:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return ("verify", folder / "a"), "symbolic links"


@case("85")
def a_dangling_link(folder: Path) -> tuple[tuple[object, ...], str | None]:
    (folder / "a").symlink_to(folder / "b")
    return ("verify", folder / "a"), "No such file"


@case("86")
def parent_missing(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("pack", small(folder), folder / "no" / "x"), "No such file|folder"


@case("90")
def a_name_over_255_bytes(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("verify", folder / ("x" * 256)), "name too long"


@case("90")
def a_name_not_utf8(folder: Path) -> tuple[tuple[object, ...], str | None]:
    return ("verify", os.fsdecode(os.fsencode(folder) + b"/\xff")), "No such file"


# ---- pictures


def picture(number: str, name: str, match: str | None, data: Callable[[], bytes], ending: str = ".png") -> None:
    def made(folder: Path) -> tuple[tuple[object, ...], str | None]:
        (folder / f"x{ending}").write_bytes(data())
        Image.new("RGB", (32, 32), "red").save(folder / "style.png")
        small = ("--steps", "1", "--size", "32")
        return ("stylize", folder / f"x{ending}", folder / "style.png", "-o", folder / "out.png", *small), match

    CASES[f"{number} {name}"] = made


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    data = encoded(Image.new("L", (1, 1)))
    chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + chunk + struct.pack(">I", crc32(chunk)) + data[33:]


GRADIENT = Image.linear_gradient("L").resize((40, 40))
picture("95", "a decompression bomb", "pixels", lambda: png_of_size(30_000, 30_000))
picture("95", "just over 50 megapixels", "pixels", lambda: png_of_size(10_000, 5_001))


def tiff_without_its_width() -> bytes:
    data = bytearray(encoded(GRADIENT, "TIFF"))
    place = data.index(struct.pack("<HHI", 256, 4, 1)[:4])
    data[place : place + 2] = struct.pack("<H", 999)
    return bytes(data)


picture("96", "a TIFF without its width", "a picture", tiff_without_its_width, ".tif")
picture("96", "truncated", "undamaged", lambda: encoded(GRADIENT)[:-60])
picture("97", "empty", "a picture", lambda: b"")
picture("97", "text", "a picture", lambda: b"hello " * 99)
picture("98", "CMYK", None, lambda: encoded(GRADIENT.convert("CMYK"), "JPEG"), ".jpg")
picture("99", "16 bits", None, lambda: encoded(Image.fromarray(np.full((40, 40), 40_000, np.uint16))))
picture("99", "float", "floating point", lambda: encoded(GRADIENT.convert("F"), "TIFF"), ".tif")
picture("101", "palette transparency", None, lambda: encoded(GRADIENT.convert("P"), transparency=3))
picture("103", "1 × 1", None, lambda: encoded(Image.new("RGB", (1, 1))))
picture("103", "1 × 10,000", "sides of at least 8 pixels", lambda: encoded(Image.new("RGB", (1, 10_000))))
picture("104", "greyscale", None, lambda: encoded(GRADIENT))
picture("105", "corrupt ICC and EXIF", None, lambda: encoded(GRADIENT, icc_profile=b"\xff" * 200, exif=b"Exif\0\0junk"))
picture("106", "a GIF", "a picture", lambda: encoded(GRADIENT, "GIF"), ".png")
picture("106", "an EPS", "a picture", lambda: encoded(GRADIENT, "EPS"), ".png")


NAMES: list[str] = sorted(CASES, key=lambda name: (int(name.partition(" ")[0]), name))


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, tmp_path: Path) -> None:
    command, match = CASES[name](tmp_path)
    before = sorted(os.listdir(tmp_path))
    result = run(*command)
    if match is None:
        assert result.exit_code == 0, result.output
        return
    assert result.exit_code == 1, result.output
    assert not result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert re.fullmatch(r"Error: .*: expected .*, got .*; .*", lines[0]), lines[0]
    assert re.search(match, lines[0]), lines[0]
    files = tuple(
        f"Error: {printable(part)}: " for part in command if os.fspath(tmp_path) in str(part) or part == "/dev/zero"
    )
    assert lines[0].startswith(files), lines[0]
    assert lines[0].isprintable()
    assert sorted(os.listdir(tmp_path)) == before
    assert not (tmp_path / "canary").exists()


def test_every_case_is_documented_and_has_a_test() -> None:
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}
    assert documented == set(range(1, 107))
    elsewhere = {int(n) for n in re.findall(r"^\| (\d+) \|.*`tests/[\w/]+\.py`", DOCUMENT, re.MULTILINE)}
    here = {int(name.split()[0]) for name in CASES} | {38, 80}
    assert documented == here | elsewhere


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
def test_small_hostile_files_cost_little(tmp_path: Path) -> None:
    """Of at most 4 KB, refused within 100 ms after import, the best of three, and 16 MB of memory."""
    paths = []
    for name, made in CASES.items():
        if not (int(name.split()[0]) <= 52 or 70 < int(name.split()[0]) < 79):
            continue
        folder = tmp_path / re.sub(r"\W", "", name)
        folder.mkdir()
        command, match = made(folder)
        if match is not None and Path(str(command[1])).stat().st_size <= 4096:
            paths.append(str(command[1]))
    with h5py.File(tmp_path / "cycle.h5", "w") as file:
        for letter in "abcdefghij":
            file[letter] = file["/"]
    paths.append(str(tmp_path / "cycle.h5"))
    assert len(paths) > 80
    assert sum(path.endswith(".pth") for path in paths) >= 5
    script = """
import sys, time
import h5py, torch
from vggquant.errors import VggQuantError
from vggquant.files.sources import read_source

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

def refuse(path):
    try:
        source = read_source(path)
    except VggQuantError:
        return
    from vggquant.files.weights import restore  # a code beyond the codebook shows here
    try:
        restore(source.weights)
    except VggQuantError:
        return
    raise SystemExit(f"{path}: accepted")

for warm in sys.argv[1:]:
    refuse(warm)
for path in sys.argv[1:]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, times = peak(), []
    for _ in range(3):
        began = time.perf_counter()
        refuse(path)
        times.append(time.perf_counter() - began)
    grown = peak() - before
    if grown > 16e6 or min(times) > 0.1:
        raise SystemExit(f"{path}: {grown} bytes, {min(times)} s")
"""
    found = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a shell of Unix")
@pytest.mark.parametrize("arguments", [("verify", "vgg19"), ("info", "vgg19", "--json"), ("--help",), ("--version",)])
@pytest.mark.parametrize("where", [">&-", *([">/dev/full"] if os.path.exists("/dev/full") else [])])
def test_93_standard_output_that_takes_nothing(arguments: tuple[str, ...], where: str) -> None:
    command = " ".join([sys.executable, "-m", "vggquant", *arguments, where])
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert re.fullmatch(r"Error: standard output: expected to take text, got .*; check where it goes\n", found.stderr)
