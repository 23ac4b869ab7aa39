"""Pictures, cases 95 to 106."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from tests.hostile.cases import Cases, Prepared

CASES = Cases()


def picture(number: int, name: str, match: str | None, data: Callable[[], bytes], ending: str = ".png") -> None:
    def made(folder: Path) -> Prepared:
        (folder / f"x{ending}").write_bytes(data())
        Image.new("RGB", (32, 32), "red").save(folder / "style.png")
        small = ("--steps", "1", "--size", "32")
        return ("stylize", folder / f"x{ending}", folder / "style.png", "-o", folder / "out.png", *small), match

    CASES.add(number, name, made)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    data = encoded(Image.new("L", (1, 1)))
    chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + chunk + struct.pack(">I", crc32(chunk)) + data[33:]


GRADIENT = Image.linear_gradient("L").resize((40, 40))
picture(95, "a decompression bomb", "pixels", lambda: png_of_size(30_000, 30_000))
picture(95, "just over 50 megapixels", "pixels", lambda: png_of_size(10_000, 5_001))


def tiff_without_its_width() -> bytes:
    data = bytearray(encoded(GRADIENT, "TIFF"))
    place = data.index(struct.pack("<HHI", 256, 4, 1)[:4])
    data[place : place + 2] = struct.pack("<H", 999)
    return bytes(data)


picture(96, "a TIFF without its width", "a picture", tiff_without_its_width, ".tif")
picture(96, "truncated", "undamaged", lambda: encoded(GRADIENT)[:-60])
picture(97, "empty", "a picture", lambda: b"")
picture(97, "text", "a picture", lambda: b"hello " * 99)
picture(98, "CMYK", None, lambda: encoded(GRADIENT.convert("CMYK"), "JPEG"), ".jpg")
picture(99, "16 bits", None, lambda: encoded(Image.fromarray(np.full((40, 40), 40_000, np.uint16))))
picture(99, "float", "floating point", lambda: encoded(GRADIENT.convert("F"), "TIFF"), ".tif")
picture(101, "palette transparency", None, lambda: encoded(GRADIENT.convert("P"), transparency=3))
picture(103, "1 × 1", None, lambda: encoded(Image.new("RGB", (1, 1))))
picture(103, "1 × 10,000", "sides of at least 16 pixels", lambda: encoded(Image.new("RGB", (1, 10_000))))
picture(104, "greyscale", None, lambda: encoded(GRADIENT))
picture(105, "corrupt ICC and EXIF", None, lambda: encoded(GRADIENT, icc_profile=b"\xff" * 200, exif=b"Exif\0\0junk"))
picture(106, "an ICO", "a picture", lambda: encoded(GRADIENT, "ICO"), ".png")
picture(106, "an EPS", "a picture", lambda: encoded(GRADIENT, "EPS"), ".png")


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
