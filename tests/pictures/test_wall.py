"""Pictures behind the wall: whatever a decoder does, this process gets the picture or one line, and stays as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.forged_pictures import GRADIENT, encoded, jpeg_of_scans, tiff, tiff_bomb
from tests.fuzz_pictures import SEEDS
from vggquant.errors import PictureError
from vggquant.isolation.messages import Limits
from vggquant.isolation.parent import OverrunError
from vggquant.pictures import files
from vggquant.pictures.decoding import limits, read_here
from vggquant.pictures.files import read_picture

ROOT = Path(__file__).parent.parent.parent


def test_a_child_gives_what_this_process_would(tmp_path: Path) -> None:
    for data in SEEDS:
        (tmp_path / "x").write_bytes(data)
        here = read_here(data, None, 900, None)
        found = read_picture(tmp_path / "x", pixels=900)
        pixels = np.asarray(here.arrays["pixels"]).astype(np.float32) / 255
        alpha = pixels[..., 3:] if pixels.shape[2] == 4 else np.ones_like(pixels[..., :1])
        over_white = pixels[..., :3] * alpha + (1 - alpha)
        assert np.array_equal(found.pixels[0].permute(1, 2, 0).numpy(), over_white)
        assert (found.stored, found.animated) == (here.values["stored"], here.values["animated"])


@pytest.mark.parametrize("got", ["one that takes too long to read", "one that crashes its reader (exit -11)"])
def test_what_goes_wrong_is_one_line(got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overrun(*_: Any) -> None:
        raise OverrunError(got)

    monkeypatch.setattr(files, "read_isolated", overrun)
    (tmp_path / "x.jpg").write_bytes(encoded(GRADIENT, "JPEG"))
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "x.jpg")
    assert str(caught.value) == (
        f"{tmp_path / 'x.jpg'}: expected an undamaged picture, got {got}; save it afresh as PNG"
    )


def test_a_small_file_may_take_little_and_a_large_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Limits] = []
    monkeypatch.setattr("vggquant.pictures.decoding.limit_anew", asked.append)
    data = encoded(GRADIENT, "JPEG")
    read_here(data, None, None, None)
    small = asked[-1]
    read_here(encoded(Image.new("L", (2000, 2000)), "JPEG"), None, 900, None)
    large = asked[-1]
    assert small.memory < 2**27
    assert small.seconds < 1.6
    assert 10 * 4_000_000 < large.memory - small.memory < 30 * 4_000_000
    assert limits(10**6).memory > large.memory
    assert limits(2**20, 50_000_000, 250_000).seconds < 10


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX")
def test_ctrl_c_works_while_a_picture_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff_bomb(40_000))
    (tmp_path / "sound.jpg").write_bytes(encoded(GRADIENT, "JPEG"))
    read_picture(tmp_path / "sound.jpg")  # so that the child is there
    began = time.process_time()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        read_picture(tmp_path / "x.tif")
    assert time.process_time() - began < 1
    assert read_picture(tmp_path / "sound.jpg").size == (40, 40)


def test_frames_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff(GRADIENT.tobytes(), frames=240_000))
    found = read_picture(tmp_path / "x.tif")
    assert found.animated
    assert (found.pixels[0, 0] * 255).round().byte().numpy().tobytes() == GRADIENT.tobytes()


def test_what_libraries_print_is_not_seen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(GRADIENT, "TIFF", compression="tiff_lzw"))
    data[9] ^= 255
    (tmp_path / "x.tif").write_bytes(data)
    read_here(bytes(data), None, None, None)  # libtiff complains and goes on
    assert "LZWDecode" in capfd.readouterr().err
    read_picture(tmp_path / "x.tif")
    assert capfd.readouterr() == ("", "")


def test_threads_leave_the_filters_of_warnings_alone(tmp_path: Path) -> None:
    for name, kind in (("x.png", "PNG"), ("x.jpg", "JPEG")):
        (tmp_path / name).write_bytes(encoded(GRADIENT, kind))
    before = list(warnings.filters)
    with ThreadPoolExecutor(16) as pool:
        names = ("x.png", "x.jpg") * 40
        sizes = list(pool.map(lambda name: read_picture(tmp_path / name, longest=20).size, names))
    assert sizes == [(20, 20)] * len(names)
    assert warnings.filters == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_huge_mask_takes_the_memory_of_what_is_wanted(tmp_path: Path) -> None:
    """A mask of 49 megapixels, stretched to 400 × 400."""
    Image.new("L", (7000, 7000), 200).save(tmp_path / "x.png")
    script = """
import sys
from bench.machine import peak_memory
from vggquant.isolation.parent import _child
from vggquant.pictures.files import read_mask
before = peak_memory()
mask, _ = read_mask(sys.argv[1], (400, 400))
assert mask.shape == (1, 1, 400, 400)
child = open(f"/proc/{_child().process.pid}/status").read()
print(peak_memory() - before, 1024 * int(child.partition("VmHWM:")[2].split()[0]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "x.png")]
    found = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    here, there = map(int, found.split())
    assert here < 400e6  # before, 3.3 GB
    assert there < 300e6


def test_progressive_jpegs_of_many_scans_are_read_or_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg_of_scans(100_000))
    with pytest.raises(PictureError, match="at most 100 scans"):
        read_picture(tmp_path / "x.jpg")
