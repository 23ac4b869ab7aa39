from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import GOLDEN, random_arrays
from tests.packed import rebuilt
from tests.toy import toy_family, toy_weights
from vggquant import pack
from vggquant.errors import ContainerError, SourceError
from vggquant.files.container import read, write
from vggquant.files.disk import read_file, sha256
from vggquant.files.sources import describe
from vggquant.files.tensors import write_safetensors
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing import inspection
from vggquant.packing.inspection import info, verify

SMALL = GOLDEN / "planes-4.safetensors"
CODES_TOO_LARGE = rebuilt(weight_codes=np.full(648, 255, np.uint8), weight_codebook=np.arange(7, dtype=np.float32))


@pytest.fixture
def few_values(tmp_path: Path) -> tuple[Path, Path]:
    """A packed VGG-11 up to conv2_1, and a source that differs from it in conv1_1, which is all zeros there."""
    arrays = {name: array.round(1) for name, array in random_arrays(ARCHITECTURES["vgg11"], upto="relu2_1").items()}
    source, packed, zeros = tmp_path / "source", tmp_path / "packed", tmp_path / "zeros"
    source.write_bytes(b"".join(map(bytes, write_safetensors(arrays, {"architecture": "vgg11"}))))
    pack(source, packed, bits=8, upto="relu2_1")
    arrays["conv1_1.weight"] *= 0
    zeros.write_bytes(b"".join(map(bytes, write_safetensors(arrays, {"architecture": "vgg11"}))))
    return packed, zeros


def test_infinite_ratios_of_both_signs_are_told_apart(few_values: tuple[Path, Path]) -> None:
    packed, zeros = few_values
    found = verify(packed, against=zeros)
    assert [check.sqnr_db for check in found.against] == [-math.inf, math.inf]
    assert [check.lossless for check in found.against] == [False, True]
    assert found.lossless is False
    assert verify(packed, against=packed).lossless is True
    assert verify(packed).lossless is None


def test_a_layer_is_lossless_unless_its_file_records_a_loss() -> None:
    assert [layer.lossless for layer in info(SMALL).layers] == [False]
    assert all(layer.lossless for layer in info("vgg19").layers)
    with toy_family():
        found = inspection.describe_file(toy_weights(), [b"x"])
    assert [layer.lossless for layer in found.layers] == [True] * 4  # all in float32


@pytest.mark.parametrize("look", [info, verify])
def test_a_file_that_is_replaced_meanwhile_is_looked_at_as_it_was(
    look: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    before = SMALL.read_bytes()
    path.write_bytes(before)

    def read_and_replace(*arguments: object) -> object:
        data = read_file(*arguments)  # type: ignore[arg-type]
        path.write_bytes(b"another file")
        return data

    monkeypatch.setattr(inspection, "read_file", read_and_replace)
    found = look(path)  # type: ignore[operator]
    assert (found.sha256, found.bytes) == (sha256(before), len(before))


def test_a_damaged_source_is_named_with_its_layer(tmp_path: Path) -> None:
    sound, damaged = tmp_path / "sound", tmp_path / "damaged"
    sound.write_bytes(rebuilt())
    damaged.write_bytes(CODES_TOO_LARGE)
    with pytest.raises(ContainerError) as caught:
        verify(sound, against=damaged)
    assert str(caught.value).startswith(f"{damaged}: conv1_1: expected codes below 7, the codebook's size, got 7")
    with pytest.raises(ContainerError) as caught:
        verify(damaged)
    assert str(caught.value).startswith(f"{damaged}: conv1_1: expected codes below 7, the codebook's size, got 7")


def test_weights_of_another_network_are_refused_with_those_to_name(tmp_path: Path) -> None:
    other = tmp_path / "toy"
    with toy_family():
        other.write_bytes(b"".join(map(bytes, write_safetensors(toy_weights().plain, describe(toy_weights())))))
        with pytest.raises(SourceError) as caught:
            verify(SMALL, against=other)
    assert str(caught.value).startswith(f"{other}: expected a VGG, which alone has ")
    assert str(caught.value).endswith("; name weights of vgg11 up to conv1_1, prepared as torch")
    prepared = replace(read(SMALL), network=replace(read(SMALL).network, preprocessing="caffe"))  # type: ignore[type-var]
    write(tmp_path / "caffe", prepared)
    with pytest.raises(SourceError, match="name weights of vgg11 up to conv1_1, prepared as torch") as caught:
        verify(SMALL, against=tmp_path / "caffe")
    assert caught.value.path == tmp_path / "caffe"


def test_a_source_that_cannot_be_read_keeps_its_own_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    monkeypatch.setattr(sys, "executable", "")  # so that the file is read here, where h5py is missing
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(SourceError, match=r"x\.h5: .*pip install 'vggquant\[keras\]'$"):
        verify(SMALL, against=tmp_path / "x.h5")
