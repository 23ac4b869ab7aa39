"""x."""

from __future__ import annotations

import importlib.resources


def source(name: str) -> str:
    """A part of the page as it lies beside this file."""
    return (importlib.resources.files("vggquant.page") / name).read_text("utf-8")
