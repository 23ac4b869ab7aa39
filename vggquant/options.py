"""The old home of `StyleOptions`, so that programs written for it keep working; it lives in `vggquant.style`."""

from vggquant.style.options import StyleOptions

__all__ = ["StyleOptions"]
