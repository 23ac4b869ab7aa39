"""A network of Johnson et al. as a torch module, which paints pictures in one pass.

Its shape is left to `networks.johnson`, its weights to `painters`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, instance_norm, interpolate, pad, relu

from vggquant.errors import PictureError
from vggquant.models import phases
from vggquant.networks.johnson import JohnsonNetwork, PainterLayer

REACH = 150 / 127.5  # of the colours, so that black and white are reached where tanh still has a slope
SMALLEST = 8  # pixels of a side, which reflection at its border needs


class Johnson(nn.Module):
    """Paints pictures in the one style that its weights know.

    Args:
        network: Its shape.

    Example:
        >>> painter = Johnson(JohnsonNetwork.stock("tiny", 0.3))
        >>> painter(torch.rand(1, 3, 48, 64)).shape
        torch.Size([1, 3, 48, 64])
    """

    def __init__(self, network: JohnsonNetwork) -> None:
        super().__init__()
        self.network = network
        for layer in network.layers:
            doubles = layer.name in ("up1", "up2")
            self.add_module(layer.name, _DoublingConvolution(layer) if doubles else _Convolution(layer))

    def forward(self, images: Tensor) -> Tensor:
        """Paint pictures.

        Args:
            images: (N, 3, H, W), RGB in [0, 1].

        Returns:
            Paintings of the same shape, in [0, 1] in eval mode and a little beyond in training.

        Raises:
            PictureError: Images are of another shape, or too small.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < SMALLEST:
            expected = f"shape (N, 3, H, W) with sides of at least {SMALLEST}"
            raise PictureError(expected, tuple(images.shape), "reorder or enlarge the images", tensor="images")
        x = 2 * images - 1
        for name in ("down1", "down2", "down3"):
            x = relu(self._layer(name, x))
        for block in range(1, self.network.blocks + 1):
            x = x + self._layer(f"block{block}_2", relu(self._layer(f"block{block}_1", x)))
        for name in ("up1", "up2"):
            x = relu(self._layer(name, x))
        x = x[:, :, : images.shape[2], : images.shape[3]]  # halved and doubled, a side may have grown
        painted: Tensor = (REACH * torch.tanh(self._layer("out", x)) + 1) / 2
        return painted if self.training else painted.clamp(0, 1)  # while it learns, every error counts

    def begin_with(self, picture: Tensor) -> None:
        """Paint in the colours of a picture (1, 3, H, W) before anything is trained, as far as each goes alone."""
        colors = ((2 * picture[0].flatten(1) - 1) / REACH).atanh()
        with torch.no_grad():
            self.get_parameter("out.gain").copy_(colors.std(1))
            self.get_parameter("out.shift").copy_(colors.mean(1))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(name)(x)
        return found

    def extra_repr(self) -> str:
        return f"filters={self.network.filters}, blocks={self.network.blocks}"


class _Convolution(nn.Module):
    """A convolution with reflected borders and without bias, and an affine instance normalisation.

    Args:
        layer: Its shape.
    """

    def __init__(self, layer: PainterLayer) -> None:
        super().__init__()
        self.layer = layer
        weight, gain, shift = (torch.empty(spec.shape) for spec in layer.tensors)
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        self.weight, self.gain, self.shift = (
            nn.Parameter(weight),
            nn.Parameter(nn.init.ones_(gain)),
            nn.Parameter(nn.init.zeros_(shift)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolved(x)
        if phases.serves(x):
            return phases.instance_norm(x, self.gain, self.shift)
        return instance_norm(x, weight=self.gain, bias=self.shift)

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution alone."""
        border = self.layer.kernel // 2
        x = pad(x, (border, border, border, border), mode="reflect")
        if self.layer.kernel > 3 and phases.serves(x):
            return phases.convolution(x, self.weight)
        return conv2d(x, self.weight, stride=self.layer.stride)


class _DoublingConvolution(_Convolution):
    """The same of images that are doubled before."""

    def convolved(self, x: Tensor) -> Tensor:
        if phases.serves(x):
            return phases.doubled_convolution(pad(x, (1, 1, 1, 1), mode="replicate"), self.weight)
        return super().convolved(interpolate(x, scale_factor=2, mode="nearest"))
