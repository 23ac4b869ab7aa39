"""One file's figures: its size, how fast it loads, and what its weights and features have lost.

The formulas of the errors are left to `models.features` and `codec.palette`, the pictures painted to `paintings`.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from vggquant.codec.palette import energies, sqnr_from_energies
from vggquant.comparison.subjects import Restored, Subject
from vggquant.files.disk import PathLike
from vggquant.files.weights import Weights
from vggquant.models.features import feature_errors
from vggquant.models.load import load_quantized_vgg
from vggquant.networks.network import weight_specs
from vggquant.networks.vgg import CONTENT_LAYER, STYLE_LAYERS

LOADS = 5  # the fastest counts, as the one least disturbed


@dataclass(frozen=True)
class Measured:
    """One file against the reference, on the layers that both have; ``None`` is unknown or infinite.

    Sizes and the load time are those of the whole file, also where only a part of its layers is measured.

    Args:
        label: What tables and pictures call it.
        bits: Bit width of each layer; empty if not packed.
        bytes: Size of the file.
        wheel_bytes: What a packed file takes in a wheel.
        bits_per_weight: Bits of the file over the number of weights in it; ``None`` if not packed, since other files
            may hold more than convolutions.
        lossless: Whether all convolution weights equal the reference's.
        lossless_layers: The convolutions whose weights do.
        sqnr_db: Over all convolution weights. ``None`` if `lossless`, and also for −∞, which is noise on weights that
            are all zeros in the reference.
        layer_sqnr_db: The same by convolution.
        feature_error: By relu.
        gram_error: By style layer.
        content_error: Feature error at relu4_2; ``None`` if the file or the reference ends before it.
        style_error: Mean Gram error over the style layers; ``None`` if the file or the reference ends before the last.
        load_s: Seconds that `load_quantized_vgg` takes, checks included; ``None`` if not packed.
        transfer_loss: Loss, under the reference, of the picture painted with these weights.
        transfer_regret: That loss over the loss of the picture painted with the reference.
        sha256: Of the file.
    """

    label: str
    bits: Mapping[str, int]
    bytes: int
    wheel_bytes: int | None
    bits_per_weight: float | None
    lossless: bool
    lossless_layers: tuple[str, ...]
    sqnr_db: float | None
    layer_sqnr_db: Mapping[str, float | None]
    feature_error: Mapping[str, float | None]
    gram_error: Mapping[str, float | None]
    content_error: float | None
    style_error: float | None
    load_s: float | None
    transfer_loss: float | None
    transfer_regret: float | None
    sha256: str

    @property
    def equals_reference(self) -> bool:
        """Whether weights and features are those of the reference."""
        return self.lossless and set(self.feature_error.values()) == {0.0}


def describe(subject: Subject) -> Measured:
    """Say what a file tells by itself, with the errors of the reference, which has none against itself."""
    packed, relus = subject.packed, subject.relus
    return Measured(
        label=subject.label,
        bits=subject.bits,
        bytes=subject.bytes,
        wheel_bytes=None if packed is None else packed.wheel_bytes,
        bits_per_weight=None if packed is None else packed.bits_per_weight,
        lossless=True,
        lossless_layers=subject.convolutions,
        sqnr_db=None,
        layer_sqnr_db=dict.fromkeys(subject.convolutions),
        feature_error=dict.fromkeys(relus, 0.0),
        gram_error={layer: 0.0 for layer in STYLE_LAYERS if layer in relus},
        content_error=0.0 if CONTENT_LAYER in relus else None,
        style_error=0.0 if set(STYLE_LAYERS) <= set(relus) else None,
        load_s=None if packed is None else _load_time(subject.path),
        transfer_loss=None,
        transfer_regret=None,
        sha256=subject.sha256,
    )


def measure(
    ours: Restored, reference: Restored, pictures: Mapping[str, Tensor], count: Callable[[str], None]
) -> Measured:
    """Measure a file against the reference, on the layers that both have.

    Args:
        ours: The file.
        reference: What it stands for.
        pictures: By name, each (1, 3, H, W), RGB in [0, 1].
        count: Called after each picture.
    """
    relus = [layer for layer in ours.subject.relus if layer in reference.subject.relus]

    def counted() -> Iterator[Tensor]:
        for name, picture in pictures.items():
            yield picture
            count(f"{ours.subject.label}: {name}")

    errors = feature_errors(ours.network, reference.network, counted(), relus)
    ratios, ratio = _weight_errors(ours.weights, reference.weights)
    return dataclasses.replace(
        describe(ours.subject),
        lossless=ratio == math.inf,
        lossless_layers=tuple(layer for layer, ratio in ratios.items() if ratio == math.inf),
        sqnr_db=_finite(ratio),
        layer_sqnr_db={layer: _finite(ratio) for layer, ratio in ratios.items()},
        feature_error={layer: _finite(error) for layer, error in errors.feature.items()},
        gram_error={layer: _finite(errors.gram[layer]) for layer in STYLE_LAYERS if layer in relus},
        content_error=_finite(errors.content) if CONTENT_LAYER in relus else None,
        style_error=_finite(errors.style) if set(STYLE_LAYERS) <= set(relus) else None,
    )


def _weight_errors(ours: Weights, theirs: Weights) -> tuple[dict[str, float], float]:
    """SQNR in dB by convolution, and over all convolutions that both have."""
    by_layer = {}
    signal = noise = 0.0
    for spec in [spec for spec in weight_specs(theirs.network) if spec.name in ours.plain]:
        parts = energies(theirs.plain[spec.name], ours.plain[spec.name])
        by_layer[spec.layer] = sqnr_from_energies(*parts)
        signal, noise = signal + parts[0], noise + parts[1]
    return by_layer, sqnr_from_energies(signal, noise)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _load_time(path: PathLike) -> float:
    """Seconds of the fastest load."""
    times = []
    for _ in range(LOADS):
        began = time.perf_counter()
        load_quantized_vgg(path)
        times.append(time.perf_counter() - began)
    return min(times)
