"""The weights under study: reads them, names them, and builds their networks.

What is measured on them is left to `measuring`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vggquant.errors import SourceError, StorageError, located, printable
from vggquant.files.container import from_bytes
from vggquant.files.disk import PathLike, read_file, sha256
from vggquant.files.sources import read_source, resolve
from vggquant.files.weights import Weights
from vggquant.models.vgg import VGG
from vggquant.networks.network import layer_of, weight_specs
from vggquant.networks.vgg import VGGNetwork, require_vgg
from vggquant.packing.inspection import FileInfo, describe_file, read_described

MOST_CENTROIDS = 256  # of 8 bits, the widest codes there are
FIRST_LOOK = 10_000  # values, which tell most unpacked weights from restored ones without sorting millions


@dataclass(frozen=True, eq=False)
class Subject:
    """Weights that are studied: the reference, or those of a file that is compared with it.

    Args:
        label: What tables and pictures call them.
        path: The file they were read from.
        weights: As the file holds them, without layers that are not to be studied.
        bytes: Size of the whole file.
        sha256: Of the whole file.
        packed: What `info` says of the whole file, its size in a wheel included; ``None`` if it is not packed.
    """

    label: str
    path: PathLike
    weights: Weights
    bytes: int
    sha256: str
    packed: FileInfo | None

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


def read_reference(path: PathLike, **reading: Any) -> tuple[Subject, tuple[str, ...]]:
    """Read what all files are to be measured against.

    Args:
        path: Weights in any supported file.
        reading: What `read_source` is to know of them.

    Returns:
        The reference, and the notes of `read_source`.

    Raises:
        VggQuantError: The file cannot be read as a VGG, or was replaced while it was read.
    """
    source = read_source(path, ignore_extra=True, **reading)
    path = resolve(path)
    with located(path):
        require_vgg(source.weights.network)
        data = read_file(path)
        if sha256(data) != source.weights.provenance.sha256:
            raise StorageError("a file that holds still", "one that was replaced while being read", "try again")
        # the source may have been cut, and figures of the file are about all of it
        packed = describe_file(from_bytes(data), [data], wheel=True) if source.weights.palettized else None
    digest = source.weights.provenance.sha256
    return Subject(reference_label(source.weights), path, source.weights, data.size, digest, packed), source.notes


def read_packed(path: PathLike, reference: Subject) -> Subject:
    """Read a packed file that is to be compared with the reference.

    Raises:
        VggQuantError: The file is not packed, not sound, or of another architecture or preprocessing.
    """
    path = resolve(path)
    weights, packed = read_described(path, wheel=True)
    with located(path):
        theirs, ours = reference.network, require_vgg(weights.network)
    for what, expected, got in (
        ("architecture", theirs.architecture.name, ours.architecture.name),
        ("preprocessing", theirs.preprocessing, ours.preprocessing),
    ):
        if expected != got:
            cure = "compare it with the weights it was packed from"
            raise SourceError(f"{what} {expected} as in the reference", got, cure, path=path)
    return Subject(base_name(path), path, weights, packed.bytes, packed.sha256, packed)


def restored(subject: Subject) -> Restored:
    """Bring a subject's weights to float32 and build its network.

    Raises:
        ContainerError: A stream of codes is damaged.
    """
    with located(subject.path):
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
