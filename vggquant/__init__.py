"""On-disk weight quantization for VGG networks: small files that load at once, exactly as packed or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.comparison.study import compare
    from vggquant.errors import VggQuantError
    from vggquant.models.load import load_quantized_state_dict, load_quantized_vgg
    from vggquant.models.vgg import VGG
    from vggquant.packing.packer import pack
    from vggquant.packing.unpacker import unpack

__all__ = ["VGG", "VggQuantError", "compare", "load_quantized_state_dict", "load_quantized_vgg", "pack", "unpack"]
__version__ = "0.1.0"

# `import vggquant` must not wait two seconds for torch
__getattr__, __dir__ = offer(
    __name__,
    {
        "VGG": "models.vgg",
        "VggQuantError": "errors",
        "compare": "comparison.study",
        "load_quantized_state_dict": "models.load",
        "load_quantized_vgg": "models.load",
        "pack": "packing.packer",
        "unpack": "packing.unpacker",
    },
)
