"""The feed-forward networks of Johnson et al. as records."""

from __future__ import annotations

import math

import pytest

from vggquant.errors import NetworkError, OptionError
from vggquant.networks.families import network_from_record, record_of
from vggquant.networks.johnson import STOCK, JohnsonNetwork


@pytest.mark.parametrize(
    ("name", "alpha", "parameters"), [("johnson", 0.5, 424_102), ("tiny", 0.3, 11_868), ("johnson", 1.0, 1_677_638)]
)
def test_counts(name: str, alpha: float, parameters: int) -> None:
    assert JohnsonNetwork.stock(name, alpha).parameters == parameters


@pytest.mark.parametrize("blocks", [0, 1, 32])
def test_a_record_gives_the_network_back(blocks: int) -> None:
    network = JohnsonNetwork.stock("tiny", 0.3, blocks)
    assert network_from_record(record_of(network)) == network
    assert len([spec for spec in network.tensors if spec.kind == "weight"]) == 6 + 2 * blocks


@pytest.mark.parametrize("alpha", [0.01, 100.0, math.nan, -1.0])
def test_multipliers_out_of_bounds_are_refused(alpha: float) -> None:
    with pytest.raises(OptionError, match="alpha: expected a multiplier from"):
        JohnsonNetwork.stock("tiny", alpha)


def test_other_configurations_are_refused() -> None:
    with pytest.raises(OptionError, match=f"network: expected one of {', '.join(STOCK)}, got huge"):
        JohnsonNetwork.stock("huge")
    with pytest.raises(OptionError, match="blocks: expected 0 to 32 blocks, got 33"):
        JohnsonNetwork.stock("tiny", blocks=33)


@pytest.mark.parametrize(
    "configuration",
    [
        {"blocks": 3},
        {"blocks": 3, "filters": [8, 8]},
        {"blocks": 3, "filters": [8, 8, 0]},
        {"blocks": 3, "filters": [8, 8, 1025]},
        {"blocks": 3, "filters": [8, 8, 8.0]},
        {"blocks": 3, "filters": [8, 8, True]},
        {"blocks": 3, "filters": "888"},
        {"blocks": 33, "filters": [8, 8, 8]},
        {"blocks": -1, "filters": [8, 8, 8]},
        {"blocks": 3, "filters": [8, 8, 8], "alpha": 1},
    ],
)
def test_records_of_no_such_network_are_refused(configuration: dict[str, object]) -> None:
    with pytest.raises(NetworkError):
        network_from_record({"family": "johnson", "configuration": configuration})
