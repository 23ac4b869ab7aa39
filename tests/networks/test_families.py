"""Records of networks: what they make, and what is refused before anything is built from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

import pytest

from tests.toy import toy_family
from vggquant.errors import NetworkError
from vggquant.networks.families import FAMILIES, network_from_record, record_of
from vggquant.networks.network import MAX_TENSORS, TensorSpec, weight_specs
from vggquant.networks.vgg import ARCHITECTURES, VGGNetwork


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("preprocessing", ["caffe", "torch"])
def test_every_vgg_has_a_record_that_makes_it_again(architecture: str, preprocessing: Any) -> None:
    for depth in range(1, len(ARCHITECTURES[architecture].convolutions) + 1):
        network = VGGNetwork(ARCHITECTURES[architecture], preprocessing, depth)
        assert network_from_record(record_of(network)) == network
        assert len(network.tensors) == 2 * depth


def test_a_vggs_layers_end_before_the_first_convolution_that_is_not_there() -> None:
    vgg19 = ARCHITECTURES["vgg19"]
    assert VGGNetwork(vgg19, "caffe", 2).layers == ("conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1")
    assert VGGNetwork(vgg19, "caffe", 16).layers == vgg19.layers


def test_a_vggs_tensors_follow_from_its_record() -> None:
    network = network_from_record(
        {"family": "vgg", "configuration": {"architecture": "vgg19", "convolutions": 16, "preprocessing": "caffe"}}
    )
    weights = weight_specs(network)
    assert [spec.layer for spec in weights] == [one.name for one in ARCHITECTURES["vgg19"].convolutions]
    assert sum(spec.size for spec in weights) == 20_018_880
    assert sum(spec.size for spec in network.tensors if spec.kind == "plain") == 5_504


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"architecture": "vgg12"}, "network.architecture: expected one of vgg11, vgg13, vgg16, vgg19, got vgg12"),
        ({"architecture": ["vgg11"]}, "network.architecture: expected one of"),
        ({"preprocessing": "bgr"}, "network.preprocessing: expected caffe or torch, got bgr"),
        ({"convolutions": 0}, "network.convolutions: expected an integer from 1 to 8, got 0"),
        ({"convolutions": 9}, "network.convolutions: expected an integer from 1 to 8, got 9"),
        ({"convolutions": True}, "network.convolutions: expected an integer from 1 to 8, got True"),
        ({"convolutions": 1.0}, "network.convolutions: expected an integer from 1 to 8, got 1.0"),
        ({"depth": 3}, "network: expected a configuration of architecture, convolutions, preprocessing, got depth"),
    ],
)
def test_what_is_no_vgg_is_refused(changes: dict[str, Any], match: str) -> None:
    configuration = {"architecture": "vgg11", "convolutions": 1, "preprocessing": "caffe", **changes}
    with pytest.raises(NetworkError, match=match):
        network_from_record({"family": "vgg", "configuration": configuration})


@pytest.mark.parametrize("record", [None, 7, "vgg", [], {}, {"family": "vgg"}, {"configuration": {}}])
def test_what_is_no_record_is_refused(record: object) -> None:
    with pytest.raises(NetworkError, match="network: expected a record of family and configuration"):
        network_from_record(record)


def test_a_network_is_bounded_as_a_whole() -> None:
    with toy_family(), pytest.raises(NetworkError, match="at most 268435456 elements, got 268656640"):
        network_from_record({"family": "toy", "configuration": {"channels": 4096, "classes": 65536}})
    many = made_of(*[TensorSpec(f"{index}.weight", (1,), "weight") for index in range(MAX_TENSORS + 1)])
    with many, pytest.raises(NetworkError, match=f"at most {MAX_TENSORS} tensors, got {MAX_TENSORS + 1}"):
        network_from_record({"family": "made", "configuration": {}})


def made_of(*tensors: TensorSpec) -> Any:
    """A family whose networks have these tensors, while the context lasts."""
    specs = tensors

    @dataclass(frozen=True)
    class Made:
        family: ClassVar[str] = "made"
        configuration: ClassVar[dict[str, object]] = {}
        tensors: ClassVar[tuple[TensorSpec, ...]] = specs

    return mock.patch.dict(FAMILIES, {"made": lambda configuration: Made()})


@pytest.mark.parametrize(
    "tensors",
    [
        (),
        (TensorSpec("a.bias", (1,), "plain"),),
        (TensorSpec("a.weight", (1,), "weight"), TensorSpec("a.other", (1,), "weight")),
        (TensorSpec("a.weight", (1,), "weight"), TensorSpec("a.weight", (1,), "plain")),
        (TensorSpec("embedding", (1,), "weight"),),
        (TensorSpec("a.weight", (0,), "weight"),),
        (TensorSpec("a.weight", (1,) * 9, "weight"),),
    ],
    ids=["nothing", "no weight", "two weights", "a name twice", "no layer", "empty", "rank 9"],
)
def test_a_family_that_keeps_no_rules_is_told_so(tensors: tuple[TensorSpec, ...]) -> None:
    with (
        made_of(*tensors),
        pytest.raises(NetworkError, match=r"family made: expected a weight or more, .*; correct"),
    ):
        network_from_record({"family": "made", "configuration": {}})
