from __future__ import annotations

from pathlib import Path

import pytest

from tests import fuzz
from tests.conftest import Floats
from vggquant.codec.palette import PalettizedTensor


def test_packed_mutants_are_refused_or_read_as_the_slow_decoder_says() -> None:
    ends = fuzz.try_range("packed", 0, range(20_000), keep=False)
    assert not ends["wrong"]
    assert ends["refused"] > 15_000
    assert ends["read as resealed"] > 500  # or the half with right checksums would prove nothing


def test_mutants_of_torchs_files_are_refused_or_read_as_torch_does() -> None:
    ends = fuzz.try_range("torch", 0, range(4_000), keep=False)
    assert not ends["wrong"]
    assert ends["refused"] > 2_000
    assert ends["read as torch reads it"] > 100


def test_mutants_of_keras_files_end_behind_the_wall() -> None:
    ends = fuzz.try_range("hdf5", 0, range(500), keep=False)
    assert not ends["wrong"]
    assert ends["refused"] > 50
    assert ends["read"] > 50


def test_mutants_of_pictures_are_refused_or_read() -> None:
    ends = fuzz.try_range("pictures", 0, range(1_000), keep=False)
    assert not ends["wrong"]
    assert ends["refused"] > 300
    assert ends["read"] > 300


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_mutant_is_the_same_every_time(kind: str) -> None:
    mutant = fuzz.module_of(kind).mutant
    assert [mutant(1, number) for number in range(50)] == [mutant(1, number) for number in range(50)]


@pytest.mark.parametrize("path", sorted(fuzz.REGRESSIONS.glob("*.bin")), ids=lambda path: path.stem)
def test_what_failed_once(path: Path) -> None:
    kind, manner, _ = path.name.split("-")
    fuzz.module_of(kind).judge(path.read_bytes(), manner)


def test_a_decoder_that_errs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(tensor: PalettizedTensor) -> Floats:
        return tensor.codebook[:1].repeat(tensor.codes.count).reshape(tensor.shape)

    monkeypatch.setattr("vggquant.files.weights.dequantize", wrong)
    assert fuzz.try_range("packed", 0, range(400), keep=False)["wrong"]
