"""`VGG`: a torch module that returns activations by layer name, with its preprocessing inside.

Weights come as tensors; reading them from a file is left to `load`. The names and shapes of the layers are defined in
`networks.vgg`, what is done for float16 in `half` and `gradients`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vggquant.errors import OptionError, PictureError, require_one_of
from vggquant.models.gradients import GradientScale
from vggquant.models.half import find_exponents, find_peaks
from vggquant.models.preprocessing import Preparation
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Architecture, Preprocessing

Pooling = Literal["max", "avg"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class VGG(nn.Module):
    """A VGG without its classifier that returns activations by layer name.

    Callers always pass RGB images in [0, 1]; the model itself turns them into what its weights expect. Its
    parameters need no gradient, but gradients reach the images.

    In float16, activations can exceed the largest number that the type holds, 65,504, and the entries of their Gram
    matrices do. Each convolution therefore works on activations divided by a power of two, chosen on generated
    pictures to keep them far below that limit; gradients are scaled in the same way on their way back. The features
    that you get are in float32 and no longer divided. All of this is set up here, for a `state` of float16. So choose
    the type when you load the model, because ``.half()`` on an existing model sets up none of it.

    Args:
        state: Weights (OIHW) and biases by name, ``conv1_1.weight``, ``conv1_1.bias``, …, all of
            one dtype and device. They become the parameters without being copied.
        architecture: ``vgg11``, ``vgg13``, ``vgg16`` or ``vgg19``.
        preprocessing: ``caffe`` (BGR, 0–255, minus the mean) or ``torch`` (RGB, 0–1, minus the mean, divided by the
            standard deviation).
        upto: The deepest layer; by default, the deepest that `state` has weights for.
        pooling: ``max``, or ``avg``, which Gatys et al. (arXiv:1508.06576) prefer. Odd sizes are floored.

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
        require_one_of("architecture", architecture, ARCHITECTURES)
        require_one_of("preprocessing", preprocessing, PREPROCESSINGS)
        require_one_of("pooling", pooling, POOLINGS)
        self.architecture = ARCHITECTURES[architecture]
        self.preprocessing = preprocessing
        self.pooling = pooling
        self.layers = _layers_to_build(self.architecture, state, upto)
        for convolution in self.architecture.convolutions:
            if convolution.name in self.layers:
                self.add_module(convolution.name, _convolution(state, convolution.name, convolution.shape))
        weight = next(self.parameters())
        wide = torch.promote_types(weight.dtype, torch.float32)  # the half types would round the pixels
        self.prepare = Preparation(preprocessing, weight.device, wide)
        self._devices: dict[str, torch.device] = {}
        self.peaks = find_peaks(self) if weight.dtype == torch.float16 else {}
        # by layer, the power of two that its activations are divided by; none unless the weights are float16
        self._exponents = find_exponents(self.layers, self.peaks) if self.peaks else {}
        self.eval()

    def forward(self, images: Tensor, layers: Iterable[str] | str | None = None) -> dict[str, Tensor]:
        """Compute the activations of some layers, and nothing deeper than the deepest of them.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].
            layers: Names of layers, ``conv1_1`` … ``pool5``, or a single name; by default, every relu.

        Returns:
            Activations (N, C, H', W') by name, in the order of `layers`.

        Raises:
            OptionError: This model has no layer of that name.
            PictureError: `images` are not (N, 3, H, W), or too small for the pools before the deepest layer.
        """
        if layers is None:
            wanted = tuple(name for name in self.layers if name.startswith("relu"))
        else:
            wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        self._require_layers(wanted)
        depth = max((self.layers.index(name) for name in wanted), default=-1)
        run = self.layers[: depth + 1]
        _require_images(images)
        self.architecture.require_size((images.shape[2], images.shape[3]), wanted)
        scale = GradientScale() if self._exponents else None
        x = self.prepare(images)
        x = scale.enter(x) if scale else x
        found: dict[str, Tensor] = {}
        for name in run:
            x = feature = self.run_layer(name, x)
            if scale:
                x, feature = scale.tap(x, 2.0 ** self._exponents[name] if name in wanted else None)
            if name in wanted:
                found[name] = feature
        return {name: found[name] for name in wanted}

    def run_layer(self, name: str, x: Tensor) -> Tensor:
        """Run one layer alone.

        Args:
            name: Which layer.
            x: The activations of the layer before it; prepared images for the first. In float16 both these and the
                result are divided by the layer's power of two.
        """
        if name in self._devices:
            x = x.to(self._devices[name])
        if name.startswith("conv"):
            return self._convolve(name, x)
        if name.startswith("relu"):
            return nn.functional.relu(x)
        pool = nn.functional.max_pool2d if self.pooling == "max" else nn.functional.avg_pool2d
        return pool(x, 2)

    def place(self, devices: Mapping[str, torch.device | str]) -> None:
        """Split the network over several devices, for images whose activations fit on none alone.

        Activations are returned on the device of their layer.

        Args:
            devices: The layers at which the network moves to another device, and that device. It stays there up to
                the next layer named.

        Raises:
            OptionError: This model has no layer of that name.
        """
        self._require_layers(devices)
        device: torch.device | None = None
        for name in self.layers:
            device = torch.device(devices[name]) if name in devices else device
            if device is not None:
                self._devices[name] = device
                if name.startswith("conv"):
                    self.get_submodule(name).to(device)

    def _require_layers(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.layers:
                cure = "load a deeper model" if name in self.architecture.layers else "choose one of these"
                raise OptionError(f"layers of {self.layers[0]} … {self.layers[-1]}", name, cure, tensor="layers")

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        module = self.get_submodule(name)
        assert isinstance(module, nn.Conv2d)
        bias = module.bias
        assert bias is not None
        first = name == self.layers[0]
        if self._exponents:
            exponent = self._exponents[name]
            before = 0 if first else self._exponents[self.layers[self.layers.index(name) - 1]]
            x, bias = x * 2.0 ** (before - exponent), bias * 2.0**-exponent
        if first:
            return _convolve_pixels(x, module.weight, bias)
        return nn.functional.conv2d(x, module.weight, bias, padding=1)


def _layers_to_build(architecture: Architecture, state: Mapping[str, Tensor], upto: str | None) -> tuple[str, ...]:
    """The layers up to `upto`; without it, as many convolutions as `state` has weights for, and what follows them."""
    layers = architecture.layers_upto(upto)
    if upto is not None:
        return layers
    convolutions = [convolution.name for convolution in architecture.convolutions]
    given = sum(f"{name}.weight" in state for name in convolutions)
    if given == len(convolutions):
        return layers
    # the first convolution is always built, so that a state without any weights is refused as incomplete
    return layers[: layers.index(convolutions[max(given, 1)])]


def _require_images(images: Tensor) -> None:
    """Refuse what is not a batch of RGB images."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise PictureError("images as a floating tensor in [0, 1]", got, "convert them, integers divided by 255")
    if images.ndim != 4 or images.shape[1] != 3:
        raise PictureError("images of shape (N, 3, H, W)", tuple(images.shape), "reorder or convert to RGB")


def _convolve_pixels(pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The first convolution, in float32 at least: bfloat16 would round pixels to whole numbers."""
    kind = pixels.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        wide = nn.functional.conv2d(pixels, weight.to(pixels.dtype), bias.to(pixels.dtype), padding=1)
    return wide.to(dtype)


class _Convolution(nn.Conv2d):
    """A convolution that is built on the meta device, where nothing is allocated, and then given its parameters."""

    def reset_parameters(self) -> None:
        """Skip the random initialisation, which would be overwritten at once."""


def _convolution(state: Mapping[str, Tensor], name: str, shape: tuple[int, int, int, int]) -> nn.Conv2d:
    module = _Convolution(shape[1], shape[0], 3, padding=1, device="meta")
    for part, expected in (("weight", shape), ("bias", shape[:1])):
        tensor = state.get(f"{name}.{part}")
        if tensor is None or tuple(tensor.shape) != expected:
            got = "none" if tensor is None else tuple(tensor.shape)
            raise OptionError(f"a tensor of shape {expected}", got, "pass a complete state", tensor=f"{name}.{part}")
        setattr(module, part, nn.Parameter(tensor, requires_grad=False))
    return module
