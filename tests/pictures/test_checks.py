"""The checks that no decoder makes: damage that has a checksum is always found, and sound files pass."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.forged_pictures import GRADIENT, chunk, encoded, interlaced_png, jpeg_of_scans, png, png_of_size, tiff
from vggquant.errors import PictureError
from vggquant.pictures.checks import (
    MAX_PROFILE,
    MAX_SCANS,
    MAX_TEXT,
    check_png,
    check_scans,
    check_strips,
    is_plain_png,
)
from vggquant.pictures.decoding import read_here
from vggquant.pictures.files import Picture, read_picture, write_picture

RGB_PROFILE = bytes(16) + b"RGB " + bytes(50)


def flips(data: bytes, begin: int, end: int) -> list[bytes]:
    """The file with each single bit of a part flipped."""
    found = []
    for bit in range(8 * begin, 8 * end):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        found.append(bytes(changed))
    return found


@pytest.mark.filterwarnings("ignore")
def test_every_flipped_bit_of_a_png_is_found() -> None:
    data = encoded(GRADIENT.convert("RGB").resize((8, 8)), icc_profile=RGB_PROFILE)
    read_here(data, None, None, None)
    for changed in flips(data, 0, len(data)):
        with pytest.raises(PictureError):
            read_here(changed, None, None, None)


def test_every_flipped_bit_of_a_tiffs_deflated_data_is_found(tmp_path: Path) -> None:
    strip = zlib.compress(GRADIENT.tobytes())
    read = 0
    for changed in flips(tiff(strip, compression=8), 8, 8 + len(strip)):
        (tmp_path / "x.tif").write_bytes(changed)
        try:
            pixels = read_picture(tmp_path / "x.tif").pixels
        except PictureError:
            continue
        read += 1
        assert (pixels[0, 0] * 255).round().byte().numpy().tobytes() == GRADIENT.tobytes()
    assert read < 8  # bits between the stream and its checksum, which mean nothing


@pytest.mark.parametrize("tiled", [False, True])
def test_sound_tiffs_pass(tiled: bool, tmp_path: Path) -> None:
    large = GRADIENT.resize((300, 200)).convert("RGB")
    options = {"tiffinfo": {322: 64, 323: 64}} if tiled else {}
    (tmp_path / "x.tif").write_bytes(encoded(large, "TIFF", compression="tiff_adobe_deflate", **options))
    (tmp_path / "x.png").write_bytes(encoded(large))
    assert torch.equal(read_picture(tmp_path / "x.tif").pixels, read_picture(tmp_path / "x.png").pixels)


def test_an_interlaced_png_is_read(tmp_path: Path) -> None:
    data, greys = interlaced_png()
    (tmp_path / "x.png").write_bytes(data)
    pixels = read_picture(tmp_path / "x.png").pixels
    assert (pixels[0, 0] * 255).round().int().tolist() == greys


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("width", [1, 7, 40])
def test_sound_pngs_pass(mode: str, width: int) -> None:
    grey = GRADIENT.resize((width, 9))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    check_png(encoded(sixteen if mode == "I;16" else grey.convert(mode)))


def test_more_or_less_image_data_than_the_size_asks_for() -> None:
    for lines in (8, 10):
        data = png_of_size(5, 9)
        at = data.index(b"IDAT") - 4
        data = data[:at] + chunk(b"IDAT", zlib.compress(bytes(6 * lines))) + chunk(b"IEND", b"")
        with pytest.raises(PictureError, match="more or less image data"):
            check_png(data)


def test_an_image_in_two_places() -> None:
    data = encoded(GRADIENT)
    at = data.index(b"IDAT") - 4
    with pytest.raises(PictureError, match="image data in two places"):
        check_png(data[:-12] + chunk(b"tEXt", b"a\0b") + data[at:])


def test_small_pngs_of_plain_form_need_no_child_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_child(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("vggquant.pictures.files.read_isolated", no_child)
    alpha = torch.rand(1, 1, 16, 16)
    write_picture(tmp_path / "x.png", Picture(torch.rand(1, 3, 16, 16), alpha, icc=RGB_PROFILE, settings='{"a": "ü"}'))
    found = read_picture(tmp_path / "x.png")
    assert (found.settings, found.icc, found.size) == ('{"a": "ü"}', RGB_PROFILE, (16, 16))


def test_what_is_no_plain_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    moving: dict[str, Any] = {"save_all": True, "append_images": [GRADIENT.rotate(90)]}
    assert is_plain_png(memoryview(png()))
    for other in (
        encoded(GRADIENT, "JPEG"),
        encoded(GRADIENT, exif=exif),
        encoded(GRADIENT, **moving),
        encoded(Image.new("L", (2000, 2000))),
        interlaced_png()[0],
        png(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text"))),
        png(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"text"))),
        png(*[chunk(b"tEXt", b"a\0b")] * 2000),
        png(chunk(b"tEXt", b"a\0" + bytes(5_000_000))),
        png(*[chunk(b"pHYs", bytes(9))] * 2),
        png(chunk(b"tEXt", b"exif\0" + b"x" * 99)),
        png(chunk(b"tEXt", b"Raw profile type exif\0" + b"x" * 99)),
        png()[:-20],
        png()[:20],
    ):
        assert not is_plain_png(memoryview(other))


def test_strips_that_share_their_bytes_are_refused_unread() -> None:
    strip = zlib.compress(bytes(1000))
    check_strips(strip * 2, [0, len(strip)], [len(strip)] * 2)
    with pytest.raises(PictureError, match="strips that are longer than the file"):
        check_strips(strip * 2, [0, 0, 0], [len(strip)] * 3)
    with pytest.raises(PictureError, match="strips that are longer than the file"):
        check_strips(strip * 2, [0], [])


def test_scans_are_counted_as_decoders_see_them() -> None:
    sound = encoded(GRADIENT.convert("RGB"), "JPEG", progressive=True, comment=b"\xff\xda" * 1000)
    check_scans(sound + b"\xff\xda\0\2" * 1000)
    check_scans(jpeg_of_scans(MAX_SCANS - 20))
    with pytest.raises(PictureError, match=f"at most {MAX_SCANS} scans, got more; save the picture afresh"):
        check_scans(jpeg_of_scans(MAX_SCANS))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_what_no_png_can_hand_on_is_not_written(ending: str, tmp_path: Path) -> None:
    pixels = torch.rand(1, 3, 8, 8)
    largest = bytes(16) + b"RGB " + bytes(MAX_PROFILE - 20)
    write_picture(tmp_path / f"x{ending}", Picture(pixels, icc=largest, settings="x" * (MAX_TEXT - 100)))
    assert read_picture(tmp_path / f"x{ending}").icc == largest
    with pytest.raises(PictureError, match=r"y\.\w+: expected a colour profile of at most 1048576 bytes"):
        write_picture(tmp_path / f"y{ending}", Picture(pixels, icc=largest + b"\0"))
    with pytest.raises(PictureError, match=r"y\.\w+: expected at most 4194304 bytes of text, got 4194305"):
        write_picture(tmp_path / f"y{ending}", Picture(pixels, settings="x" * (MAX_TEXT + 1)))
    assert not (tmp_path / f"y{ending}").exists()
