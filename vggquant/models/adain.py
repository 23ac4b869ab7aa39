"""AdaIN as a torch module, which paints pictures in the style of others in one pass.

X. Huang, S. Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV 2017. Its
shape is left to `networks.adain`, its weights to `painters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate, max_pool2d, pad, relu

from vggquant.errors import OptionError, PictureError
from vggquant.models import phases
from vggquant.models.borders import reflected
from vggquant.models.mixing import shares_of
from vggquant.models.tiles import in_tiles
from vggquant.models.vgg import VGG
from vggquant.networks.adain import FIRST_OF_BLOCKS, AdaINNetwork, TransferLayer

EPSILON = 1e-5  # added to variances, so that a style of one colour has a deviation to divide by
SHRINKS = Fraction(8)  # sides of pictures over those of features
TILE = 768  # pixels of a side that are computed at once
REACH = 40  # pixels that the encoder's features see beyond their own, 37, and those that the decoder sees of, 30

_FAINT = 0.2  # contrast of what an untrained decoder paints
_LEAST = 1e-6  # root mean square of a layer that is divided by


class Statistics(NamedTuple):
    """Means and standard deviations of the channels of features, each (N, C, 1, 1): what AdaIN takes of a style."""

    mean: Tensor
    deviation: Tensor


class AdaIN(nn.Module):
    """Paints pictures in the styles of others.

    Args:
        network: Its shape.

    Example:
        >>> painter = AdaIN(AdaINNetwork((8,) * 9))
        >>> painter(torch.rand(1, 3, 48, 64), [torch.rand(1, 3, 50, 40)]).shape
        torch.Size([1, 3, 48, 64])
    """

    def __init__(self, network: AdaINNetwork) -> None:
        super().__init__()
        self.network = network
        self.encoder, self.decoder = _Layers(network.encoder), _Layers(network.decoder)

    def forward(
        self,
        images: Tensor,
        styles: Sequence[Tensor | Statistics],
        *,
        strength: float = 1.0,
        weights: Sequence[float] | None = None,
        masks: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Paint pictures.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].
            styles: One or more, each pictures (N or 1, 3, H', W') of any size, or what `statistics` gave for them.
            strength: How much of the style is taken, from 0, which is the picture again as well as the network can
                paint it, to 1.
            weights: How much each of the styles counts; all alike if not given. They are divided by their sum.
            masks: For each style ``None``, or (1, 1, H'', W'') in [0, 1]: where it is wanted, in shares of its weight.
                Where no style is wanted, the content's own statistics stay.

        Returns:
            Paintings of the same shape, in [0, 1] in eval mode and a little beyond in training.

        Raises:
            OptionError: `strength` or `weights` have no meaning.
            PictureError: Images or styles are of another shape.
        """
        _require_images("images", images)
        if isinstance(styles, Tensor | Statistics):
            raise OptionError("a list of styles, one or more", "one style", "pass [style]", tensor="styles")
        shares = shares_of(len(styles), strength, weights, masks)
        for style in styles:
            self._require_style(style, len(images))
        for mask in masks or ():
            if mask is not None and (mask.ndim != 4 or mask.shape[:2] != (1, 1)):
                got = tuple(mask.shape)
                raise PictureError("shape (1, 1, H, W)", got, "reorder it, or keep one channel", tensor="masks")
        content = self.encode(images)
        own = statistics_of(content)
        normal = (content - own.mean) / own.deviation
        painted = content
        for style, share, mask in zip(styles, shares, masks or [None] * len(styles), strict=True):
            found = style if isinstance(style, Statistics) else self.statistics(style)
            change = found.deviation * normal + found.mean - content
            if mask is not None:
                change = change * adaptive_avg_pool2d(mask, (content.shape[2], content.shape[3]))
            painted = painted + share * change
        paintings = self.decode(painted.to(images.dtype))[:, :, : images.shape[2], : images.shape[3]]
        return paintings if self.training else paintings.clamp(0, 1)  # while it learns, every error counts

    def statistics(self, styles: Tensor) -> Statistics:
        """What is taken of style pictures (N, 3, H, W), RGB in [0, 1], of any size.

        Raises:
            PictureError: They are of another shape.
        """
        _require_images("styles", styles)
        return statistics_of(self.encode(styles))

    def _require_style(self, style: Tensor | Statistics, count: int) -> None:
        """Refuse a style that cannot be taken by so many images."""
        shape = style.mean.shape if isinstance(style, Statistics) else style.shape
        channels = self.network.channels[-1] if isinstance(style, Statistics) else 3
        if len(shape) != 4 or shape[1] != channels or shape[0] not in (1, count):
            expected = f"shape (N, {channels}, H, W) with N of 1 or {count}"
            cure = "pass a picture, or statistics that this network gave"
            raise PictureError(expected, tuple(shape), cure, tensor="styles")

    def encode(self, images: Tensor) -> Tensor:
        """Features of pictures, with an eighth of their sides, rounded up."""
        return self._encoded(images) if self.training else in_tiles(self._encoded, images, TILE, REACH, 1 / SHRINKS)

    def decode(self, features: Tensor) -> Tensor:
        """Pictures of features, with eight times their sides."""
        if self.training:
            return self._decoded(features)
        side, margin = int(TILE / SHRINKS), int(REACH / SHRINKS)
        return in_tiles(self._decoded, features, side, margin, SHRINKS)

    def _encoded(self, images: Tensor) -> Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        for name, layer in self.encoder.named():
            if name in FIRST_OF_BLOCKS:
                x = max_pool2d(x, 2, ceil_mode=True)
            x = relu(layer(x), inplace=True)
        return x

    def _decoded(self, features: Tensor) -> Tensor:
        x = features
        doubled = False
        for name, layer in self.decoder.named():
            x = layer.doubled(x) if doubled else layer(x)
            x = x if name == "conv1_1" else relu(x, inplace=True)
            doubled = name in FIRST_OF_BLOCKS
        return x

    @torch.no_grad()
    def begin_with(self, vgg: VGG, pictures: Tensor) -> None:
        """Take the encoder's weights from a VGG, scaled so that each layer's activations have a mean square of 1.

        Args:
            vgg: VGG-19, down to conv4_1 at least.
            pictures: (N, 3, H, W), RGB in [0, 1], by which activations are measured.
        """
        x, before = pictures, torch.ones(())
        for name, layer in self.encoder.named():
            source = vgg.get_submodule(name)
            weight, bias = source.get_parameter("weight").float(), source.get_parameter("bias").float()
            if x is pictures:  # the preparation of pixels becomes part of the first convolution
                bias = bias - (weight * vgg.prepare.shift).sum((1, 2, 3))
                weight = weight * vgg.prepare.scale
                weight = weight.flip(1) if vgg.prepare.to_bgr else weight
            layer.weight.copy_(weight * before)
            layer.bias.copy_(bias)
            if name in FIRST_OF_BLOCKS:
                x = max_pool2d(x, 2, ceil_mode=True)
            x = relu(layer(x))
            before = x.square().mean().sqrt().clamp_min(_LEAST)
            layer.weight.div_(before)
            layer.bias.div_(before)
            x = x / before
        *_, (_, last) = self.decoder.named()  # which begins with little more than the pictures' mean colour
        last.weight.mul_(_FAINT)
        last.bias.copy_(pictures.mean((0, 2, 3)))

    def extra_repr(self) -> str:
        return f"channels={self.network.channels}"


def statistics_of(features: Tensor) -> Statistics:
    """Means and standard deviations of channels, of features (N, C, H, W); in float32 at least."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
    return Statistics(mean, (variance + EPSILON).sqrt())


class _Convolution(nn.Module):
    """A convolution of 3 × 3 with reflected borders.

    Args:
        layer: Its shape.
    """

    def __init__(self, layer: TransferLayer) -> None:
        super().__init__()
        weight, bias = (torch.empty(spec.shape) for spec in layer.tensors)
        self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, nonlinearity="relu"))
        self.bias = nn.Parameter(nn.init.zeros_(bias))

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(reflected(x), self.weight, self.bias)

    def doubled(self, x: Tensor) -> Tensor:
        """The same of images that are doubled before."""
        if self.training:
            found: Tensor = self(interpolate(x, scale_factor=2, mode="nearest"))
            return found
        x = pad(x, (1, 1, 1, 1), mode="replicate")
        return phases.doubled_convolution(x, self.weight) + self.bias[:, None, None]


class _Layers(nn.Module):
    """The convolutions of an encoder or decoder, by their VGG's names.

    Args:
        layers: Their shapes.
    """

    def __init__(self, layers: Iterable[TransferLayer]) -> None:
        super().__init__()
        for layer in layers:
            self.add_module(layer.name.rpartition(".")[2], _Convolution(layer))

    def named(self) -> Iterator[tuple[str, _Convolution]]:
        """All of them in order."""
        for name, module in self.named_children():
            assert isinstance(module, _Convolution)
            yield name, module


def _require_images(name: str, images: Tensor) -> None:
    if not images.is_floating_point():
        raise PictureError("floating point in [0, 1]", images.dtype, "convert and divide them by 255", tensor=name)
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        got = tuple(images.shape)
        raise PictureError("shape (N, 3, H, W)", got, "reorder the images, or convert them to RGB", tensor=name)
