"""AdaIN's networks as records: counts, mirrored shapes, and what is no such network."""

from __future__ import annotations

import pytest

from vggquant.errors import NetworkError
from vggquant.networks.adain import FULL, NAMES, AdaINNetwork
from vggquant.networks.families import network_from_record, record_of
from vggquant.networks.network import weight_specs

NARROW = (8, 16, 24, 32, 40, 48, 56, 64, 72)


def test_the_full_network_is_vggs_own_encoder_and_its_mirror() -> None:
    network = AdaINNetwork()
    assert network.channels == FULL == (64, 64, 128, 128, 256, 256, 256, 256, 512)
    assert network.parameters == 7_010_947
    for layers in (network.encoder, network.decoder):
        parameters = sum(spec.size for layer in layers for spec in layer.tensors)
        assert parameters == pytest.approx(3.5e6, rel=0.01)


@pytest.mark.parametrize("channels", [FULL, NARROW, (1,) * 9])
def test_a_record_gives_the_network_back(channels: tuple[int, ...]) -> None:
    network = AdaINNetwork(channels)
    assert network_from_record(record_of(network)) == network


def test_the_decoder_mirrors_the_encoder() -> None:
    network = AdaINNetwork(NARROW)
    assert [layer.name for layer in network.encoder] == [f"encoder.{name}" for name in NAMES]
    assert [layer.name for layer in network.decoder] == [f"decoder.{name}" for name in reversed(NAMES)]
    for before, behind in zip(network.encoder, reversed(network.decoder), strict=True):
        assert (before.in_channels, before.out_channels) == (behind.out_channels, behind.in_channels)
    assert network.encoder[0].in_channels == network.decoder[-1].out_channels == 3
    shapes = {spec.name: spec.shape for spec in network.tensors}
    assert shapes["encoder.conv4_1.weight"] == (72, 64, 3, 3)
    assert shapes["decoder.conv4_1.weight"] == (64, 72, 3, 3)
    assert shapes["decoder.conv1_1.bias"] == (3,)
    assert len(weight_specs(network)) == 18


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({}, "network: expected a configuration of channels"),
        ({"channels": [8] * 9, "more": 1}, "network: expected a configuration of channels, got more"),
        ({"channels": [8] * 8}, r"network\.channels: expected 9 numbers of channels"),
        ({"channels": [8] * 10}, r"network\.channels: expected 9 numbers of channels"),
        ({"channels": "888888888"}, r"network\.channels: expected 9 numbers of channels"),
        ({"channels": None}, r"network\.channels: expected 9 numbers of channels"),
        ({"channels": [8] * 8 + [0]}, r"network\.channels: expected an integer from 1 to 1024, got 0"),
        ({"channels": [8] * 8 + [-8]}, r"network\.channels: expected an integer from 1 to 1024, got -8"),
        ({"channels": [8] * 8 + [1025]}, r"network\.channels: expected an integer from 1 to 1024, got 1025"),
        ({"channels": [8] * 8 + [10**30]}, r"network\.channels: expected an integer from 1 to 1024"),
        ({"channels": [8] * 8 + [True]}, r"network\.channels: expected an integer from 1 to 1024, got True"),
        ({"channels": [8] * 8 + [8.0]}, r"network\.channels: expected an integer from 1 to 1024, got 8\.0"),
        ({"channels": [8] * 8 + [[8]]}, r"network\.channels: expected an integer"),
    ],
)
def test_records_of_no_such_network_are_refused(configuration: dict[str, object], said: str) -> None:
    with pytest.raises(NetworkError, match=said):
        network_from_record({"family": "adain", "configuration": configuration})
