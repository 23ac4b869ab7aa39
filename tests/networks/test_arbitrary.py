"""Networks that paint in any style as records."""

from __future__ import annotations

from typing import Any

import pytest

from vggquant.errors import NetworkError
from vggquant.networks.arbitrary import ArbitraryNetwork, mobilenet, steered_names
from vggquant.networks.families import network_from_record, record_of

SMALL = (8,) * 9


def count(network: ArbitraryNetwork, part: str) -> int:
    return sum(spec.size for spec in network.tensors if spec.name.startswith(part))


def test_counts() -> None:
    plain, separable = ArbitraryNetwork(), ArbitraryNetwork(separable=steered_names())
    assert count(plain, "transfer.") == 1_953_214
    # Magenta's 569,430, of which 4 numbers a channel are of normalisations instead of 1, and 24 say something else
    assert count(separable, "transfer.") == 569_430 - 3 * (32 + 64 + 128) - 24
    # MobileNetV2 has 2,223,872 without its classifier, of which 2 numbers a channel are of normalisations instead of 1
    normalised = sum(layer.out_channels for layer in plain.predictor_layers[:-1])
    assert count(plain, "predictor.") == 2_223_872 - normalised + 1280 * 100 + 100


@pytest.mark.parametrize("separable", [(), ("block1_2", "out"), steered_names()])
def test_a_record_gives_the_network_back(separable: tuple[str, ...]) -> None:
    network = ArbitraryNetwork((4, 8, 12), separable, "zeros", mobilenet(0.35))
    assert network_from_record(record_of(network)) == network
    assert len([spec for spec in network.tensors if spec.kind == "weight"]) == 53 + 3 + 13 * 3 + len(separable)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"filters": [8, 8]}, r"network\.filters: expected 3 numbers"),
        ({"filters": [8, 8, 0]}, r"network\.filters: expected an integer from 1 to 1024, got 0"),
        ({"predictor": [8] * 8}, r"network\.predictor: expected 9 numbers"),
        ({"predictor": [8] * 8 + [4096]}, r"network\.predictor: expected an integer from 1 to 2048, got 4096"),
        ({"border": "wrap"}, r"network\.border: expected one of reflect, zeros, got wrap"),
        ({"border": ["zeros"]}, r"network\.border: expected one of"),
        ({"separable": True}, r"network\.separable: expected some of block1_1, .*, out, in this order, got True"),
        ({"separable": ["out", "up1"]}, "in this order"),
        ({"separable": ["out", "out"]}, "in this order"),
        ({"separable": ["down1"]}, "in this order"),
        ({"blocks": 5}, "network: expected a configuration of border, filters, predictor, separable, got blocks"),
    ],
)
def test_other_configurations_are_refused(changed: dict[str, Any], message: str) -> None:
    configuration = ArbitraryNetwork((8, 8, 8), predictor=SMALL).configuration | changed
    with pytest.raises(NetworkError, match=message):
        network_from_record({"family": "arbitrary", "configuration": configuration})


def test_narrower_predictors_have_multiples_of_eight_channels() -> None:
    assert mobilenet(1.0) == (32, 16, 24, 32, 64, 96, 160, 320, 1280)
    assert mobilenet(0.35) == (8, 8, 8, 8, 24, 32, 56, 112, 448)
