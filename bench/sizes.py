"""How large is VGG-19 at each width and coding, as a file and in a wheel? `python -m bench.sizes`.

Every file is verified, and those of 8 bits must restore exactly the weights that were packed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench.machine import describe, save
from vggquant.codec.bitstream import CODINGS
from vggquant.files.container import read
from vggquant.files.sources import embedded_path
from vggquant.packing.inspection import info, verify
from vggquant.packing.packer import pack

FLOAT32_BYTES = 80_097_536


def main() -> None:
    """Print a table and write the JSON."""
    rows = []
    print("| bits | coding | file | of float32 | in a wheel | bits a weight | SQNR |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for coding in CODINGS:
            for bits in range(8, 0, -1):
                path = Path(folder) / f"{coding}-{bits}.safetensors"
                pack("vgg19", path, bits=bits, coding=coding)
                if bits == 8:
                    restored = read(path).restored().plain
                    for name, array in read(embedded_path()).restored().plain.items():
                        assert np.array_equal(restored[name], array), f"{path.name}: {name} differs"
                found = info(path, wheel=True)
                sqnr = verify(path, against="vgg19").sqnr_db
                assert found.wheel_bytes is not None
                assert sqnr is not None
                row = {
                    "bits": bits,
                    "coding": coding,
                    "bytes": found.bytes,
                    "wheel_bytes": found.wheel_bytes,
                    "bits_per_weight": round(found.bits_per_weight, 4),
                    "sqnr_db": None if np.isinf(sqnr) else round(sqnr, 2),
                }
                rows.append(row)
                print(
                    f"| {bits} | {coding} | {found.bytes / 1e6:.2f} MB | {found.bytes / FLOAT32_BYTES:.1%} "
                    f"| {found.wheel_bytes / 1e6:.2f} MB | {found.bits_per_weight:.2f} "
                    f"| {'lossless' if np.isinf(sqnr) else f'{sqnr:.1f} dB'} |"
                )
    save("sizes", {"machine": describe("kmeans1d"), "float32_bytes": FLOAT32_BYTES, "rows": rows})


if __name__ == "__main__":
    main()
