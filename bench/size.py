"""How small is VGG-19 at the fidelity of other codecs? `python -m bench.size --photographs FOLDER`, about an hour.

Each row names a codec, the file that it makes and what that loses, and packs to a size at which ours must lose no more:
calibrated on photographs of a folder, which must not be those that errors are measured on; calibrated on generated
pictures; and not calibrated. The codecs are NNCodec, which implements ISO/IEC 15938-17, at its default settings, which
use no data, and k-means at 6 bits. With `--nncodec PYTHON`, an interpreter that has nncodec, NNCodec is run here;
otherwise its figures are those that were measured with NNCodec 2.1.3 when this project began. A second table packs
without calibration at the signal-to-noise ratio of k-means. Sizes at each width are left to `bench.sizes`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.calibration import LAYERS, measured_on
from bench.machine import describe, save
from vggquant import load_quantized_state_dict, load_quantized_vgg, pack
from vggquant.files.sources import EMBEDDED, SMALL
from vggquant.models.features import Features, feature_errors
from vggquant.packing.inspection import info, verify

# the codec, its bytes, content and style error, and the size that ours gets
PEERS = (
    ("NNCodec qp -40", 9_920_000, 0.0310, 0.021, 4_600_000),
    ("NNCodec qp -36", 7_580_000, 0.0592, 0.040, 3_400_000),
    ("NNCodec qp -32", 5_350_000, 0.1165, 0.083, 2_400_000),
    ("k-means, 6 bits", 15_050_000, 0.0564, 0.055, 3_400_000),
)
Peer = tuple[str, int, float, float, int]
RATES = {1: 0.6, 2: 1.4, 3: 2.2, 4: 3.05, 5: 4.05, 6: 5.05, 7: 6.05}  # ours, for each width of k-means
GENERATED_WITHIN = 1.25
NNCODEC = """
import sys, time
from importlib.metadata import version
import numpy as np
from nncodec.nn import decode, encode
arrays = dict(np.load(sys.argv[1]))
stream = encode(arrays, args={"qp": int(sys.argv[2]), "results": sys.argv[4], "verbose": False})
began = time.perf_counter()
found = decode(stream)
seconds = time.perf_counter() - began
np.savez(sys.argv[3], **found)
print(version("nncodec"), len(stream), seconds)
"""


def errors(network: Features) -> dict[str, float]:
    """Content and style error on the six photographs."""
    found = feature_errors(network, load_quantized_vgg(upto=LAYERS[-1]), measured_on("photographs"), LAYERS)
    return {"content": found.content, "style": found.style}


def nncodec(python: str, qp: int, folder: Path) -> dict[str, Any]:
    """Code the embedded weights with NNCodec, decode them, and measure what is lost."""
    state = load_quantized_state_dict(layout="vggquant")
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    given, found = folder / "given.npz", folder / "found.npz"
    np.savez(given, **arrays)
    command = [python, "-c", NNCODEC, str(given), str(qp), str(found), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    vgg = load_quantized_vgg(upto=LAYERS[-1])
    with np.load(found) as decoded:
        for name, parameter in vgg.named_parameters():
            assert decoded[name].shape == tuple(parameter.shape), name
            parameter.data.copy_(parameter.new_tensor(decoded[name]))
    return {"bytes": int(done[-2]), "decode_s": float(done[-1]), "version": done[-3], "errors": errors(vgg)}


def peer(row: Peer, python: str | None, folder: Path) -> dict[str, Any]:
    """What a codec takes and loses."""
    name, size, content, style, _ = row
    if name.startswith("k-means"):
        pack("vgg19", folder / "k-means", bits=6, force=True)
        return {
            "bytes": (folder / "k-means").stat().st_size,
            "errors": errors(load_quantized_vgg(folder / "k-means")),
        }
    if python is not None:
        return nncodec(python, int(name.split()[-1]), folder)
    return {"bytes": size, "errors": {"content": content, "style": style}}


def packed(path: Path, size: int, **options: Any) -> dict[str, Any]:
    """Pack to a size, unless the file is there already, and measure what is lost."""
    if not path.exists():
        pack("vgg19", path, max_size=size, coding="huffman", **options)
    verify(path)
    assert path.stat().st_size <= size, path
    return {"bytes": path.stat().st_size, "errors": errors(load_quantized_vgg(path))}


def against(row: Peer, photographs: str, python: str | None, keep: Path) -> dict[str, Any]:
    """One codec beside ours."""
    size = row[-1]
    found: dict[str, Any] = {"name": row[0], "size": size, "peer": peer(row, python, keep)}
    ways: dict[str, dict[str, Any]] = {
        "photographs": {"calibrate": True, "images": photographs},
        "generated": {"calibrate": True},
        "plain": {},
    }
    for way, options in ways.items():
        found[way] = packed(keep / f"{size}-{way}.safetensors", size, **options)
        print(row[0], way, found[way]["bytes"], found[way]["errors"], flush=True)
    for metric in ("content", "style"):
        ours, theirs = found["photographs"]["errors"][metric], found["peer"]["errors"][metric]
        assert ours <= theirs, (row[0], metric, ours, theirs)
        assert found["generated"]["errors"][metric] <= GENERATED_WITHIN * theirs, (row[0], metric)
    return found


def uncalibrated(folder: Path) -> list[dict[str, Any]]:
    """Rates at which ours has the signal-to-noise ratio of k-means, or a better one."""
    rows = []
    for bits, rate in RATES.items():
        row: dict[str, Any] = {"bits": bits}
        ways: dict[str, dict[str, Any]] = {"k_means": {"bits": bits}, "ours": {"rate": rate}}
        for way, options in ways.items():
            path = folder / f"{bits}-{way}"
            pack("vgg19", path, force=True, **options)
            sizes = [(layer.rate, np.prod(layer.shape)) for layer in info(path).layers]
            values, weights = zip(*sizes, strict=True)
            row[way] = {
                "bytes": path.stat().st_size,
                "rate": float(np.average(values, weights=weights)),
                "sqnr_db": verify(path, against="vgg19").sqnr_db,
                "errors": errors(load_quantized_vgg(path)),
            }
        assert row["ours"]["sqnr_db"] >= row["k_means"]["sqnr_db"], row
        print(row, flush=True)
        rows.append(row)
    return rows


def embedded() -> dict[str, Any]:
    """What both embedded files take and lose."""
    found = {}
    for name in (EMBEDDED, SMALL):
        about = info(name, wheel=True)
        layers = [layer.name for layer in about.layers]
        found[name] = {
            "bytes": about.bytes,
            "wheel_bytes": about.wheel_bytes,
            "convolutions": f"{layers[0]} … {layers[-1]}",
            "errors": errors(load_quantized_vgg(name)),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack and measure all, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", required=True, help="the folder to calibrate on")
    parser.add_argument("--nncodec", metavar="PYTHON", help="an interpreter that has nncodec")
    parser.add_argument("--keep", type=Path, help="a folder for the packed files; those there are not packed anew")
    asked = parser.parse_args(arguments)
    itself = errors(load_quantized_vgg())
    assert itself == {"content": 0, "style": 0}, "not equal to itself"
    with tempfile.TemporaryDirectory() as temporary:
        keep = asked.keep or Path(temporary)
        keep.mkdir(parents=True, exist_ok=True)
        rows = [against(row, asked.photographs, asked.nncodec, keep) for row in PEERS]
        plain = uncalibrated(Path(temporary))
    save("size", {"machine": describe(), "rows": rows, "uncalibrated": plain, "embedded": embedded()})


if __name__ == "__main__":
    main()
