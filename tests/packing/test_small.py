"""The embedded small VGG-19: what it holds, what it loses, and that its word is taken wherever `vgg19` is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.evaluation import evaluation_pictures
from tests.conftest import run
from vggquant import load_quantized_state_dict, load_quantized_vgg, pack, unpack
from vggquant.errors import OptionError
from vggquant.files.container import read
from vggquant.files.sources import SMALL, embedded_path
from vggquant.models.features import feature_errors
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.packing.inspection import info, verify

ROOT = Path(__file__).parents[2]


def test_what_it_is() -> None:
    found = info(SMALL)
    assert found.bytes <= 3_200_000
    assert [layer.name for layer in found.layers][-1] == "conv5_1"
    assert not found.complete
    assert all(layer.coding == "huffman" or layer.rate == 8 for layer in found.layers)
    assert found.attribution == info("vgg19").attribution
    assert found.source_sha256 == info("vgg19").sha256
    assert found.changes is not None
    assert "calibrated, biases too, on 64 pictures (SHA-256 of the list of their SHA-256 sums: " in found.changes
    verify(SMALL)


def test_its_page_has_its_checksums() -> None:
    page = (ROOT / "docs" / "weights.md").read_text()
    changes = info(SMALL).changes
    assert hashlib.sha256(embedded_path(SMALL).read_bytes()).hexdigest() in page
    assert changes is not None
    assert changes.rpartition("sums: ")[2][:64] in page


def test_what_it_loses() -> None:
    """On the six photographs that it has not seen; 0.05 leaves room for another version of Pillow or torch."""
    layers = (*STYLE_LAYERS, CONTENT_LAYER)
    small, reference = (load_quantized_vgg(name, upto="relu5_1") for name in (SMALL, "vgg19"))
    found = feature_errors(small, reference, evaluation_pictures(), layers)
    assert 0.01 < found.content < 0.05
    assert 0.005 < found.style < 0.05


def test_its_word_is_taken_everywhere(tmp_path: Path) -> None:
    done = run("info", SMALL)
    assert done.exit_code == 0
    assert "conv5_1" in done.stdout
    done = run("verify", SMALL, "--against", "vgg19", "--json")
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["against"]) == 13
    done = run("unpack", SMALL, tmp_path / "small.safetensors")
    assert done.exit_code == 0, done.output
    done = run("pack", SMALL, tmp_path / "again", "--upto", "relu2_1", "--bits", "4")
    assert done.exit_code == 0, done.output
    done = run("compare", "vgg19", SMALL, "--json")
    assert done.exit_code == 0, done.output
    assert 0 < json.loads(done.stdout)["files"][0]["content_error"] < 0.1
    state = load_quantized_state_dict(SMALL, layout="vggquant")
    assert torch.equal(state["conv1_1.weight"], load_quantized_vgg().state_dict()["conv1_1.weight"])


def test_its_word_names_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="got vgg19-small, the word for embedded weights; choose another"):
        pack("vgg19", SMALL, bits=2, upto="relu1_1")
    pack("vgg19", f"./{SMALL}", bits=2, upto="relu1_1")
    assert info(f"./{SMALL}").bytes < 10_000
    assert info(SMALL).bytes > 1_000_000


def test_packing_it_again_keeps_its_weights(tmp_path: Path) -> None:
    unpack(SMALL, tmp_path / "float.safetensors", layout="vggquant")
    pack(tmp_path / "float.safetensors", tmp_path / "again", rate=8, upto="relu3_1")
    again, small = read(tmp_path / "again"), read(embedded_path(SMALL))
    for name in again.palettized:
        assert np.array_equal(again.array(name), small.array(name)), name
    assert (tmp_path / "again").stat().st_size < 260_000
