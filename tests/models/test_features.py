from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from vggquant import load_quantized_vgg
from vggquant.errors import OptionError
from vggquant.models.features import feature_errors, gram_matrix, relative_error
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS
from vggquant.pictures.generated import generated_pictures


def scaled(factor: float) -> object:
    """A network whose only activation is the images, scaled."""

    def network(images: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return dict.fromkeys(layers, images * factor)

    return network


def test_errors_by_their_formulas() -> None:
    layers = (*STYLE_LAYERS, CONTENT_LAYER)
    images = [torch.rand(1, 3, 5, 6), torch.rand(1, 3, 7, 4)]
    found = feature_errors(scaled(1.1), scaled(1.0), images, layers)  # type: ignore[arg-type]
    assert found.content == pytest.approx(0.1, rel=1e-4)
    assert found.style == pytest.approx(0.21, rel=1e-4)  # Gram matrices go with the square
    same = feature_errors(scaled(1.0), scaled(1.0), images, layers)  # type: ignore[arg-type]
    assert (same.content, same.style) == (0, 0)


def test_errors_are_averaged_over_images() -> None:
    images = [torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2)]
    factors = iter([1.0, 1.5])

    def network(images: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return dict.fromkeys(layers, images * next(factors))

    assert feature_errors(network, scaled(1.0), images, ["relu4_2"]).content == pytest.approx(0.25)  # type: ignore[arg-type]


def test_gram_matrix_of_a_batch_is_that_of_its_images() -> None:
    activations = torch.rand(2, 4, 3, 5)
    assert torch.allclose(gram_matrix(activations)[1], gram_matrix(activations[1:])[0])


def test_measured_twice_equals() -> None:
    vgg = load_quantized_vgg(upto="relu2_1")
    other = load_quantized_vgg(upto="relu2_1")
    with torch.no_grad():
        other.get_parameter("conv1_1.weight").mul_(1.01)
    images = [torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255 for p in generated_pictures(2, 32, 32)]
    first, second = (feature_errors(other, vgg, images, ["relu1_1", "relu2_1"]) for _ in range(2))
    assert first == second
    assert 0 < first.feature["relu2_1"] < 0.1


def test_dead_layers_and_missing_images() -> None:
    nothing, something = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)
    assert relative_error(nothing, nothing) == 0
    assert relative_error(something, nothing) == float("inf")
    with pytest.raises(OptionError, match="one picture or more"):
        feature_errors(scaled(1.0), scaled(1.0), [], ["relu4_2"])  # type: ignore[arg-type]
