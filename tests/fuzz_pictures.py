"""Mutants of pictures through the child process that decodes them, for `tests.fuzz`.

Most are changed anywhere; a PNG half of the time in one chunk only, under a checksum made anew. Each must be refused in
one line or read, in a time that its size allows. What is read from a PNG whose checksums are its own must be the pixels
that were written.
"""

from __future__ import annotations

import contextlib
import functools
import io
import random
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from tests.fuzz import WrongEndError
from vggquant.errors import PictureError
from vggquant.pictures.checks import PNG
from vggquant.pictures.files import read_picture

SLOWEST = 20.0  # seconds on the clock, for pictures that claim the most pixels; small ones take milliseconds
PIXELS = 2_000  # that are wanted of each


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _seeds() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    color = Image.fromarray(noise).resize((48, 40), Image.Resampling.BICUBIC)
    grey, clear = color.convert("L"), color.convert("RGBA")
    clear.putalpha(grey)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    more: dict[str, Any] = {"save_all": True, "append_images": [color.rotate(180), color]}
    found = [saved(image, "PNG") for image in (color, grey, clear, color.convert("P"), grey.convert("1"))]
    found += [
        saved(color, "PNG", exif=exif, icc_profile=b"\0" * 16 + b"RGB " + bytes(200)),
        saved(color, "PNG", **more),
    ]
    found += [saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")]
    for progressive in (False, True):
        found += [saved(image, "JPEG", progressive=progressive) for image in (color, grey, color.convert("CMYK"))]
    found += [saved(color, "JPEG", exif=exif, icc_profile=b"\0" * 16 + b"RGB " + bytes(200))]
    found += [saved(clear, "WEBP", lossless=lossless) for lossless in (False, True)] + [saved(clear, "WEBP", **more)]
    compressions = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    found += [saved(color, "TIFF", compression=compression) for compression in compressions]
    found += [saved(grey.convert("1"), "TIFF", compression=fax) for fax in ("group3", "group4", "tiff_ccitt")]
    found += [saved(color, "TIFF", compression="tiff_lzw", **more), saved(clear, "GIF", **more), saved(color, "GIF")]
    found += [saved(image, "BMP") for image in (color, grey, clear)]
    if features.check("avif"):
        found += [saved(clear, "AVIF", speed=10), saved(color, "AVIF", speed=10, **more)]
    return found


SEEDS = _seeds()


def mutant(seed: int, number: int) -> tuple[bytes, str]:
    """A file, and whether a changed chunk of a PNG has a checksum made anew: ``resealed`` or ``raw``."""
    rng = random.Random(f"pictures/{seed}/{number}")
    data = SEEDS[number % len(SEEDS)]
    if data.startswith(PNG) and rng.randrange(2):
        return _resealed(rng, data), "resealed"
    return _changed(rng, data), "raw"


def _changed(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, replaced, removed, doubled, or exchanged for a number or for those of another seed."""
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = min(rng.randrange(len(mutated) + 1), rng.choice((64, 256, len(mutated))))  # headers more often
        end = min(len(mutated), at + rng.choice((1, 1, 2, 4, 8, 40)))
        match rng.randrange(6):
            case 0:
                mutated[at:end] = bytes(byte ^ 1 << rng.randrange(8) for byte in mutated[at:end])
            case 1:
                mutated[at:end] = rng.randbytes(end - at)
            case 2:
                del mutated[at:end]
            case 3:
                mutated[at:at] = mutated[at:end] * rng.choice((1, 2, 50))
            case 4:
                other = rng.choice(SEEDS)
                begin = rng.randrange(len(other))
                mutated[at:end] = other[begin : begin + end - at]
            case _:
                number = rng.choice((0, 1, 8, 255, 2**12, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1))
                form = rng.choice(("<Q", ">Q"))
                packed = struct.pack(form, number)
                size = rng.choice((1, 2, 4))
                mutated[at : at + size] = packed[:size] if form == "<Q" else packed[-size:]
    return bytes(mutated)


def _resealed(rng: random.Random, data: bytes) -> bytes:
    """A PNG with one chunk changed, image data beneath their compression; now and then it is doubled or left out."""
    chunks, at = [], len(PNG)
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 12 + size
    place = rng.randrange(len(chunks))
    kind, body = chunks[place]
    if kind == b"IDAT" and rng.randrange(4):
        with contextlib.suppress(zlib.error):
            body = zlib.compress(_changed(rng, zlib.decompress(body)))
    else:
        body = _changed(rng, body)
    chunks[place : place + 1] = [(kind, body)] * rng.choice((1, 1, 1, 1, 0, 2))
    parts = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return PNG + b"".join(parts)


def judge(data: bytes, manner: str) -> str:
    """How a mutant ended.

    Raises:
        WrongEndError: It took too long, was refused otherwise than it should, or gave pixels that nobody wrote.
    """
    began = time.perf_counter()
    kind = "PNG" if data.startswith(PNG) else "other"
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(data)
        file.flush()
        try:
            pixels = read_picture(file.name, pixels=PIXELS).pixels.numpy().tobytes()
        except PictureError as error:
            if len(str(error)) > 2000 or not str(error).isprintable():
                raise WrongEndError(f"a message of several lines: {error!r}") from error
            return "stopped" if str(error.got).startswith("one that") else "refused"
        except BaseException as error:
            raise WrongEndError(f"{type(error).__name__}: {error}") from error
        finally:
            if time.perf_counter() - began > SLOWEST:
                raise WrongEndError(f"{time.perf_counter() - began:.1f} s")
    if (kind, manner) == ("PNG", "raw") and pixels not in _written():
        raise WrongEndError("other pixels than were written, though the checksums are right")
    return "read"


@functools.cache
def _written() -> set[bytes]:
    """The pixels of all PNGs that mutants are made from."""
    found = set()
    with tempfile.TemporaryDirectory() as folder:
        for data in SEEDS:
            if data.startswith(PNG):
                (Path(folder) / "x.png").write_bytes(data)
                found.add(read_picture(Path(folder) / "x.png", pixels=PIXELS).pixels.numpy().tobytes())
    return found
