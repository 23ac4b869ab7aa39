"""Loading what has no path: bytes, open files, and files inside of packages, even if these lie in a zip file."""

from __future__ import annotations

import importlib.resources
import io
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vggquant
from tests.conftest import GOLDEN
from tests.packed import unaligned
from tests.sealing import reseal, unseal
from vggquant import load_quantized_state_dict, load_quantized_vgg
from vggquant.errors import ContainerError, OptionError, StorageError
from vggquant.files.container import read
from vggquant.files.sources import embedded_path

SMALL = GOLDEN / "planes-4.safetensors"
DATA = SMALL.read_bytes()
MEMORY: dict[str, Callable[[], Any]] = {
    "bytes": lambda: DATA,
    "bytearray": lambda: bytearray(DATA),
    "memoryview": lambda: memoryview(b"x" + DATA)[1:],  # not aligned
    "open": lambda: io.BytesIO(DATA),
}


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_load_as_the_file_does(kind: str, dtype: torch.dtype) -> None:
    expected = load_quantized_vgg(SMALL, dtype=dtype).state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that must not be written
        for upto in (None, "relu1_1"):
            found = load_quantized_vgg(MEMORY[kind](), upto=upto, dtype=dtype).state_dict()
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        state = load_quantized_state_dict(MEMORY[kind](), layout="vggquant", dtype=dtype)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ["planes-4", "planes-8", "huffman-2", "scale"])
def test_bytes_load_onto_a_gpu(name: str) -> None:
    data = (GOLDEN / f"{name}.safetensors").read_bytes()
    expected = load_quantized_vgg(data).state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_quantized_vgg(data, device="cuda").state_dict()
    assert all(torch.equal(found[name].cpu(), tensor) for name, tensor in expected.items())


def test_what_is_loaded_does_not_change_with_the_bytes() -> None:
    data = bytearray(DATA)
    state = load_quantized_vgg(data).state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    data[-1000:] = bytes(1000)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


def test_errors_name_what_there_is(tmp_path: Path) -> None:
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    (tmp_path / "x.safetensors").write_bytes(damaged)
    with pytest.raises(ContainerError, match=r"^bytes: conv1_1: expected checksum"):
        load_quantized_vgg(damaged)
    with pytest.raises(ContainerError, match=r"^file object: conv1_1: expected checksum"):
        load_quantized_vgg(io.BytesIO(damaged))
    with (
        (tmp_path / "x.safetensors").open("rb") as file,
        pytest.raises(ContainerError, match=rf"^{file.name}: conv1_1"),
    ):
        load_quantized_vgg(file)
    with pytest.raises(OptionError, match=r"^bytes: upto: expected a layer up to conv1_1, where the file ends"):
        load_quantized_vgg(DATA, upto="relu2_1")
    with pytest.raises(OptionError, match="a path, bytes or an open binary file, got dict"):
        load_quantized_vgg({})  # type: ignore[arg-type]


def test_an_unknown_layer_is_answered_with_what_names_there_are_and_no_path() -> None:
    for load in (load_quantized_vgg, lambda upto: load_quantized_state_dict(layout="caffe", upto=upto)):
        with pytest.raises(OptionError, match=r"^upto: expected a layer, conv1_1 … pool5, got nonsense; choose one"):
            load(upto="nonsense")


def test_layers_that_lie_unaligned_far_into_a_file_are_read(tmp_path: Path) -> None:
    """Of them only a part was read when the header was."""
    header, metadata, body = unseal(embedded_path().read_bytes())
    moved, pieces, end = {"__metadata__": header.pop("__metadata__")}, [], 0
    for name, entry in sorted(header.items(), key=lambda item: (item[1]["dtype"] == "F32", item[0])):
        begin, until = entry["data_offsets"]
        pieces.append(body[begin:until])
        moved[name] = {**entry, "data_offsets": [end, end + until - begin]}
        end += until - begin
    (tmp_path / "x").write_bytes(unaligned(reseal(moved, metadata, b"".join(pieces))))
    found, expected = read(tmp_path / "x", upto="relu3_1"), read(embedded_path(), upto="relu3_1")
    for name in expected.palettized:
        assert (found.array(name) == expected.array(name)).all()


# ---- inside of packages


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_inside_of_a_package(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = f"package_{zipped}".lower()
    files = {
        f"{package}/__init__.py": b"",
        f"{package}/good.safetensors": DATA,
        f"{package}/bad.safetensors": DATA[:-9],
    }
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        if not zipped:
            made.extractall(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "x.zip" if zipped else tmp_path))
    folder = importlib.resources.files(package)
    assert isinstance(folder, Path) != zipped
    expected = load_quantized_vgg(SMALL).state_dict()
    found = load_quantized_vgg(folder / "good.safetensors", upto="relu1_1").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(ContainerError, match=r"bad\.safetensors: "):
        load_quantized_vgg(folder / "bad.safetensors")
    with pytest.raises(StorageError, match=r"none\.safetensors: expected a readable file"):
        load_quantized_vgg(folder / "none.safetensors")


IN_A_ZIP_FILE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import vggquant
assert vggquant.__file__.startswith(sys.argv[1]), vggquant.__file__
from vggquant.files.sources import embedded_path
assert vggquant.info("vgg19").weights == 20018880
assert len(vggquant.load_quantized_vgg(upto="relu1_2").state_dict()) == 4
print(embedded_path())
"""


def test_the_embedded_weights_load_from_a_package_in_a_zip_file(tmp_path: Path) -> None:
    package = Path(vggquant.__file__).parent
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as made:
        for path in package.rglob("*"):
            if path.suffix != ".pyc":
                made.write(path, path.relative_to(package.parent))
    code = [sys.executable, "-c", IN_A_ZIP_FILE, str(tmp_path / "x.zip")]
    environment = {**os.environ, "PYTHONPATH": ""}
    found = subprocess.run(code, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert found.returncode == 0, found.stderr
    assert not Path(found.stdout.strip()).exists()  # the copy is removed
