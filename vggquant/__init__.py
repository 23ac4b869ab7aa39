"""On-disk weight quantization for VGG networks: small files that load at once, exactly as packed or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.comparison.study import compare
    from vggquant.errors import VggQuantError
    from vggquant.models.frozen import Frozen
    from vggquant.models.load import load_quantized_state_dict, load_quantized_vgg
    from vggquant.models.painters import load_stylizer
    from vggquant.models.vgg import VGG
    from vggquant.packing.inspection import info, verify
    from vggquant.packing.packer import pack
    from vggquant.packing.unpacker import unpack
    from vggquant.style.options import StyleOptions
    from vggquant.style.transfer import stylize

__all__ = [
    "VGG",
    "Frozen",
    "StyleOptions",
    "VggQuantError",
    "compare",
    "info",
    "load_quantized_state_dict",
    "load_quantized_vgg",
    "load_stylizer",
    "pack",
    "stylize",
    "unpack",
    "verify",
]
__version__ = "0.1.0"

# `import vggquant` must not wait two seconds for torch
__getattr__, __dir__ = offer(
    __name__,
    {
        "Frozen": "models.frozen",
        "StyleOptions": "style.options",
        "VGG": "models.vgg",
        "VggQuantError": "errors",
        "compare": "comparison.study",
        "info": "packing.inspection",
        "load_quantized_state_dict": "models.load",
        "load_quantized_vgg": "models.load",
        "load_stylizer": "models.painters",
        "pack": "packing.packer",
        "stylize": "style.transfer",
        "unpack": "packing.unpacker",
        "verify": "packing.inspection",
    },
)
