"""How does a distillation become `arbitrary.safetensors`? `python -m bench.pack_arbitrary FOLDER OUT [--rate 5]`.

FOLDER holds `arbitrary-separable.safetensors` and `arbitrary-predictor.safetensors`, the float32 state dicts of a
`Transfer` and of a `Predictor` as a distillation has them before they are packed. Both become one packed file, with
`--float` one in float32.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

from vggquant.files.sources import describe
from vggquant.models.arbitrary import Arbitrary
from vggquant.networks.arbitrary import ArbitraryNetwork, mobilenet, steered_names
from vggquant.packing.packer import pack
from vggquant.training.packing import unquantized

WIDTH = 0.6  # of the predictor, times a MobileNetV2
MADE = (
    "distilled from Magenta's published int8 networks for phones (arbitrary stylization after Ghiasi et al. 2017, "
    "Apache 2.0), of whose weights this file contains none: a transfer network learned their paintings pixel by pixel "
    "and with a content and a style loss of VGG-19, a separable one began with it and learned the same, a predictor "
    "learned their numbers, and under these the separable one learned on with three times the style loss"
)


def distilled(folder: Path, transfer: str = "separable") -> Arbitrary:
    """The network in float32."""
    separable = steered_names() if transfer == "separable" else ()
    painter = Arbitrary(ArbitraryNetwork(separable=separable, predictor=mobilenet(WIDTH)))
    painter.transfer.load_state_dict(load_file(folder / f"arbitrary-{transfer}.safetensors"))
    painter.predictor.load_state_dict(load_file(folder / "arbitrary-predictor.safetensors"))
    return painter.eval().requires_grad_(False)


def write_float(painter: Arbitrary, out: Path) -> None:
    """A file in float32 with the record of the network, which `vggquant pack` reads."""
    state = {name: tensor.contiguous() for name, tensor in painter.state_dict().items()}
    save_file(state, out, describe(unquantized(painter, MADE)))


def main() -> None:
    """Join both, and pack them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rate", type=float, default=5)
    parser.add_argument("--float", action="store_true", help="leave it in float32")
    asked = parser.parse_args()
    painter = distilled(asked.folder)
    if asked.float:
        write_float(painter, asked.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_float(painter, whole := Path(folder) / "arbitrary.float.safetensors")
        print(pack(whole, asked.out, rate=asked.rate, force=True).info.bytes, "bytes")


if __name__ == "__main__":
    main()
