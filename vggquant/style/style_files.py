"""Styles to files and back: the numbers that a network predicted of a picture, as JSON.

What the numbers mean is known to the network that predicted them, and to no other; a file names it by its checksum.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor

from vggquant.errors import OptionError, StorageError, located
from vggquant.files.disk import PathLike, check_output, read_file, write_file
from vggquant.networks.arbitrary import CODE

ENDING = ".json"  # by which a style is told from a picture
VERSION = 1
MOST_BYTES = 16_384  # of a style's file
_KEYS = {"version", "network", "numbers"}


def is_style(path: PathLike) -> bool:
    """Whether a path names a style's file, and no picture."""
    return Path(os.fsdecode(path)).suffix.lower() == ENDING
