"""Batch normalisation that is there in training alone."""

from __future__ import annotations

import torch
from torch import nn

from vggquant.models.arbitrary import Predictor
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.training.normalising import folded, normalised


def test_what_is_folded_computes_the_same() -> None:
    torch.manual_seed(0)
    network = ArbitraryNetwork((4, 4, 4), predictor=(8,) * 9)
    trained = normalised(Predictor(network), but=("code",)).train()
    for _ in range(3):
        trained(3 * torch.rand(4, 3, 32, 32))
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    made = folded(trained)
    assert [*made.state_dict()] == [*Predictor(network).state_dict()]
    assert trained.training
    assert not made.training
    pictures = torch.rand(2, 3, 32, 32)
    expected = trained.eval()(pictures)
    torch.testing.assert_close(made(pictures), expected, rtol=1e-3, atol=1e-3)
    plain = Predictor(network)
    plain.load_state_dict(made.state_dict())
    torch.testing.assert_close(plain(pictures), expected, rtol=1e-3, atol=1e-3)


def test_convolutions_without_a_bias_and_excepted_ones_stay() -> None:
    module = nn.ModuleDict({"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1, bias=False), "c": nn.Conv2d(3, 4, 1)})
    kept = module["b"], module["c"]
    assert normalised(module, but=("c",)) is module
    assert (module["b"], module["c"]) == kept
    assert [*dict(module["a"].named_children())] == ["convolution", "normalisation"]
