"""`VGG`: a torch module that returns activations by layer name, with its preprocessing inside.

Weights come as tensors; reading them from a file is left to `load`. The names and shapes of the layers are defined in
`networks.vgg`, what is done for float16 in `half` and `gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Literal, get_args

import torch
import torch.fx
from torch import Tensor, nn
from torch.func import functional_call

from vggquant.errors import OptionError, PictureError, require_one_of, suggestion
from vggquant.models.gradients import GradientScale
from vggquant.models.half import find_exponents, find_peaks
from vggquant.models.preprocessing import Preparation, require_range
from vggquant.networks.vgg import ARCHITECTURES, PREPROCESSINGS, Architecture, Preprocessing, side_needed

Pooling = Literal["max", "avg"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


class VGG(nn.Module):
    """A VGG without its classifier that returns activations by layer name.

    Callers always pass RGB images in [0, 1]; the model itself turns them into what its weights expect. Its
    parameters need no gradient, but gradients reach the images.

    Every layer is a submodule of its own name and is called, so hooks see it and replacing it works. The model can be
    compiled with ``fullgraph=True``, exported, and traced by torch.fx. (torchvision's `create_feature_extractor` cuts
    numbers off the ends of names and counts anew: its ``relu1`` is our relu1_1, and its ``relu1_1`` is our relu1_2. Ask
    for `layers` instead.)

    In float16, activations can exceed the largest number that the type holds, 65,504, and the entries of their Gram
    matrices do. Each convolution therefore works on activations divided by a power of two, chosen on generated
    pictures to keep them far below that limit; gradients are scaled in the same way on their way back. The features
    that you get are in float32 and no longer divided. Second derivatives and the transforms of torch.func are
    refused in float16. All of this is set up here, for a `state` of float16, and by ``.half()`` too.

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
        first = state.get(f"{self.layers[0]}.weight", torch.empty(0))
        self.prepare = Preparation(preprocessing, first.device, first.dtype)
        shapes = {convolution.name: convolution.shape for convolution in self.architecture.convolutions}
        for name in self.layers:
            self.add_module(name, _convolution(state, name, shapes[name]) if name in shapes else _step(name, pooling))
        self._depths = {name: depth for depth, name in enumerate(self.layers)}
        # the least pixels a side that leave something after the pools up to each layer
        self._sides = [2**pools for pools in accumulate(name.startswith("pool") for name in self.layers)]
        self._devices: dict[str, torch.device] = {}
        # by layer, the power of two that its activations are divided by; none unless the weights are float16
        self._exponents: dict[str, int] = {}
        self.peaks: dict[str, float] = {}
        self._fit_type()
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
            PictureError: `images` are not (N, 3, H, W), too small for the pools before the deepest layer, or of another
                range (see `require_range`). The last is noticed on the CPU alone, and not of images that require a
                gradient.
        """
        if isinstance(layers, torch.fx.Proxy):  # a tracer, which looks for any layer
            wanted = self.layers
        elif layers is None:
            wanted = tuple(name for name in self.layers if name.startswith("relu"))
        else:
            wanted = (layers,) if isinstance(layers, str) else tuple(layers)
        self.require_layers(wanted)
        depth = -1
        for name in wanted:
            depth = max(depth, self._depths[name])
        _require_images(images, *((self._sides[depth], self.layers[depth]) if wanted else (1, None)))
        x = self.prepare(images)
        scale = None
        if self._exponents:
            scale = GradientScale()
            x = scale.enter(x)
        found: dict[str, Tensor] = {}
        for name in self.layers[: depth + 1]:
            x = feature = self.run_layer(name, x)
            if scale is not None:
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
        module = self.get_submodule(name)
        if not self._exponents or not name.startswith("conv"):
            activation: Tensor = module(x)
            return activation
        # the module works on divided activations, so its bias is divided too
        depth = self._depths[name]
        before = self._exponents[self.layers[depth - 1]] if depth else 0
        divisor = 2.0 ** self._exponents[name]
        biases = {part: bias / divisor for part, bias in module.named_parameters() if part.endswith("bias")}
        divided: Tensor = functional_call(module, biases, x * (2.0**before / divisor))
        return divided

    def extra_repr(self) -> str:
        return f"{self.architecture.name}, preprocessing={self.preprocessing}, pooling={self.pooling}"

    def place(self, devices: Mapping[str, torch.device | str]) -> None:
        """Split the network over several devices, for images whose activations fit on none alone.

        Activations are returned on the device of their layer.

        Args:
            devices: The layers at which the network moves to another device, and that device. It stays there up to
                the next layer named.

        Raises:
            OptionError: This model has no layer of that name.
        """
        self.require_layers(devices)
        device: torch.device | None = None
        for name in self.layers:
            device = torch.device(devices[name]) if name in devices else device
            if device is not None:
                self._devices[name] = device
                if name.startswith("conv"):
                    self.get_submodule(name).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> VGG:
        # torch's one way to move and convert a module, by its parent too
        with torch.inference_mode(False):  # tensors made in that mode would be of no use for gradients later
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            self._fit_type()
        return self

    def _fit_type(self) -> None:
        """Set up what float16 needs, or give it up."""
        first = next(self.parameters(), torch.empty(0))
        if first.dtype != torch.float16:
            self.peaks, self._exponents = {}, {}
        elif not self.peaks and not first.is_meta:
            self.peaks = find_peaks(self)
            self._exponents = find_exponents(self.layers, self.peaks)

    def require_layers(self, names: Iterable[str], option: str = "layers") -> None:
        """Refuse layers that this model does not have.

        Args:
            names: Which layers are wanted.
            option: What the caller knows them as.

        Raises:
            OptionError: This model has no layer of that name.
        """
        for name in names:
            if name not in self.layers:
                known = name in self.architecture.layers
                cure = "load a deeper model" if known else suggestion(name, self.layers)
                raise OptionError(f"layers of {self.layers[0]} … {self.layers[-1]}", name, cure, tensor=option)


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


def _require_images(images: Tensor, smallest: int, deepest: str | None) -> None:
    """Refuse what is not a batch of RGB images in [0, 1], or too small for the pools before the deepest layer."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise PictureError("images as a floating tensor in [0, 1]", got, "convert them, integers divided by 255")
    if images.ndim != 4 or images.shape[1] != 3:
        raise PictureError("images of shape (N, 3, H, W)", tuple(images.shape), "reorder or convert to RGB")
    if images.shape[2] < smallest or images.shape[3] < smallest:
        size = f"{images.shape[3]} × {images.shape[2]}"
        raise PictureError(side_needed(smallest, deepest), size, "enlarge the image")
    # looking at values would make a GPU wait, and a picture that is being optimised may go astray
    if images.device.type == "cpu" and not images.requires_grad:
        require_range(images)


def _step(name: str, pooling: Pooling) -> nn.Module:
    """A layer without weights."""
    if name.startswith("relu"):
        return nn.ReLU()
    return nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)


class _Uninitialised(nn.Conv2d):
    """A convolution that skips the random initialisation, which would be overwritten at once."""

    def reset_parameters(self) -> None:
        pass


class PixelConvolution(nn.Conv2d):
    """The first convolution, computed in float32 at least: bfloat16 would round pixels to whole numbers."""

    def forward(self, pixels: Tensor) -> Tensor:
        return _convolve_pixels(pixels, self.weight, self.bias)


def _convolve_pixels(pixels: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    kind = pixels.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    with torch.autocast(kind, enabled=False):
        bias = None if bias is None else bias.to(pixels.dtype)
        wide = nn.functional.conv2d(pixels, weight.to(pixels.dtype), bias, padding=1)
    return wide.to(dtype)


# steps that look at types and sizes, which torch.fx takes into its graphs as they are
torch.fx.wrap("_require_images")
torch.fx.wrap("_convolve_pixels")


def _convolution(state: Mapping[str, Tensor], name: str, shape: tuple[int, int, int, int]) -> nn.Conv2d:
    module: nn.Conv2d = _Uninitialised(shape[1], shape[0], 3, padding=1, device="meta")  # where nothing is allocated
    # from here on a convolution like any other, which tools that look through modules know
    module.__class__ = PixelConvolution if shape[1] == 3 else nn.Conv2d
    for part, expected in (("weight", shape), ("bias", shape[:1])):
        tensor = state.get(f"{name}.{part}")
        if tensor is None or tuple(tensor.shape) != expected:
            got = "none" if tensor is None else tuple(tensor.shape)
            raise OptionError(f"a tensor of shape {expected}", got, "pass a complete state", tensor=f"{name}.{part}")
        setattr(module, part, nn.Parameter(tensor, requires_grad=False))
    return module
