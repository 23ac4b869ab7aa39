"""Turns RGB images in [0, 1] into the numbers that a network was trained on.

Which preprocessing a network's weights expect is recorded in their file; this module only carries it out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vggquant.networks.vgg import CAFFE_MEAN, TORCH_MEAN, TORCH_STD, Preprocessing


class Preparation(nn.Module):
    """Prepares images for the first layer of a network.

    Args:
        preprocessing: ``caffe`` (BGR, 0–255, minus `CAFFE_MEAN`) or ``torch`` (minus `TORCH_MEAN`, divided by
            `TORCH_STD`).
        device: Where the images will be.
        dtype: Type of the prepared images.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.to_bgr = preprocessing == "caffe"
        if preprocessing == "caffe":
            scale, shift = _channels((255.0,) * 3), _channels(CAFFE_MEAN)
        else:
            scale, shift = 1 / _channels(TORCH_STD), _channels(TORCH_MEAN) / _channels(TORCH_STD)
        # Buffers follow the network from device to device. They stay out of its state dict, which holds weights alone.
        self.register_buffer("scale", scale.to(device, dtype), persistent=False)
        self.register_buffer("shift", shift.to(device, dtype), persistent=False)
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


def _channels(values: tuple[float, ...]) -> Tensor:
    """One value per channel, (3, 1, 1), whatever torch's default device and type may be."""
    return torch.tensor(values, dtype=torch.float32, device="cpu").reshape(3, 1, 1)
