"""The first three convolutions of VGG-19, in a file that comes with the package."""

from __future__ import annotations

from importlib.resources import files

import vggquant


def load_vgg(device: str = "cpu") -> vggquant.VGG:
    """Load VGG-19 as far as relu2_1. Images are (N, 3, H, W), RGB in [0, 1]; what comes back is a dict by layer."""
    return vggquant.load_quantized_vgg(files(__name__) / "vgg19-relu2_1.safetensors", device=device)
