"""What a network is to everyone who stores or packs its weights: a record, and the tensors that follow from it.

A record is a family and a configuration. Each family has a module beside this one that derives names, shapes and
kinds of all tensors from the configuration; `families` lists them. Numbers and files are left to other packages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from vggquant.errors import NetworkError

Kind = Literal["weight", "plain"]

# what a network may have, and a file of its weights
MAX_TENSORS = 256
MAX_RANK = 8
MAX_ELEMENTS = 2**28  # of a tensor, and of all tensors of a network together: a gigabyte of float32


def layer_of(name: str) -> str:
    """A tensor's name without its last part: ``conv1_1`` for ``conv1_1.weight``."""
    return name.rpartition(".")[0]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a network.

    Args:
        name: Layer and part, for instance ``conv1_1.weight``. A layer has one weight at most.
        shape: Its shape, output channels first; a scale, if it gets one, lies along that axis.
        kind: ``weight`` for what quantization is for; ``plain`` for what always stays float32, such as biases
            and normalisations.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind

    @property
    def layer(self) -> str:
        """The layer it belongs to, see `layer_of`."""
        return layer_of(self.name)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Network(Protocol):
    """A network of some family."""

    @property
    def family(self) -> str:
        """Key of the table of families."""

    @property
    def configuration(self) -> Mapping[str, object]:
        """Values that JSON can carry; with the family they say all that there is to say."""

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All tensors in order, input side first; one weight at least."""


def weight_specs(network: Network) -> tuple[TensorSpec, ...]:
    """The tensors of a network that quantization is for, input side first."""
    return tuple(spec for spec in network.tensors if spec.kind == "weight")


def require_keys(configuration: Mapping[str, object], *keys: str) -> None:
    """Refuse a configuration that has other keys than its family knows.

    Raises:
        NetworkError: A key is missing or unknown.
    """
    differing = sorted(set(configuration) ^ set(keys))
    if differing:
        raise NetworkError(f"a configuration of {', '.join(keys)}", ", ".join(differing), tensor="network")


def require_integer(configuration: Mapping[str, object], key: str, least: int, most: int) -> int:
    """A whole number of a configuration within its bounds, so that what follows from it is bounded too.

    Raises:
        NetworkError: It is missing, of another type, or out of bounds.
    """
    value = configuration.get(key, "nothing")
    if type(value) is not int or not least <= value <= most:
        raise NetworkError(f"an integer from {least} to {most}", value, tensor=f"network.{key}")
    return value
