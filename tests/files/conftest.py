"""The first layers of a VGG-11, small enough to be saved in every way that other programs have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Floats, random_arrays
from vggquant.files.layouts import write_layout
from vggquant.files.sources import read_source
from vggquant.networks.vgg import ARCHITECTURES

VGG11 = ARCHITECTURES["vgg11"]
UPTO = "relu3_2"


@pytest.fixture(scope="session")
def arrays() -> dict[str, Floats]:
    """Weights and biases by our names."""
    return random_arrays(VGG11, upto=UPTO)


@pytest.fixture
def state(arrays: dict[str, Floats]) -> dict[str, torch.Tensor]:
    """The same as torchvision names them."""
    found = write_layout(arrays, "torchvision", VGG11)
    return {name: torch.from_numpy(array.copy()) for name, array in found.items()}  # for a test to change


def reads_as(path: Path, arrays: dict[str, Floats], **options: Any) -> bool:
    """Whether a file holds these very weights."""
    weights = read_source(path, arch="vgg11", upto=UPTO, **options).weights
    assert not weights.palettized
    return list(weights.plain) == list(arrays) and all(
        np.array_equal(weights.plain[name], array) for name, array in arrays.items()
    )
