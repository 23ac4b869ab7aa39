from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import natural_picture
from vggquant import compare
from vggquant.comparison.sample_pictures import PIXELS_PER_PICTURE, SCIKIT_IMAGE, named_pictures, painting_sources
from vggquant.errors import OptionError, PictureError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, and what else lies about in folders."""
    for name in ("chelsea", "astronaut"):
        Image.fromarray(natural_picture(name)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._chelsea.png").write_bytes(b"what macOS leaves")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def test_pictures_of_ones_own(small: None, folder: Path) -> None:
    found = named_pictures(folder)
    assert list(found) == ["astronaut.png", "chelsea.png"]
    height, width = found["chelsea.png"].shape[2:]
    assert abs(height * width - 64 * 64) < 100


def test_names_that_look_the_same_stay_apart(small: None, tmp_path: Path) -> None:
    """Only 199 characters of a name are shown, and what cannot be printed is escaped."""
    colors = {"x" * 220 + "1.png": "red", "x" * 220 + "2.png": "lime", "x" * 220 + "3.png": "blue"}
    colors |= {"a\n.png": "black", "a\\n.png": "white"}
    for name, color in colors.items():
        Image.new("RGB", (32, 32), color).save(tmp_path / name)
    found = named_pictures(tmp_path)
    cut = "x" * 199 + "…"
    assert list(found) == ["a\\n.png", "a\\n.png (2)", cut, f"{cut} (2)", f"{cut} (3)"]
    means = [picture.mean(dim=(0, 2, 3)).tolist() for picture in found.values()]
    assert means == [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_within_an_unreadable_one(small: None, tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer").chmod(0)
    try:
        with pytest.raises(PictureError, match="expected a folder of pictures"):
            named_pictures(tmp_path / "outer" / "inner")
    finally:
        (tmp_path / "outer").chmod(0o700)


def test_generated_pictures_are_the_same_twice(small: None) -> None:
    once, again = named_pictures(None), named_pictures(None)
    assert list(once) == ["generated 0", "generated 1"]
    for name, picture in once.items():
        assert picture.shape == (1, 3, 64, 64)
        assert torch.equal(picture, again[name])


def test_the_six_pictures_of_the_design() -> None:
    found = named_pictures("scikit-image")
    assert tuple(found) == SCIKIT_IMAGE
    for picture in found.values():
        height, width = picture.shape[2:]
        assert abs(height * width - PIXELS_PER_PICTURE) < 0.01 * PIXELS_PER_PICTURE
    assert found["astronaut.png"].shape == (1, 3, 256, 256)


def test_what_is_no_folder_of_pictures_is_refused(small: None, folder: Path) -> None:
    (folder / "empty").mkdir()
    for name, message in (
        ("empty", "pictures in the folder"),
        ("missing", "a folder of pictures, got no such folder"),
        ("chelsea.png", "a folder of pictures, got a file"),
    ):
        with pytest.raises(PictureError, match=message):
            named_pictures(folder / name)


def test_a_thin_picture_is_refused(small: None, folder: Path) -> None:
    Image.new("RGB", (900, 2)).save(folder / "thin.png")
    message = r"thin\.png: expected sides of at least 16 pixels at 4,096 in all, got \d+ × 3; crop"
    with pytest.raises(PictureError, match=message):
        named_pictures(folder)


def test_the_first_two_pictures_are_painted_from_unless_others_are_named(small: None, tmp_path: Path) -> None:
    pictures = {name: torch.rand(1, 3, 16, 16) for name in "abc"}
    first = painting_sources(pictures, None, None)
    assert first["content"] is pictures["a"]
    assert first["style"] is pictures["b"]
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    named = painting_sources(pictures, None, tmp_path / "red.png")
    assert named["content"] is pictures["a"]
    assert named["style"].shape == (1, 3, 64, 64)
    assert named["style"].mean(dim=(0, 2, 3)).tolist() == [1, 0, 0]


def test_content_and_style_must_differ(small: None, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    with pytest.raises(OptionError, match="style: expected a style, got a single picture"):
        compare("vgg19", ["vgg19"], images=tmp_path, transfer=True)
    with pytest.raises(OptionError, match="two different pictures"):
        compare("vgg19", ["vgg19"], images=tmp_path, transfer=True, style=tmp_path / "one.png")


@pytest.mark.parametrize("role", ["content", "style"])
def test_a_thin_picture_to_paint_from_is_named(role: str, small: None, tmp_path: Path) -> None:
    Image.new("RGB", (900, 2)).save(tmp_path / "thin.png")
    pictures = {name: torch.rand(1, 3, 16, 16) for name in "ab"}
    with pytest.raises(PictureError, match=r"thin\.png: expected sides of at least 16 pixels"):
        painting_sources(pictures, **{"content": None, "style": None, role: tmp_path / "thin.png"})


def test_pictures_that_cannot_be_read_are_named(small: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "damaged.png").write_bytes((folder / "chelsea.png").read_bytes()[:500])
    with pytest.raises(PictureError, match=r"damaged\.png: expected an undamaged picture"):
        named_pictures(folder)

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PictureError) as caught:
        named_pictures(folder)
    expected = "expected a readable folder of pictures, got Permission denied; check its permissions"
    assert str(caught.value) == f"{folder}: {expected}"
