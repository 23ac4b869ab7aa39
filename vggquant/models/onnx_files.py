"""Writes a network that paints as an ONNX file, by torch's exporter; needs the extra ``[onnx]``.

Which networks and options are allowed is left to `packing.unpacker`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping

import torch

from vggquant.errors import SourceError
from vggquant.models.johnson import Johnson

OPSET = 18
INPUT, OUTPUT = "images", "paintings"  # each (batch, 3, height, width), float32, RGB in [0, 1]


def onnx_file(painter: Johnson, texts: Mapping[str, str]) -> bytes:
    """An ONNX file of a network that paints pictures of any number and size.

    Args:
        painter: In eval mode.
        texts: What its metadata says.

    Raises:
        SourceError: The exporter's packages are missing.
    """
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise SourceError(f"{package} for ONNX files", "no such package", "pip install 'vggquant[onnx]'")
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with _quiet():
        program = torch.onnx.export(
            painter,
            (torch.zeros(1, 3, 48, 64),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(sizes,),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # where in torch's code it comes from
    proto = program.model_proto
    for key, text in texts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    data: bytes = proto.SerializeToString()
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling users of packages and names that it would like."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
