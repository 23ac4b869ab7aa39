"""The table of network families, and the way from a record back to its network.

A new family is a module beside this one and a line here; files, packing and inspection need no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vggquant.errors import NetworkError
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.networks.network import MAX_ELEMENTS, MAX_RANK, MAX_TENSORS, Network, weight_specs
from vggquant.networks.vgg import VGGNetwork

# For each family, what makes its network from a configuration. It must refuse, with NetworkError, whatever is
# not a configuration of this family, and bound every number before it builds anything from it.
FAMILIES: dict[str, Callable[[Mapping[str, object]], Network]] = {
    "adain": AdaINNetwork.from_configuration,
    "arbitrary": ArbitraryNetwork.from_configuration,
    "johnson": JohnsonNetwork.from_configuration,
    "vgg": VGGNetwork.from_configuration,
}


def network_from_record(record: object) -> Network:
    """Make the network that a record describes; the inverse of `record_of`.

    Args:
        record: What JSON gave: an object of ``family`` and ``configuration``.

    Raises:
        NetworkError: The record is of another form, names an unknown family, or describes a network out of bounds.
    """
    if type(record) is not dict or set(record) != {"family", "configuration"}:
        raise NetworkError("a record of family and configuration", record, tensor="network")
    family, configuration = record["family"], record["configuration"]
    if type(family) is not str or family not in FAMILIES:
        cure = "upgrade vggquant"
        raise NetworkError(f"a family known here: {', '.join(FAMILIES)}", family, cure, tensor="network.family")
    if type(configuration) is not dict:
        raise NetworkError("an object", configuration, tensor="network.configuration")
    network = FAMILIES[family](configuration)
    _require_bounds(network)
    return network


def record_of(network: Network) -> dict[str, object]:
    """The record of a network, ready for JSON; the inverse of `network_from_record`."""
    return {"configuration": dict(network.configuration), "family": network.family}


def _require_bounds(network: Network) -> None:
    if len(network.tensors) > MAX_TENSORS:
        raise NetworkError(f"at most {MAX_TENSORS} tensors", len(network.tensors), tensor="network")
    elements = sum(spec.size for spec in network.tensors)
    if elements > MAX_ELEMENTS:
        raise NetworkError(f"at most {MAX_ELEMENTS} elements", elements, tensor="network")
    layers = [spec.layer for spec in weight_specs(network)]
    names = {spec.name for spec in network.tensors}
    sound = 0 < len(set(layers)) == len(layers) and len(names) == len(network.tensors)
    sound = sound and all(spec.layer and spec.size > 0 and len(spec.shape) <= MAX_RANK for spec in network.tensors)
    if not sound:
        expected = f"a weight or more, one for each layer, named layer.part, of rank {MAX_RANK} at most"
        cure = "correct the module of this family"
        raise NetworkError(expected, ", ".join(sorted(names)) or "no tensors", cure, tensor=f"family {network.family}")
