"""On-disk weight quantization for VGG networks: small files, loaded at once, exact and safe."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggquant.comparison import compare
    from vggquant.errors import VggQuantError
    from vggquant.load import load_quantized_state_dict, load_quantized_vgg
    from vggquant.model import VGG
    from vggquant.packing import pack, unpack

__all__ = ["VGG", "VggQuantError", "compare", "load_quantized_state_dict", "load_quantized_vgg", "pack", "unpack"]
__version__ = "0.1.0"

# imported on first use (PEP 562): `import vggquant` must not cost two seconds of torch
_HOMES = {
    "VGG": "model",
    "VggQuantError": "errors",
    "compare": "comparison",
    "load_quantized_state_dict": "load",
    "load_quantized_vgg": "load",
    "pack": "packing",
    "unpack": "packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
