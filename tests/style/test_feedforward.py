"""Painting in one pass, from files to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import run
from vggquant.errors import NetworkError, OptionError, PictureError, StorageError
from vggquant.files.container import write
from vggquant.models.johnson import Johnson
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.style import paint_in_one_pass
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "painter.safetensors"
    write(path, palettized(unquantized(Johnson(JohnsonNetwork.stock("tiny", 0.25, 1)), "for a test"), 8, None))
    return path


@pytest.fixture
def contents(tmp_path: Path) -> list[Path]:
    """A JPEG, and a PNG with transparency and a profile."""
    from PIL import ImageCms

    first, second = generated_pictures(2, 40, 56, 5)
    paths = [tmp_path / "a.jpg", tmp_path / "b.png"]
    Image.fromarray(first).save(paths[0])
    alpha = np.full((40, 56, 1), 128, np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.concatenate([second, alpha], 2)).save(paths[1], icc_profile=profile)
    return paths


def test_a_picture_keeps_its_size_transparency_and_profile(network: Path, contents: list[Path], tmp_path: Path) -> None:
    (painted,) = paint_in_one_pass([contents[1]], tmp_path / "out.png", network)
    assert (painted.width, painted.height, painted.notes) == (56, 40, ())
    before, after = read_picture(contents[1]), read_picture(tmp_path / "out.png")
    assert after.icc == before.icc is not None
    assert after.alpha is not None
    assert before.alpha is not None
    assert torch.equal(after.alpha, before.alpha)
    assert not torch.allclose(after.pixels, before.pixels, atol=0.05)
    assert after.settings is not None
    assert '"network": "' in after.settings


def test_several_pictures_go_into_a_folder(network: Path, contents: list[Path], tmp_path: Path) -> None:
    seen: list[str] = []
    painted = paint_in_one_pass(
        contents, tmp_path / "new", network, size=28, progress=lambda progress: seen.append(progress.detail)
    )
    assert seen == ["a.jpg", "b.png"]
    assert [Path(each.path).name for each in painted] == ["a.jpg", "b.png"]
    assert {read_picture(each.path).size for each in painted} == {(20, 28)}
    with pytest.raises(StorageError, match="expected a new file"):
        paint_in_one_pass(contents, tmp_path / "new", network)
    paint_in_one_pass(contents, tmp_path / "new", network, force=True)
    assert {read_picture(each.path).size for each in painted} == {(40, 56)}


def test_jpeg_says_that_it_keeps_no_transparency(network: Path, contents: list[Path], tmp_path: Path) -> None:
    (painted,) = paint_in_one_pass([contents[1]], tmp_path / "out.jpg", network)
    assert painted.notes == (f"{tmp_path / 'out.jpg'}: JPEG keeps no transparency; it is painted over white",)


def test_what_cannot_be_painted_is_refused(network: Path, contents: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    with pytest.raises(OptionError, match=r"contents: expected contents of different names, got a\.jpg 2 times"):
        paint_in_one_pass([contents[0], contents[0]], tmp_path / "folder", network)
    with pytest.raises(OptionError, match="contents: expected a picture or more, got none"):
        paint_in_one_pass([], out, network)
    with pytest.raises(NetworkError, match="expected a network that paints"):
        paint_in_one_pass(contents[:1], out, "vgg19")
    with pytest.raises(StorageError, match="an output other than the source"):
        paint_in_one_pass(contents[1:], contents[1], network, force=True)
    Image.new("RGB", (30, 4)).save(tmp_path / "thin.png")
    with pytest.raises(PictureError, match=r"thin\.png: expected sides of at least 8 pixels, got 30 × 4"):
        paint_in_one_pass([tmp_path / "thin.png"], out, network)
    with pytest.raises(OptionError, match="size: expected a side or an area, got both"):
        paint_in_one_pass(contents[:1], out, network, size=20, pixels=400)
    with pytest.raises(OptionError, match="out: expected a folder for several contents, got the name of a picture"):
        paint_in_one_pass(contents, out, network)
    assert not out.exists()


def test_what_was_painted_before_a_refusal_is_said(network: Path, contents: list[Path], tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"c\.png: .*; of 2 the first 1 are painted"):
        paint_in_one_pass([contents[0], tmp_path / "c.png"], tmp_path / "folder", network)
    assert (tmp_path / "folder" / "a.jpg").exists()


def test_one_picture_may_go_into_a_folder_that_is_there(network: Path, contents: list[Path], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (painted,) = paint_in_one_pass(contents[0], tmp_path / "folder", network)
    assert painted.path == str(tmp_path / "folder" / "a.jpg")


def test_the_command(network: Path, contents: list[Path], tmp_path: Path) -> None:
    result = run("stylize", *contents, "-o", tmp_path / "folder", "--network", network, "--pixels", 1000)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2
    result = run("stylize", contents[0], "-o", tmp_path / "out.png", "--network", network)
    assert result.stdout == f"{tmp_path / 'out.png'}: 56 × 40 pixels\n"
    result = run("stylize", contents[0], "-o", tmp_path / "more.png", "--network", network, "--steps", 5)
    assert result.exit_code == 2
    said = "Error: --steps: expected an option that serves with a --network that knows one style, got this one; leave"
    assert said in result.stderr
    result = run("stylize", contents[0], "-o", tmp_path / "more.png")
    assert result.exit_code == 2
    assert "expected a STYLE after CONTENT, got none; name one, or a --network" in result.stderr
