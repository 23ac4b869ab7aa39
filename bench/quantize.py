"""How near does our k-means come to the optimum, and how fast? `python -m bench.quantize`, about ten minutes.

Ours and kmeans1d, which is exact, find codebooks for the same continuous layers in turn, and one function computes both
errors. Then all of VGG-19 is packed at 8 bits in a fresh process, with one job and with two, which must give the same
bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kmeans1d
import numpy as np
import numpy.typing as npt

from bench.continuous import Floats, continuous_weights
from bench.machine import describe, save
from vggquant.codec.kmeans import fit_codebook
from vggquant.files.disk import write_file
from vggquant.files.sources import describe as metadata
from vggquant.files.tensors import write_safetensors
from vggquant.networks.network import weight_specs

LAYERS = {"conv1_2": range(1, 9), "conv2_2": range(1, 9), "conv3_2": range(1, 9), "conv4_2": (8,)}
ROUNDS = 3  # of ours; kmeans1d, which may take minutes, runs once

PACK = """
import sys, time
from bench.machine import peak_memory
from vggquant.packing.packer import pack
start = time.perf_counter()
pack(sys.argv[1], sys.argv[2], bits=8, jobs=int(sys.argv[3]), force=True)
print(time.perf_counter() - start, peak_memory())
"""


def squared_error(values: Floats, codebook: npt.NDArray[np.float64] | Floats) -> float:
    """Sum the squared distances to the nearest centroid, in float64."""
    centroids = np.sort(np.asarray(codebook, np.float64))
    nearest = centroids[np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values.astype(np.float64))]
    return float(((values - nearest) ** 2).sum())


def main() -> None:
    """Print a table and write the JSON."""
    weights = continuous_weights()
    rows = []
    print("| layer | weights | bits | excess over the optimum | ours | kmeans1d | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, widths in LAYERS.items():
        values = weights.plain[f"{name}.weight"].ravel()
        for bits in widths:
            start = time.perf_counter()
            theirs = np.array(kmeans1d.cluster(values, 1 << bits).centroids)
            theirs_s = time.perf_counter() - start
            times = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                ours = fit_codebook(values, 1 << bits)
                times.append(time.perf_counter() - start)
            excess = squared_error(values, ours) / squared_error(values, theirs) - 1
            assert excess < 2e-5, f"{name} at {bits} bits: {excess}"
            ours_s = float(np.median(times))
            row = {
                "layer": name, "weights": values.size, "bits": bits, "excess": excess, "ours_s": ours_s,
                "kmeans1d_s": theirs_s, "ratio": theirs_s / ours_s,
            }  # fmt: skip
            rows.append(row)
            print(
                f"| {name} | {values.size:,} | {bits} | {excess:.1e} | {ours_s:.2f} s | {theirs_s:.2f} s "
                f"| {theirs_s / ours_s:.0f} |",
                flush=True,
            )
    per_weight = theirs_s / values.size  # at the last layer, which is the largest
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        source, outs = Path(folder) / "float32.safetensors", [Path(folder) / f"{jobs}" for jobs in (1, 2)]
        write_file(source, write_safetensors(weights.plain, metadata(weights)))
        for jobs, out in zip((1, 2), outs, strict=True):
            found = []
            for _ in range(ROUNDS):
                command = [sys.executable, "-c", PACK, str(source), str(out), str(jobs)]
                seconds, peak = map(float, subprocess.check_output(command, text=True).split())
                found.append((seconds, peak))
            runs[jobs] = {
                "seconds": float(np.median([seconds for seconds, _ in found])),
                "peak_bytes": max(peak for _, peak in found),
            }
        assert outs[0].read_bytes() == outs[1].read_bytes(), "the bytes depend on the number of jobs"
    count = sum(spec.size for spec in weight_specs(weights.network))
    whole = {
        "weights": count,
        "kmeans1d_s_by_its_rate": per_weight * count,
        "ratio": per_weight * count / runs[2]["seconds"],
        "jobs": runs,
    }
    print(json.dumps(whole, indent=1))
    save("quantize", {"machine": describe("kmeans1d"), "layers": rows, "whole_at_8_bits": whole})


if __name__ == "__main__":
    main()
