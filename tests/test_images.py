from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggquant import images
from vggquant.errors import PictureError, StorageError
from vggquant.images import read_picture, write_picture

RED_GREEN = np.zeros((2, 3, 3), np.uint8)
RED_GREEN[0, :, 0] = 255
RED_GREEN[1, :, 1] = 255


def test_a_picture_comes_back(tmp_path: Path) -> None:
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 20, 30))).float() / 255
    write_picture(tmp_path / "x.png", picture)
    assert torch.equal(read_picture(tmp_path / "x.png"), picture)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_types(ending: str, tmp_path: Path) -> None:
    write_picture(tmp_path / f"x{ending}", torch.full((1, 3, 16, 16), 0.5))
    assert torch.allclose(read_picture(tmp_path / f"x{ending}"), torch.tensor(0.5), atol=0.01)


def test_values_outside_are_clipped(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", torch.tensor([-1.0, 0.5, 3.0]).reshape(1, 3, 1, 1))
    assert read_picture(tmp_path / "x.png").flatten().tolist() == pytest.approx([0, 128 / 255, 1])


@pytest.mark.parametrize(
    ("longest", "pixels", "size"),
    [(None, None, (30, 60)), (30, None, (15, 30)), (None, 200, (10, 20)), (30, 200, (15, 30)), (1, None, (1, 1))],
)
def test_sizes(longest: int | None, pixels: int | None, size: tuple[int, int], tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", torch.rand(1, 3, 30, 60))
    assert read_picture(tmp_path / "x.png", longest=longest, pixels=pixels).shape[2:] == size


def test_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(RED_GREEN).save(tmp_path / "x.png", exif=exif)
    found = read_picture(tmp_path / "x.png")
    assert found.shape == (1, 3, 3, 2)
    assert found[0, :, 0, 1].tolist() == [1, 0, 0]
    assert found[0, :, 0, 0].tolist() == [0, 1, 0]


def test_palettes_greys_and_inks_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(RED_GREEN)
    for mode in ("P", "CMYK"):
        image.convert(mode).save(tmp_path / f"{mode}.tif")
        assert read_picture(tmp_path / f"{mode}.tif")[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=0.01)
    Image.fromarray(np.full((2, 2), 51, np.uint8)).save(tmp_path / "L.png")
    assert read_picture(tmp_path / "L.png").flatten().tolist() == pytest.approx([0.2] * 12)
    Image.fromarray(np.full((2, 2), 51 * 257, np.uint16)).save(tmp_path / "I.png")
    assert read_picture(tmp_path / "I.png").flatten().tolist() == pytest.approx([0.2] * 12)


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(RED_GREEN).convert("RGBA")
    image.putalpha(Image.fromarray(np.array([[0, 255, 255]] * 2, np.uint8)))
    image.save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png")[0, :, 0, :2].T.tolist() == [[1, 1, 1], [1, 0, 0]]


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
    write_picture(tmp_path / "x.png", torch.rand(1, 3, 30, 60))
    with pytest.raises(PictureError, match="at most 50000000 pixels"):
        read_picture(tmp_path / "x.png", longest=50_000)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(PictureError, match=r"at most 1000 pixels, got 60 × 30"):
        read_picture(tmp_path / "x.png")


def test_outputs_are_protected(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"an ending \.png"):
        write_picture(tmp_path / "x.gif", torch.rand(1, 3, 2, 2))
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(StorageError, match="--force"):
        write_picture(tmp_path / "x.png", torch.rand(1, 3, 2, 2))
