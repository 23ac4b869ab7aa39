"""Training with rounded weights: codebooks, how they follow, gradients, and what is left in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vggquant import load_stylizer
from vggquant.files.container import write
from vggquant.models.adain import AdaIN
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.network import weight_specs
from vggquant.training.packing import palettized, unquantized
from vggquant.training.rounded import EVERY, _Rounded, round_weights, settle_weights


@pytest.fixture
def painter() -> AdaIN:
    torch.manual_seed(0)
    return AdaIN(AdaINNetwork((8,) * 9))


@pytest.mark.parametrize("bits", [1, 3])
def test_settled_weights_are_few_and_packed_without_loss(painter: AdaIN, bits: int, tmp_path: Path) -> None:
    original = {name: tensor.clone() for name, tensor in painter.state_dict().items()}
    content, style = torch.rand(2, 1, 3, 32, 32)
    round_weights(painter.eval(), bits)
    with torch.no_grad():
        rounded = painter(content, [style])
    settle_weights(painter)
    assert painter.state_dict().keys() == original.keys()
    with torch.no_grad():
        assert torch.allclose(painter(content, [style]), rounded, atol=1e-4)
    for spec in weight_specs(painter.network):
        found = painter.get_parameter(spec.name).detach()
        assert 1 < len(set(found.flatten().tolist())) <= 2**bits
        assert float((found - original[spec.name]).norm() / original[spec.name].norm()) < 0.8**bits
    write(tmp_path / "x", palettized(unquantized(painter, "for a test"), bits, None))
    loaded = load_stylizer(tmp_path / "x").state_dict()
    # but for the last bit of a mean of equal weights
    assert all(torch.allclose(tensor, loaded[name], 1e-6, 0) for name, tensor in painter.state_dict().items())
    settled = {name: tensor.clone() for name, tensor in painter.state_dict().items()}
    settle_weights(painter)  # again, of what is not rounded
    assert all(torch.equal(tensor, settled[name]) for name, tensor in painter.state_dict().items())


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    rounding = _Rounded(torch.tensor([-1.0, 0.0, 2.0]))
    weight = torch.tensor([-0.6, 0.4, 1.1, 9.0], requires_grad=True)
    found = rounding(weight)
    assert found.tolist() == [-1, 0, 2, 2]
    factors = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (factors * found).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, factors)


def test_codebooks_follow_by_lloyds_step_in_training_alone() -> None:
    rounding = _Rounded(torch.tensor([-1.0, 0.0, 2.0, 50.0]))
    weight = torch.tensor([-0.6, -0.8, 0.4, 1.1, 5.0])
    for _ in range(EVERY - 1):
        rounding(weight)
    rounding.eval()
    for _ in range(EVERY):
        rounding(weight)
    assert rounding.codebook.tolist() == [-1, 0, 2, 50]
    rounding.train()(weight)
    assert torch.allclose(rounding.codebook, torch.tensor([-0.7, 0.4, 3.05, 50.0]))  # what none is near to stays


def test_states_hold_codebooks_and_counters(painter: AdaIN) -> None:
    round_weights(painter.train(), 2)
    for _ in range(EVERY):
        painter(torch.rand(1, 3, 16, 16), [torch.rand(1, 3, 16, 16)])
    state = painter.state_dict()
    codebooks = [name for name in state if name.endswith("codebook")]
    counters = [name for name in state if name.endswith("_extra_state")]
    assert len(codebooks) == len(counters) == 18
    counts = {state[name] for name in counters}
    assert max(counts) - min(counts) == EVERY  # encoders look at styles too
    other = AdaIN(painter.network)
    round_weights(other, 2)
    other.load_state_dict(state)
    assert all(torch.equal(other.get_buffer(name), state[name]) for name in codebooks)


def test_what_is_not_trained_stays_so(painter: AdaIN) -> None:
    painter.encoder.requires_grad_(False)
    round_weights(painter, 2)
    assert {name.partition(".")[0] for name, each in painter.named_parameters() if each.requires_grad} == {"decoder"}
