"""The network that is painted with: files that end too early, layouts in memory, devices by layer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.conftest import GOLDEN
from vggquant import load_quantized_vgg, pack
from vggquant.errors import ContainerError, OptionError, PictureError, SourceError, StorageError
from vggquant.files.container import read, read_outline
from vggquant.networks.vgg import ARCHITECTURES, LAYERS
from vggquant.style.loading import deterministic_algorithms, load_network, place

SMALL = GOLDEN / "planes-4.safetensors"


def test_a_file_that_ends_before_the_layer_is_named(tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    pack("vgg19", short, bits=1, upto="relu2_1")
    assert load_network("float32", short, upto="relu2_1").layers[-1] == "relu2_1"
    for layer in ("relu2_2", "relu5_1"):
        with pytest.raises(SourceError) as caught:
            load_network("float32", short, upto=layer)
        assert str(caught.value) == (
            f"{short}: expected layers up to {layer} to paint with, got a file with a layer up to conv2_1, where the "
            "file ends; pack it anew, up to there"
        )
    with pytest.raises(SourceError, match=r"a file with a layer of vgg19, conv1_1 … pool5"):
        load_network("float32", short, upto="relu9_9")


def test_a_file_that_is_not_sound_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere: expected a readable file"):
        load_network("float32", tmp_path / "nowhere", upto="relu1_1")
    (tmp_path / "cut").write_bytes(SMALL.read_bytes()[:100])
    with pytest.raises(ContainerError, match="cut: expected"):
        load_network("float32", tmp_path / "cut", upto="relu1_1")
    damaged = bytearray(SMALL.read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    read_outline(tmp_path / "damaged")  # which does not look at the data
    with pytest.raises(ContainerError, match=r"damaged: .*expected checksum"):
        load_network("float32", tmp_path / "damaged", upto="relu1_1")


def test_the_outline_of_a_file_is_its_network() -> None:
    assert read_outline(SMALL) == read(SMALL).network


def test_bf16_weights_lie_channels_last() -> None:
    vgg = load_network("bf16", upto="relu1_2")
    weight = vgg.get_parameter("conv1_2.weight")
    assert weight.dtype == torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last)
    picture = torch.rand(1, 3, 8, 8)
    plain = load_quantized_vgg(upto="relu1_2", dtype=torch.bfloat16)
    assert torch.allclose(vgg(picture)["relu1_2"], plain(picture)["relu1_2"], rtol=0.05, atol=1.0)


def test_layers_are_placed_by_name_and_index() -> None:
    vgg = load_network("float32", upto="relu2_1")
    place(vgg, [("cpu", "3"), ("cpu", "conv2_1"), ("cpu", "relu5_1")])  # the last of which is not reached
    assert vgg(torch.rand(1, 3, 8, 8), layers="relu2_1")["relu2_1"].device == torch.device("cpu")
    for layer, message in (("0", "1 to 36"), ("37", "1 to 36"), ("conv9_9", "a layer conv1_1 … pool5")):
        with pytest.raises(OptionError, match=f"supplemental_devices: expected {message}, got {layer}"):
            place(vgg, [("cpu", layer)])
    with pytest.raises(OptionError, match="supplemental_devices: expected a device that torch has here, got abacus"):
        place(vgg, [("abacus", "3")])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_largest_vgg_has_every_layer_in_order(name: str) -> None:
    numbers = [LAYERS.index(layer) for layer in ARCHITECTURES[name].layers]
    assert numbers == sorted(numbers)


def test_the_smallest_side_is_what_the_network_stands() -> None:
    vgg = load_network("float32", upto="relu4_1")
    for layer in ("relu1_1", "pool1", "relu3_1", "relu4_1"):
        smallest, deepest = vgg.architecture.smallest_side(["conv1_1", layer])
        assert deepest == layer
        assert vgg(torch.rand(1, 3, smallest, smallest), layers=layer)[layer].numel()
        if smallest > 1:
            with pytest.raises(PictureError, match=f"sides of at least {smallest} pixels for {layer}"):
                vgg(torch.rand(1, 3, smallest - 1, 64), layers=layer)
    assert vgg.architecture.smallest_side([]) == (1, None)
    assert vgg.architecture.smallest_side(["nothing"]) == (1, None)


def test_algorithms_are_deterministic_only_where_that_is_wanted() -> None:
    with deterministic_algorithms(False):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_algorithms(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_what_a_caller_had_chosen_of_deterministic_algorithms_is_as_before(
    workspace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workspace is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    else:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        for wanted in (False, True):
            with deterministic_algorithms(wanted):
                assert torch.are_deterministic_algorithms_enabled()
                assert torch.is_deterministic_algorithms_warn_only_enabled() != wanted
                assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (workspace or (":4096:8" if wanted else None))
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled()
            assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == workspace
    finally:
        torch.use_deterministic_algorithms(False)
