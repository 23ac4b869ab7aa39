"""The weights under study: reads them, names them, and builds their networks.

What is measured on them is left to `measuring`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vggquant.errors import SourceError, located, printable
from vggquant.files.disk import PathLike
from vggquant.files.sources import read_source, resolve
from vggquant.files.weights import Weights
from vggquant.models.vgg import VGG
from vggquant.networks.network import layer_of, weight_specs
from vggquant.networks.vgg import VGGNetwork, require_vgg
from vggquant.packing.inspection import info

MOST_CENTROIDS = 256  # of 8 bits, the widest codes there are
FIRST_LOOK = 10_000  # values, which tell most unpacked weights from restored ones without sorting millions


@dataclass(frozen=True, eq=False)
class Subject:
    """Weights that are studied: the reference, or those of a file that is compared with it.

    Args:
        label: What tables and pictures call them.
        path: The file they were read from.
        weights: As the file holds them.
    """

    label: str
    path: PathLike
    weights: Weights

    @property
    def convolutions(self) -> tuple[str, ...]:
        return tuple(convolution.name for convolution in self.network.convolutions)

    @property
    def network(self) -> VGGNetwork:
        return require_vgg(self.weights.network)

    @property
    def deepest_relu(self) -> str:
        """The last layer that these weights can compute."""
        return f"relu{self.network.last.removeprefix('conv')}"

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that these weights can compute."""
        return self.network.architecture.layers_upto(self.deepest_relu)

    @property
    def relus(self) -> tuple[str, ...]:
        """Every relu that these weights can compute."""
        return tuple(layer for layer in self.layers if layer.startswith("relu"))

    @property
    def size(self) -> int:
        """Number of convolution weights."""
        return sum(convolution.size for convolution in self.network.convolutions)

    @property
    def bits(self) -> Mapping[str, int]:
        """Bit width by convolution; empty if the file is not packed."""
        return {layer_of(name): tensor.codes.bits for name, tensor in self.weights.palettized.items()}


@dataclass(frozen=True, eq=False)
class Restored:
    """A subject in float32.

    Args:
        subject: The file and its label.
        weights: The same weights in float32.
        network: A VGG made of them.
    """

    subject: Subject
    weights: Weights
    network: VGG


def read_packed(path: PathLike, reference: Subject) -> Subject:
    """Read a packed file that is to be compared with the reference.

    Raises:
        VggQuantError: The file is not packed, not sound, or of another architecture or preprocessing.
    """
    path = resolve(path)
    info(path)  # refuses a file that is not packed
    weights = read_source(path).weights
    with located(path):
        theirs, ours = reference.network, require_vgg(weights.network)
    for what, expected, got in (
        ("architecture", theirs.architecture.name, ours.architecture.name),
        ("preprocessing", theirs.preprocessing, ours.preprocessing),
    ):
        if expected != got:
            cure = "compare it with the weights it was packed from"
            raise SourceError(f"{what} {expected} as in the reference", got, cure, path=path)
    return Subject(base_name(path), path, weights)


def restored(subject: Subject) -> Restored:
    """Bring a subject's weights to float32 and build its network.

    Raises:
        ContainerError: A stream of codes is damaged.
    """
    weights = subject.weights.restored() if subject.weights.palettized else subject.weights
    network = VGG(
        {name: torch.from_numpy(np.array(array)) for name, array in weights.plain.items()},
        architecture=subject.network.architecture.name,
        preprocessing=subject.network.preprocessing,
        upto=subject.deepest_relu,
    )
    return Restored(subject, weights, network)


def reference_label(weights: Weights) -> str:
    """Call the reference by the width of its codes, or by what its values tell if they are not packed."""
    if not weights.palettized:
        palettized = all(_is_palettized(weights.plain[spec.name]) for spec in weight_specs(weights.network))
        return "reference (8-bit)" if palettized else "reference (float32)"
    bits = {tensor.codes.bits for tensor in weights.palettized.values()}
    return f"reference ({min(bits)}-bit)" if len(bits) == 1 else f"reference ({min(bits)}- to {max(bits)}-bit)"


def with_distinct_labels(subjects: Sequence[Subject], taken: Sequence[str]) -> list[Subject]:
    """Number the labels that are taken already, by a word or by a subject before: ``a``, ``a (2)``, ``a (3)``."""
    found = list(taken)
    renamed = []
    for subject in subjects:
        label, number = subject.label, 1
        while label in found:
            number += 1
            label = f"{subject.label} ({number})"
        found.append(label)
        renamed.append(dataclasses.replace(subject, label=label))
    return renamed


def base_name(path: PathLike) -> str:
    """A file's name without its folders, fit to be shown."""
    return printable(Path(os.fsdecode(path)).name)


def _is_palettized(weight: npt.NDArray[np.float32]) -> bool:
    """Whether a weight has so few different values that it must have been restored from codes."""
    return all(np.unique(part).size <= MOST_CENTROIDS for part in (weight.reshape(-1)[:FIRST_LOOK], weight))
