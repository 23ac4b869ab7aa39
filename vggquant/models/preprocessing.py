"""Turns RGB images in [0, 1] into the numbers that a network was trained on, and notices images of other ranges.

Which preprocessing a network's weights expect is recorded in their file; this module only carries it out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vggquant.errors import PictureError
from vggquant.networks.vgg import CAFFE_MEAN, TORCH_MEAN, TORCH_STD, Preprocessing

FARTHEST = 8.0  # brightest colour that is believed: those matched to others leave [0, 1], those of 0–255 go far beyond
DARKEST, DARK, SHARE = -0.75, -0.25, 0.1  # by which [−1, 1] is known: pictures have black, and many dark pixels


def require_range(images: Tensor) -> None:
    """Refuse images that were made for another range than [0, 1], as far as their values tell.

    Colours matched to others' leave [0, 1] a little, and paintings that went astray leave it far, both ways. So images
    are taken to be of 0–255 if none of their values lies below 0 and one far above 1. They are taken to be of [−1, 1]
    if they keep to it, one of their values lies near −1, and a tenth of them below −0.25. Nothing is refused while a
    compiler, an exporter or ``torch.func.vmap`` is looking, which have no values.

    Raises:
        PictureError: They seem to be of 0–255 or [−1, 1].
    """
    if torch.compiler.is_compiling() or not images.numel():
        return
    try:
        least, most = (float(bound) for bound in images.aminmax())
    except RuntimeError:  # torch.func.vmap is looking; torch has no public way to ask before
        return
    got = f"{least:.4g} to {most:.4g}"
    if least >= 0 and most > FARTHEST:
        raise PictureError("images in [0, 1]", got, "divide them by 255")
    if -1.001 <= least < DARKEST and most <= 1.001 and float((images < DARK).float().mean()) > SHARE:
        raise PictureError("images in [0, 1]", got, "add 1 and divide by 2, if they are in [−1, 1]")


class Preparation(nn.Module):
    """Prepares images for the first layer of a network.

    Args:
        preprocessing: ``caffe`` (BGR, 0–255, minus `CAFFE_MEAN`) or ``torch`` (minus `TORCH_MEAN`, divided by
            `TORCH_STD`).
        device: Where the images will be.
        dtype: Type of the weights. Prepared images are float32 at least, because the half types would round pixels.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.to_bgr = preprocessing == "caffe"
        scale, shift = self._constants(device, dtype)
        # Buffers follow the network from device to device. They stay out of its state dict, which holds weights alone.
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def extra_repr(self) -> str:
        return self.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Prepare images (N, 3, H, W), RGB in [0, 1]."""
        images = images.to(self.scale.dtype)
        if self.to_bgr:
            images = images.flip(1)
        return images * self.scale - self.shift

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Preparation:
        # torch's one way to move and convert a module
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.scale.dtype.itemsize == 2:  # which rounds the constants too
            self.scale, self.shift = self._constants(self.scale.device, self.scale.dtype)
        return self

    def _constants(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The factor of each channel and what is subtracted after it, in float32 at least."""
        if self.preprocessing == "caffe":
            scale, shift = _channels((255.0,) * 3), _channels(CAFFE_MEAN)
        else:
            scale, shift = 1 / _channels(TORCH_STD), _channels(TORCH_MEAN) / _channels(TORCH_STD)
        wide = torch.promote_types(dtype, torch.float32)
        return scale.to(device, wide), shift.to(device, wide)


def _channels(values: tuple[float, ...]) -> Tensor:
    """One value per channel, (3, 1, 1), whatever torch's default device and type may be."""
    return torch.tensor(values, dtype=torch.float32, device="cpu").reshape(3, 1, 1)
