"""Picture files: what is read comes back when written, and whatever is no sound picture is refused."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features

from tests.forged_pictures import GRADIENT, encoded
from vggquant.errors import PictureError, StorageError
from vggquant.pictures import decoding
from vggquant.pictures.files import Picture, check_ending, read_mask, read_picture, write_picture

RED_GREEN = np.zeros((2, 3, 3), np.uint8)
RED_GREEN[0, :, 0] = 255
RED_GREEN[1, :, 1] = 255


def test_a_picture_comes_back(tmp_path: Path) -> None:
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 20, 30))).float() / 255
    write_picture(tmp_path / "x.png", Picture(picture))
    assert torch.equal(read_picture(tmp_path / "x.png").pixels, picture)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_types(ending: str, tmp_path: Path) -> None:
    write_picture(tmp_path / f"x{ending}", Picture(torch.full((1, 3, 16, 16), 0.5)))
    assert torch.allclose(read_picture(tmp_path / f"x{ending}").pixels, torch.tensor(0.5), atol=0.01)


def test_values_outside_are_clipped(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", Picture(torch.tensor([-1.0, 0.5, 3.0]).reshape(1, 3, 1, 1)))
    assert read_picture(tmp_path / "x.png").pixels.flatten().tolist() == pytest.approx([0, 128 / 255, 1])


@pytest.mark.parametrize(
    ("longest", "pixels", "size"),
    [(None, None, (30, 60)), (30, None, (15, 30)), (None, 200, (10, 20)), (30, 200, (15, 30)), (1, None, (1, 1))],
)
def test_sizes(longest: int | None, pixels: int | None, size: tuple[int, int], tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", Picture(torch.rand(1, 3, 30, 60)))
    assert read_picture(tmp_path / "x.png", longest=longest, pixels=pixels).pixels.shape[2:] == size


def test_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(RED_GREEN).save(tmp_path / "x.png", exif=exif)
    found = read_picture(tmp_path / "x.png").pixels
    assert found.shape == (1, 3, 3, 2)
    assert found[0, :, 0, 1].tolist() == [1, 0, 0]
    assert found[0, :, 0, 0].tolist() == [0, 1, 0]


def test_palettes_greys_and_inks_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(RED_GREEN)
    for mode in ("P", "CMYK"):
        image.convert(mode).save(tmp_path / f"{mode}.tif")
        assert read_picture(tmp_path / f"{mode}.tif").pixels[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=0.01)
    Image.fromarray(np.full((2, 2), 51, np.uint8)).save(tmp_path / "L.png")
    assert read_picture(tmp_path / "L.png").pixels.flatten().tolist() == pytest.approx([0.2] * 12)
    Image.fromarray(np.full((2, 2), 51 * 257, np.uint16)).save(tmp_path / "I.png")
    assert read_picture(tmp_path / "I.png").pixels.flatten().tolist() == pytest.approx([0.2] * 12)


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(RED_GREEN).convert("RGBA")
    image.putalpha(Image.fromarray(np.array([[0, 255, 255]] * 2, np.uint8)))
    image.save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").pixels[0, :, 0, :2].T.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("kind", ["GIF", "BMP", "AVIF"])
def test_types_that_are_read_alone(kind: str, tmp_path: Path) -> None:
    """The first frame of an animation, with transparency; an ending says nothing."""
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow lacks AVIF")
    frames = [Image.new("RGBA", (32, 24), color) for color in ((255, 0, 0, 255), (0, 0, 255, 255))]
    frames[0].putpixel((0, 0), (0, 0, 0, 0))
    more: dict[str, Any] = {} if kind == "BMP" else {"save_all": True, "append_images": frames[1:]}
    frames[0].convert("RGB" if kind == "BMP" else "RGBA").save(tmp_path / "x.png", kind, **more)
    found = read_picture(tmp_path / "x.png")
    assert found.size == found.stored == (24, 32)
    assert found.animated == (kind != "BMP")
    assert found.pixels[0, :, 12, 16].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert (found.alpha is not None) == (kind != "BMP")
    if found.alpha is not None:
        assert found.alpha[0, 0, 0, 0] < 0.5 < found.alpha[0, 0, 12, 16]


@pytest.mark.filterwarnings("ignore:image file could not be identified")
def test_types_that_pillow_was_built_without_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "avif")
    with pytest.raises(PictureError) as caught:
        decoding.read_here(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", None, None, None)
    assert str(caught.value) == (
        "expected a picture (PNG, JPEG, WEBP, TIFF, GIF, BMP; this Pillow lacks AVIF), got something else; "
        "name a picture, or convert it to PNG"
    )


def test_what_is_larger_is_reduced_and_nothing_is_enlarged(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", Picture(torch.rand(1, 3, 30, 60)))
    for asked, size in (({"most": 1800}, (30, 60)), ({"most": 10**9}, (30, 60)), ({"most": 450}, (15, 30))):
        found = read_picture(tmp_path / "x.png", **asked)
        assert (found.size, found.stored) == (size, (30, 60))
    assert read_picture(tmp_path / "x.png", longest=60, most=450).size == (30, 60)
    assert read_picture(tmp_path / "x.png", pixels=1800, most=450).size == (30, 60)


@pytest.mark.parametrize("data", [b"", b"hello, this is no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(PictureError, match=r"x\.png: expected a"):
        read_picture(tmp_path / "x.png")


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(buffer, "PNG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue()[:2000])
    with pytest.raises(PictureError, match="undamaged"):
        read_picture(tmp_path / "x.png")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(PictureError, match="floating point"):
        read_picture(tmp_path / "x.tif")
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(tmp_path / "y.tif")
    with pytest.raises(PictureError, match="32 bits"):
        read_picture(tmp_path / "y.tif")


def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "x.png", Picture(torch.rand(1, 3, 30, 60)))
    with pytest.raises(PictureError, match="at most 50000000 pixels"):
        read_picture(tmp_path / "x.png", longest=50_000)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(PictureError, match=r"at most 1000 pixels, got 60 × 30"):
        read_picture(tmp_path / "x.png")


def test_what_claims_too_many_pixels_is_to_be_reduced(tmp_path: Path) -> None:
    data = bytearray(encoded(GRADIENT, "GIF"))
    for width, got in ((10_000, "10000 × 5001"), (60_000, "far more")):
        data[6:10] = struct.pack("<HH", width, 5_001)
        (tmp_path / "x.gif").write_bytes(data)
        with pytest.raises(PictureError, match=f"at most 50000000 pixels, got {got}; reduce it first"):
            read_picture(tmp_path / "x.gif")


def test_the_size_is_height_and_width() -> None:
    assert Picture(torch.rand(1, 3, 30, 60)).size == (30, 60)


def test_types_that_hold_no_long_sides_are_refused() -> None:
    check_ending("x.webp", 16_383)
    check_ending("x.png", 70_000)
    with pytest.raises(PictureError, match=r"x\.webp: expected at most 16383 pixels a side in \.webp, got 16384"):
        check_ending("x.webp", 16_384)


def test_outputs_are_protected(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"an ending \.png"):
        write_picture(tmp_path / "x.gif", Picture(torch.rand(1, 3, 2, 2)))
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(StorageError, match="pass `force=True`"):
        write_picture(tmp_path / "x.png", Picture(torch.rand(1, 3, 2, 2)))


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_transparency_is_kept(ending: str, tmp_path: Path) -> None:
    alpha = torch.tensor([0.0, 0.2, 1.0]).reshape(1, 1, 1, 3).expand(1, 1, 8, 3)
    write_picture(tmp_path / f"x{ending}", Picture(torch.rand(1, 3, 8, 3), alpha))
    found = read_picture(tmp_path / f"x{ending}")
    assert found.alpha is not None
    assert torch.allclose(found.alpha, alpha)


def test_jpeg_drops_transparency(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.jpg", Picture(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8)))
    assert read_picture(tmp_path / "x.jpg").alpha is None


def test_what_is_transparent_does_not_bleed_when_resized(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 4), np.uint8)
    image[:, :8] = (255, 0, 0, 255)
    image[:, 8:] = (0, 255, 0, 0)  # green that nobody sees
    Image.fromarray(image).save(tmp_path / "x.png")
    found = read_picture(tmp_path / "x.png", longest=5).pixels
    assert (found[0, 0] > 0.97).all()
    assert torch.allclose(found[0, 1], found[0, 2], atol=0.02)


def test_a_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "x.png", transparency=0)
    found = read_picture(tmp_path / "x.png")
    assert found.alpha is not None
    assert found.alpha.flatten().tolist() == [0, 1]
    assert found.pixels[0, :, 0].T.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_colour_profile_is_kept_where_it_is_of_rgb(tmp_path: Path) -> None:
    from PIL import ImageCms

    rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert rgb[16:20] == b"RGB "
    Image.fromarray(RED_GREEN).save(tmp_path / "x.jpg", icc_profile=rgb)
    found = read_picture(tmp_path / "x.jpg")
    assert found.icc == rgb
    write_picture(tmp_path / "y.png", found)
    with Image.open(tmp_path / "y.png") as image:
        assert image.info["icc_profile"] == rgb
    ink = rgb[:16] + b"CMYK" + rgb[20:]
    Image.fromarray(RED_GREEN).convert("CMYK").save(tmp_path / "z.jpg", icc_profile=ink)
    assert read_picture(tmp_path / "z.jpg").icc is None


def test_settings_come_back_from_a_png(tmp_path: Path) -> None:
    picture = Picture(torch.rand(1, 3, 4, 4), settings='{"a": "ü"}')
    for name in ("x.png", "x.jpg"):
        write_picture(tmp_path / name, picture)
    assert read_picture(tmp_path / "x.png").settings == picture.settings
    assert read_picture(tmp_path / "x.jpg").settings is None


def test_a_mask_is_stretched(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", Picture(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).expand(1, 3, 2, 2)))
    mask, _ = read_mask(tmp_path / "x.png", (6, 8))
    assert mask.shape == (1, 1, 6, 8)
    assert mask[0, 0, 3, 0] == 0
    assert mask[0, 0, 3, 7] == 1
    assert 0 < float(mask[0, 0, 3, 4]) < 1


def test_whatever_a_decoder_raises_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "x.png")

    def stumble(*_: object) -> None:
        raise TypeError("Missing dimensions")

    for name in ("convert", "getexif"):
        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, name, stumble)
            if name == "convert":
                with pytest.raises(PictureError, match="an undamaged picture, got Missing dimensions"):
                    read_picture(tmp_path / "x.png")
            else:
                assert read_picture(tmp_path / "x.png").pixels.shape == (1, 3, 9, 9)
