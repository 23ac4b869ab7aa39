"""`VGG`, a module of named activations with its preprocessing inside; knows of no files and no codes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vggquant.errors import OptionError, PictureError
from vggquant.models.gradients import GradientScale
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Preprocessing
from vggquant.pictures.generated import generated_pictures

Pooling = Literal["max", "avg"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, 0–255; Simonyan & Zisserman's model files
TORCH_MEAN, TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB, 0–1; torchvision


FLOAT16_MAX = torch.finfo(torch.float16).max
FLOAT16_PEAK = 256.0  # where peaks on generated pictures are put: a 256th of the range, for what others may excite
PEAK_SIDE = 64  # pixels; small, since this is done at every load in float16


class VGG(nn.Module):
    """A VGG without classifier that gives activations by name.

    Callers always pass RGB in [0, 1]; what the weights expect instead is done inside. Parameters
    need no gradient, but gradients reach the images.

    In float16, activations may pass the type's 65,504, and entries of their Gram matrices do. ReLU
    networks are positively homogeneous, so each convolution works on activations divided by a power of
    two, found on generated pictures, that keeps them far from it, and so do gradients on their way back.
    Features come back undivided, in float32. All this is settled here, by the type of `state`: choose
    the type when loading, since ``.half()`` on a model that is there comes without it.

    Args:
        state: Weights (OIHW) and biases by name, ``conv1_1.weight``, ``conv1_1.bias``, …, all of
            one dtype and device. They become the parameters, uncopied.
        architecture: ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``.
        preprocessing: ``caffe`` (BGR, 0–255, minus the mean) or ``torch`` (mean and deviation).
        upto: The deepest layer; all that `state` reaches if not given.
        pooling: ``max``, or ``avg`` as Gatys et al. (arXiv:1508.06576) prefer. Odd sizes are floored.

    Raises:
        OptionError: An argument is unknown, or `state` lacks a tensor.

    Example:
        >>> features = vgg(images, layers=("relu1_1", "relu4_2"))  # doctest: +SKIP
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        *,
        architecture: str = "vgg19",
        preprocessing: Preprocessing = "caffe",
        upto: str | None = None,
        pooling: Pooling = "max",
    ) -> None:
        super().__init__()
        for option, value, allowed in (
            ("architecture", architecture, tuple(ARCHITECTURES)),
            ("preprocessing", preprocessing, PREPROCESSINGS),
            ("pooling", pooling, POOLINGS),
        ):
            if value not in allowed:
                raise OptionError(f"one of {', '.join(allowed)}", value, "choose one of these", tensor=option)
        self.architecture = ARCHITECTURES[architecture]
        self.preprocessing = preprocessing
        self.pooling = pooling
        names = self.architecture.layers_upto(upto)
        convolutions = [convolution.name for convolution in self.architecture.convolutions]
        given = sum(f"{name}.weight" in state for name in convolutions)
        if upto is None and given < len(convolutions):
            names = names[: names.index(convolutions[max(given, 1)])]
        self.layers = names
        for convolution in self.architecture.convolutions:
            if convolution.name in names:
                self.add_module(convolution.name, _convolution(state, convolution.name, convolution.shape))
        some = next(iter(self.parameters()))
        # buffers, so that they follow .to(); not saved, since they are no weights
        scale, shift = _preparation(preprocessing)
        wide = torch.promote_types(some.dtype, torch.float32)  # half types would round the pixels
        self.register_buffer("_scale", scale.to(some.device, wide), persistent=False)
        self.register_buffer("_shift", shift.to(some.device, wide), persistent=False)
        self._scale: Tensor
        self._shift: Tensor
        self._devices: dict[str, torch.device] = {}
        self.peaks = _peaks(self) if some.dtype == torch.float16 else {}
        self._exponents = {name: math.ceil(math.log2(max(peak / FLOAT16_PEAK, 1))) for name, peak in self.peaks.items()}
        self.eval()

    def forward(self, images: Tensor, layers: Iterable[str] | str | None = None) -> dict[str, Tensor]:
        """Compute activations.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].
            layers: Names of layers, ``conv1_1`` … ``pool5``, or one name; every relu if not given.

        Returns:
            Activations (N, C, H', W') by name, in the order asked for. Nothing deeper than the
            deepest is computed.

        Raises:
            OptionError: A layer that this model does not have.
            PictureError: Not (N, 3, H, W), or too small for the pools before the deepest layer.
        """
        if layers is None:
            wanted = tuple(name for name in self.layers if name.startswith("relu"))
        else:
            wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        self._require_layers(wanted)
        if not isinstance(images, Tensor) or not images.is_floating_point():
            got = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise PictureError("images as a floating tensor in [0, 1]", got, "convert them, integers divided by 255")
        if images.ndim != 4 or images.shape[1] != 3:
            raise PictureError("images of shape (N, 3, H, W)", tuple(images.shape), "reorder or convert to RGB")
        depth = max((self.layers.index(name) for name in wanted), default=-1)
        run = self.layers[: depth + 1]
        self.architecture.require_size((images.shape[2], images.shape[3]), wanted)
        found: dict[str, Tensor] = {}
        scale = GradientScale() if self._exponents else None
        x = self.prepare(images)
        x = scale.enter(x) if scale else x
        for name in run:
            x = self.run_layer(name, x)
            feature = x
            if scale:
                x, feature = scale.tap(x, 2.0 ** self._exponent(name) if name in wanted else None)
            if name in wanted:
                found[name] = feature
        return {name: found[name] for name in wanted}

    def place(self, devices: Mapping[str, torch.device | str]) -> None:
        """Split the network over devices, for pictures whose activations fit on none alone.

        Activations come back on the device of their layer.

        Args:
            devices: By layer: where the network goes on from there to the next one named.

        Raises:
            OptionError: A layer that this model does not have.
        """
        self._require_layers(devices)
        device: torch.device | None = None
        for name in self.layers:
            device = torch.device(devices[name]) if name in devices else device
            if device is not None:
                self._devices[name] = device
                if name.startswith("conv"):
                    self.get_submodule(name).to(device)

    def prepare(self, images: Tensor) -> Tensor:
        """What the first convolution takes in, of images (N, 3, H, W), RGB in [0, 1]."""
        images = images.to(self._scale.dtype)
        if self.preprocessing == "caffe":
            images = images.flip(1)
        return images * self._scale - self._shift

    def _require_layers(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.layers:
                cure = "load a deeper model" if name in self.architecture.layers else "choose one of these"
                raise OptionError(f"layers of {self.layers[0]} … {self.layers[-1]}", name, cure, tensor="layers")

    def _exponent(self, name: str) -> int:
        """Power of two that activations at a layer are divided by: that of the convolution at or before it."""
        convolutions = [n for n in self.layers[: self.layers.index(name) + 1] if n in self._exponents]
        return self._exponents[convolutions[-1]]

    def run_layer(self, name: str, x: Tensor) -> Tensor:
        """One layer alone."""
        if name in self._devices:
            x = x.to(self._devices[name])
        if name.startswith("conv"):
            module = self.get_submodule(name)
            assert isinstance(module, nn.Conv2d)
            bias = module.bias
            assert bias is not None
            if self._exponents:
                exponent = self._exponents[name]
                before = self.layers[max(self.layers.index(name) - 1, 0)]
                x, bias = x * 2.0 ** (self._exponent(before) * (before != name) - exponent), bias * 2.0**-exponent
            if name == self.layers[0]:
                return _convolve_pixels(x, module.weight, bias)
            return nn.functional.conv2d(x, module.weight, bias, padding=1)
        if name.startswith("relu"):
            return nn.functional.relu(x)
        pool = nn.functional.max_pool2d if self.pooling == "max" else nn.functional.avg_pool2d
        return pool(x, 2)


def _peaks(vgg: VGG) -> dict[str, float]:
    """Largest magnitude that each convolution gives on generated pictures, computed in float32."""
    pictures = torch.from_numpy(generated_pictures(2, PEAK_SIDE, PEAK_SIDE)).permute(0, 3, 1, 2)
    peaks = {}
    with torch.no_grad():
        parameters = dict(vgg.named_parameters())
        device = next(iter(parameters.values())).device
        x = vgg.prepare(pictures.to(device).float() / 255)
        for name in vgg.layers:
            if name.startswith("conv"):
                weight, bias = parameters[f"{name}.weight"].float(), parameters[f"{name}.bias"].float()
                x = nn.functional.conv2d(x, weight, bias, padding=1)
                peaks[name] = float(x.abs().max())
            else:
                x = vgg.run_layer(name, x)
    return peaks


def _preparation(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Factor and subtrahend of each channel, (3, 1, 1)."""

    def tensor(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device="cpu")  # whatever the defaults are

    if preprocessing == "caffe":
        scale, shift = tensor((255.0,) * 3), tensor(CAFFE_MEAN)
    else:
        scale, shift = 1 / tensor(TORCH_STD), tensor(TORCH_MEAN) / tensor(TORCH_STD)
    return scale.reshape(3, 1, 1), shift.reshape(3, 1, 1)


def _convolve_pixels(pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The first convolution, in float32 at least: bfloat16 would round pixels to whole numbers."""
    kind = pixels.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        wide = nn.functional.conv2d(pixels, weight.to(pixels.dtype), bias.to(pixels.dtype), padding=1)
    return wide.to(dtype)


class _Convolution(nn.Conv2d):
    """A convolution whose parameters are given: on the meta device nothing is allocated."""

    def reset_parameters(self) -> None:
        """Leave out the random initialisation, which nobody would see."""


def _convolution(state: Mapping[str, Tensor], name: str, shape: tuple[int, int, int, int]) -> nn.Conv2d:
    module = _Convolution(shape[1], shape[0], 3, padding=1, device="meta")
    for part, expected in (("weight", shape), ("bias", shape[:1])):
        tensor = state.get(f"{name}.{part}")
        if tensor is None or tuple(tensor.shape) != expected:
            got = "none" if tensor is None else tuple(tensor.shape)
            raise OptionError(f"a tensor of shape {expected}", got, "pass a complete state", tensor=f"{name}.{part}")
        setattr(module, part, nn.Parameter(tensor, requires_grad=False))
    return module
