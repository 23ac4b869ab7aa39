"""Whether a network computes in float16 what it computes in float32, layer by layer, and weights that mend it.

A float16 ends at 65,504, and below 0.00006 it loses its precision and soon all of its value: networks may paint blanks.
Most layers may be scaled, though. Where a ReLU and another convolution follow, the one may be multiplied by a power of
two and the other divided by it; where an instance normalisation follows, it takes the power out again. A `VGG` rescales
itself when it is converted, see `half`, so its weights are left as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vggquant.errors import located
from vggquant.files.container import read_outline
from vggquant.files.disk import PathLike, Readable, name_of
from vggquant.files.sources import resolve
from vggquant.models.adain import AdaIN
from vggquant.models.arbitrary import Arbitrary
from vggquant.models.half import FLOAT16_MAX, TARGET_PEAK
from vggquant.models.johnson import Johnson
from vggquant.models.load import load_quantized_vgg
from vggquant.models.painters import load_stylizer
from vggquant.models.vgg import VGG
from vggquant.networks.network import layer_of
from vggquant.networks.vgg import as_vgg
from vggquant.pictures.files import read_picture
from vggquant.pictures.folders import pictures_in
from vggquant.pictures.generated import generated_pictures

FLOAT16_LEAST = torch.finfo(torch.float16).smallest_normal
LOWEST_PEAK = 1 / 16  # largest magnitude of a layer's activations below which they are scaled
SAFE_DB = 30.0  # signal-to-noise ratio of what is computed in float16, from which nobody sees a difference
MOST, PIXELS = 8, 16_384  # pictures of a folder that are looked at, and the area of each
SIDE = 66  # pixels of generated pictures, of which no layer finds whole blocks to compute in another order

Module = VGG | Johnson | AdaIN | Arbitrary


@dataclass(frozen=True)
class LayerRange:
    """Magnitudes of a layer with weights, on some pictures.

    Args:
        name: Of the layer.
        largest: Largest magnitude of its activations.
        typical: Root mean square of its activations.
        overflow_bits: How many times `largest` may be doubled before float16 overflows; below 0 if it does.
        underflow_bits: How many times the activations, or the weights if these are smaller, may be halved before most
            of them lose precision; below 0 if they do.
    """

    name: str
    largest: float
    typical: float
    overflow_bits: float
    underflow_bits: float


@dataclass(frozen=True)
class HalfReport:
    """What float16 does to a network.

    Args:
        layers: Those with weights, in the order of the network.
        snr_db: Signal-to-noise ratio of what it computes in float16 against float32, of the picture or layer where it
            is least; −∞ if it is not finite.
        exponents: By layer, the powers of two that its weights are multiplied by where that mends it; empty if there is
            nothing to mend, or if it does not help.
        mended_db: `snr_db` with these weights.
        mended: The network with these weights, in float32; the network itself if there are none.
    """

    layers: tuple[LayerRange, ...]
    snr_db: float
    exponents: Mapping[str, int]
    mended_db: float
    mended: nn.Module

    @property
    def safe(self) -> bool:
        """Whether float16 serves as it is."""
        return self.snr_db >= SAFE_DB


def half_safe(network: Module, pictures: Sequence[Tensor] | None = None) -> HalfReport:
    """Run a network in float16 and in float32, and find weights that mend it if float16 spoils it.

    Args:
        network: In float32, on the CPU.
        pictures: (1, 3, H, W), RGB in [0, 1]; generated ones if not given. Networks that take any style paint each in
            the style of the next.

    Example:
        >>> report = half_safe(load_stylizer("starry"))  # doctest: +SKIP
        >>> report.safe, report.mended_db  # doctest: +SKIP
        (True, 55.4)
    """
    looked_at = _generated() if pictures is None else list(pictures)
    layers, expected = _measured(network, looked_at)
    ratio = _ratio(network, looked_at, expected)
    unmended = HalfReport(layers, ratio, {}, ratio, network)
    if ratio >= SAFE_DB:
        return unmended
    mended, exponents = _rescaled(network, {layer.name: layer.largest for layer in layers})
    better = _ratio(mended, looked_at, expected)
    return HalfReport(layers, ratio, exponents, better, mended) if better > ratio else unmended


def _generated() -> list[Tensor]:
    arrays = torch.from_numpy(generated_pictures(2, SIDE, SIDE)).permute(0, 3, 1, 2).float() / 255
    return [array[None] for array in arrays]


def _outputs(network: Module, pictures: Sequence[Tensor]) -> list[Tensor]:
    """All that a network computes of some pictures, whatever its family is."""
    found: list[Tensor] = []
    dtype = next(network.parameters()).dtype
    styles = [*pictures[1:], pictures[0]]
    for picture, style in zip(pictures, styles, strict=True):
        if isinstance(network, VGG):
            found += network(picture).values()
        elif isinstance(network, Johnson):
            found.append(network(picture.to(dtype)))
        else:
            found.append(network(picture.to(dtype), [style.to(dtype)]))
    return found


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at what convolutions and matrix products give, by the weights that they are given.

    Args:
        network: Whose weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, list[Tensor]] = {}
        self._names = {parameter.data_ptr(): layer_of(name) for name, parameter in network.named_parameters()}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        place = {torch.ops.aten.convolution.default: 1, torch.ops.aten.addmm.default: 2}.get(func)  # type: ignore[call-overload]
        if place is not None and (name := self._names.get(args[place].data_ptr())) is not None:
            self.found.setdefault(name, []).append(torch.stack([given.abs().amax(), given.square().mean().sqrt()]))
        return given


def _measured(network: Module, pictures: Sequence[Tensor]) -> tuple[tuple[LayerRange, ...], list[Tensor]]:
    """The magnitudes of all layers, and what the network computes, in float32."""
    with torch.no_grad():
        expected = _outputs(network, pictures)
        watched = copy.deepcopy(network).train()  # in which all layers are computed one by one, by their own weights
        if isinstance(watched, VGG):
            watched.eval()
        with _Watch(watched) as watch:
            _outputs(watched, pictures)
    weights = {layer_of(name): parameter for name, parameter in network.named_parameters() if parameter.ndim > 1}
    layers = []
    for name, weight in weights.items():
        if name not in watch.found:
            continue
        largest, typical = torch.stack(watch.found[name]).amax(0).tolist()
        least = min(typical, float(weight.square().mean().sqrt()))
        over, under = _bits(FLOAT16_MAX, largest), _bits(least, FLOAT16_LEAST)
        layers.append(LayerRange(name, largest, typical, over, under))
    return tuple(layers), expected


def _bits(larger: float, smaller: float) -> float:
    """How many times a magnitude is another's double."""
    if larger and smaller and math.isfinite(larger) and math.isfinite(smaller):
        return math.log2(larger / smaller)
    return math.inf if larger > smaller else -math.inf  # NaN counts as the end


def _ratio(network: Module, pictures: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The least signal-to-noise ratio of what a network computes in float16, in dB."""
    with torch.no_grad():
        found = _outputs(copy.deepcopy(network).half(), pictures)
    ratios = []
    for half, wide in zip(found, expected, strict=True):
        noise = float((half.double() - wide).square().sum())
        signal = float(wide.double().square().sum())
        ratios.append(10 * math.log10(signal / noise) if noise and math.isfinite(noise) and signal else _extreme(noise))
    return min(ratios)


def _extreme(noise: float) -> float:
    return math.inf if noise == 0 else -math.inf


@dataclass(frozen=True)
class _Scaling:
    """What may be multiplied by a number without a change of what a network computes.

    Args:
        layers: Whose activations are multiplied.
        multiplied: Tensors that are.
        divided: Tensors that are divided by it.
    """

    layers: tuple[str, ...]
    multiplied: tuple[str, ...]
    divided: tuple[str, ...] = ()


def _scalings(network: Module) -> Iterator[_Scaling]:
    """Those of a network."""
    if isinstance(network, Johnson):  # all of its convolutions are normalised
        for layer in network.network.layers:
            yield _Scaling((layer.name,), (f"{layer.name}.weight",))
    elif isinstance(network, AdaIN):  # one convolution after the other; what lies between is as large as they are
        names = [layer.name for layer in (*network.network.encoder, *network.network.decoder)]
        for name, following in pairwise(names):
            yield _Scaling((name,), (f"{name}.weight", f"{name}.bias"), (f"{following}.weight",))
    elif isinstance(network, Arbitrary):
        yield from _scalings_of_transfer(network)


def _scalings_of_transfer(network: Arbitrary) -> Iterator[_Scaling]:
    """Those of a transfer network: its predictor has ReLUs that end at 6."""
    for name, following in (("down1", "down2"), ("down2", "down3")):
        source, target = (f"transfer.{one}.convolution" for one in (name, following))
        yield _Scaling((source,), (f"{source}.weight", f"{source}.bias"), (f"{target}.weight",))
    for layer in network.network.transfer_layers:
        if not layer.steered:
            continue
        name = f"transfer.{layer.name}"
        if layer.separable:
            before, last = f"{name}.depthwise", f"{name}.pointwise"
            yield _Scaling((before,), (f"{before}.weight",), (f"{last}.weight",))
        else:
            last = f"{name}.convolution"
        yield _Scaling((last,), (f"{last}.weight",))


def _rescaled(network: Module, peaks: Mapping[str, float]) -> tuple[Module, dict[str, int]]:
    """The network with activations near the middle of the range, and the powers of two that brought them there."""
    mended = copy.deepcopy(network)
    exponents: dict[str, int] = {}
    parameters = dict(mended.named_parameters())
    with torch.no_grad():
        for scaling in _scalings(network):
            peak = max(peaks[name] for name in scaling.layers)
            if not peak or not math.isfinite(peak) or LOWEST_PEAK <= peak <= TARGET_PEAK:
                continue
            exponent = -round(math.log2(peak))
            for name in scaling.multiplied:
                parameters[name].mul_(2.0**exponent)
            for name in scaling.divided:
                parameters[name].mul_(2.0**-exponent)
            exponents |= dict.fromkeys(scaling.layers, exponent)
    return mended, exponents


def half_safe_file(path: Readable, images: PathLike | None = None) -> HalfReport:
    """As `half_safe`, of a packed file and a folder of pictures.

    Args:
        path: A packed file, or a word such as ``arbitrary``.
        images: A folder, of which at most `MOST` pictures are looked at; generated ones if not given.

    Raises:
        VggQuantError: The file or a picture is missing or not sound, or the network does not compute pictures.
    """
    file = resolve(path)
    network = load_quantized_vgg(file) if _is_vgg(file) else load_stylizer(file)
    if images is None:
        return half_safe(network)
    return half_safe(network, [read_picture(found, pixels=PIXELS).pixels for found in pictures_in(images)[:MOST]])


def _is_vgg(file: Readable) -> bool:
    with located(name_of(file)):
        return as_vgg(read_outline(file)) is not None
