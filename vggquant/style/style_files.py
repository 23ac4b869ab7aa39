"""Styles to files and back: the numbers that a network predicted of a picture, as JSON.

What the numbers mean is known to the network that predicted them, and to no other; a file names it by its checksum.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor

from vggquant.errors import OptionError, SourceError, located
from vggquant.files.disk import PathLike, read_file, write_file
from vggquant.files.safetensors import parse_json
from vggquant.networks.arbitrary import CODE

ENDING = ".json"  # by which a style is told from a picture
VERSION = 1
MOST_BYTES = 16_384  # of a style's file
LARGEST = 1e4  # magnitude of a number, far beyond what predictors give
_CURE = "save the style anew"
_KEYS = {"version", "network", "numbers"}


def is_style(path: PathLike) -> bool:
    """Whether a path names a style's file, and no picture."""
    return Path(os.fsdecode(path)).suffix.lower() == ENDING


def write_style(path: PathLike, code: Tensor, network: str, *, force: bool = False) -> None:
    """Write a style's numbers.

    Args:
        path: The file.
        code: (1, 100).
        network: SHA-256 of the file of the network that predicted them.
        force: Whether an existing file may be replaced.

    Raises:
        VggQuantError: The path does not end in .json, or the file cannot be written.
    """
    if not is_style(path):
        raise OptionError(
            f"a name that ends in {ENDING}", Path(os.fsdecode(path)).name, "rename it", tensor="save_style"
        )
    content = {"network": network, "numbers": code[0].tolist(), "version": VERSION}
    write_file(path, [json.dumps(content, indent=1).encode() + b"\n"], force=force)


def read_style(path: PathLike, network: str) -> Tensor:
    """Read a style's numbers.

    Args:
        path: A file that `write_style` wrote.
        network: SHA-256 of the file of the network that is to paint.

    Returns:
        (1, 100).

    Raises:
        VggQuantError: The file is missing, not sound, of another version, or of another network.
    """
    with located(path):
        content = parse_json(bytes(read_file(path, most=MOST_BYTES)), "style")
        version = content.get("version")
        if type(version) is not int or version != VERSION:
            raise SourceError(f"a style of version {VERSION}", version, "upgrade vggquant", tensor="version")
        if set(content) != _KEYS:
            raise SourceError(", ".join(sorted(_KEYS)), ", ".join(content), _CURE, tensor="style")
        if content["network"] != network:
            cure = "paint with that network, or save the style anew with this one"
            raise SourceError(f"numbers of the network {network[:16]}…", content["network"], cure, tensor="network")
        numbers = content["numbers"]
        if type(numbers) is not list or len(numbers) != CODE:
            got = len(numbers) if type(numbers) is list else type(numbers).__name__
            raise SourceError(f"{CODE} numbers", got, _CURE, tensor="numbers")
        for index, number in enumerate(numbers):
            if type(number) not in (int, float) or not abs(number) <= LARGEST:
                raise SourceError(
                    f"a number from {-LARGEST:g} to {LARGEST:g}", number, _CURE, tensor=f"numbers[{index}]"
                )
    return torch.tensor([numbers], dtype=torch.float32)
