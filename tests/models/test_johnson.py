"""The module of a painter: shapes, borders, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vggquant.errors import NetworkError, PictureError
from vggquant.files.container import write
from vggquant.models.johnson import SMALLEST, Johnson
from vggquant.models.painters import load_stylizer
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.training.packing import palettized, unquantized


@pytest.fixture
def painter() -> Johnson:
    torch.manual_seed(0)
    return Johnson(JohnsonNetwork.stock("tiny", 0.25, 1)).eval()


def test_its_tensors_are_those_of_the_record(painter: Johnson) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in painter.state_dict().items()} == {
        spec.name: spec.shape for spec in painter.network.tensors
    }


@pytest.mark.parametrize("size", [(SMALLEST, SMALLEST), (48, 64), (33, 50), (47, 21), (8, 101)])
def test_paintings_have_the_size_of_pictures_and_their_range(painter: Johnson, size: tuple[int, int]) -> None:
    with torch.no_grad():
        found = painter(torch.rand(2, 3, *size))
    assert found.shape == (2, 3, *size)
    assert 0 <= float(found.min()) < float(found.max()) <= 1


def test_pictures_of_a_batch_do_not_touch(painter: Johnson) -> None:
    images = torch.rand(3, 3, 24, 32)
    alone = torch.cat([painter(image[None]) for image in images])
    assert torch.allclose(painter(images), alone, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 7, 32)])
def test_other_tensors_are_refused(painter: Johnson, shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"images: expected shape \(N, 3, H, W\)"):
        painter(torch.rand(shape))


@pytest.mark.parametrize("bits", [8, 3])
def test_a_packed_painter_loads_as_it_was_packed(painter: Johnson, bits: int, tmp_path: Path) -> None:
    path = tmp_path / "painter.safetensors"
    weights = palettized(unquantized(painter, "trained for a test"), bits, None)
    write(path, weights)
    loaded = load_stylizer(path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, torch.from_numpy(weights.array(name).copy()))
    images = torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        error = float((loaded(images) - painter(images)).square().mean())
    assert 0 < error < (1e-3 if bits == 8 else 0.1)


def test_networks_that_do_not_paint_are_refused() -> None:
    with pytest.raises(NetworkError, match="expected a network that paints, got a network of the family vgg"):
        load_stylizer("vgg19")
