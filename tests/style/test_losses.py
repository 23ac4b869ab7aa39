"""Losses by their formulas in the papers, and the Gram matrices that they are made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.style.networks import Tiny
from vggquant.models.features import gram_matrix
from vggquant.style.losses import TotalVariationLoss, TransferLoss, distance, gram_matrices, total
from vggquant.style.options import StyleOptions


def test_gram_matrix_by_its_formula() -> None:
    activation = torch.arange(24.0).reshape(1, 2, 3, 4)
    f = activation[0].reshape(2, 12)
    assert torch.allclose(gram_matrix(activation)[0], f @ f.T / 12)
    assert gram_matrix(torch.cat([activation, activation])).shape == (2, 2, 2)
    mask = torch.rand(1, 1, 3, 4)
    g = f * mask[0].reshape(1, 12)
    assert torch.allclose(gram_matrix(activation, mask)[0], g @ g.T / (mask**2).sum())
    assert torch.allclose(gram_matrix(activation, torch.ones(1, 1, 3, 4)), gram_matrix(activation))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_gram_matrices(layout: torch.memory_format) -> None:
    activation = torch.rand(2, 4, 3, 5, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    mask = torch.rand(1, 1, 3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(gram_matrix, (activation,))
    assert torch.autograd.gradcheck(lambda a: gram_matrix(a, mask), (activation,))


def test_gram_matrices_of_half_types_are_float32() -> None:
    activation = torch.full((1, 2, 4, 4), 300.0, dtype=torch.float16, requires_grad=True)
    gram = gram_matrix(activation)
    assert gram.dtype == torch.float32
    assert gram[0, 0, 0] == 90_000  # beyond float16
    gram.sum().backward()  # type: ignore[no-untyped-call]
    assert activation.grad is not None
    assert activation.grad.dtype == torch.float16


def test_losses_by_their_formulas() -> None:
    one, other = ({"a": torch.rand(2, 4, 5, 6), "b": torch.rand(2, 3, 3, 3)} for _ in range(2))
    squares = [((one[layer] - other[layer]) ** 2).mean((1, 2, 3)) for layer in one]
    assert torch.allclose(distance(one, other, {"a": 0.5, "b": 3.0}), 0.5 * squares[0] + 3 * squares[1])
    assert torch.allclose(distance(one, other, {"b": 1.0}), squares[1])
    first = {layer: activation[:1] for layer, activation in other.items()}
    assert torch.allclose(distance(one, first, {"a": 1.0})[1], ((one["a"][1] - first["a"][0]) ** 2).mean())
    assert distance(one, one, {"a": 1.0, "b": 1.0}).tolist() == [0, 0]
    halves = {layer: activation.bfloat16() for layer, activation in one.items()}
    assert distance(halves, other, {"a": 1.0}).dtype == torch.float32
    grams = gram_matrices(one, ["b"])
    assert list(grams) == ["b"]
    assert torch.equal(grams["b"], gram_matrix(one["b"]))
    mask = torch.rand(1, 1, 3, 3)
    assert torch.equal(gram_matrices(one, ["b"], mask)["b"], gram_matrix(one["b"], mask))
    pixels = torch.tensor([[1.0, 4.0], [2.0, 0.0]]).expand(1, 3, 2, 2)
    assert TotalVariationLoss()(pixels).item() == pytest.approx((2.5 + 2.5) / 2)


def test_the_terms_of_a_transfer_by_their_formulas() -> None:
    torch.manual_seed(0)
    content, style, painted = (torch.rand(1, 3, 12, 10) for _ in range(3))

    def activation(image: Tensor) -> Tensor:
        activations: dict[str, Tensor] = Tiny()(image, ["a"])
        return activations["a"]

    for weight in (1.0, 0.5, 0.0):
        options = StyleOptions(content_layers={"a": weight}, style_layers={"a": weight})
        _, terms = TransferLoss(Tiny(), content, [style], [None], options)(255 * painted)
        squares = ((activation(painted) - activation(content)) ** 2).mean().item()
        assert terms["content"].item() == pytest.approx(weight * 0.01 * squares)
        squares = ((gram_matrix(activation(painted)) - gram_matrix(activation(style))) ** 2).mean().item()
        assert terms["style"].item() == pytest.approx(weight * 10 / 8**2 * squares)


def test_gram_matrices_under_autocast_are_float32() -> None:
    activation = torch.full((1, 2, 4, 4), 300.0, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        gram = gram_matrix(activation)
        assert gram[0, 0, 0] == 90_000
        (gradient,) = torch.autograd.grad((gram * 1e3).sum(), activation)
    assert gradient.isfinite().all()


def test_gram_matrices_have_second_derivatives_and_transforms() -> None:
    activation = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(gram_matrix, (activation,))

    def summed(one: Tensor) -> Tensor:
        return gram_matrix(one[None]).square().sum()

    (expected,) = torch.autograd.grad(torch.stack([summed(one) for one in activation]).sum(), activation)
    assert torch.allclose(torch.func.vmap(torch.func.grad(summed))(activation.detach()), expected)


def test_the_whole_loss_is_the_sum_of_its_terms() -> None:
    torch.manual_seed(0)
    content, one, other = (torch.rand(1, 3, 12, 10) for _ in range(3))
    options = StyleOptions(content_weight=2.0, style_weights=(0.25, 0.5), tv_weight=3.0)
    loss, terms = TransferLoss(Tiny(), content, [one, other], [None, None], options)(255 * one)
    assert set(terms) == {"content", "style", "tv"}
    assert loss.item() == pytest.approx(sum(term.item() for term in terms.values()))
    assert terms["tv"].item() == pytest.approx(3 * TotalVariationLoss()(255 * one).item())
    # of the two styles only the other one is missed
    alone = StyleOptions(style_weights=(0.0, 1.0))
    _, missed = TransferLoss(Tiny(), content, [one, other], [None, None], alone)(255 * one)
    assert terms["style"].item() == pytest.approx(0.5 * missed["style"].item())


def test_a_loss_without_terms_is_zero() -> None:
    assert total([]).item() == 0
