"""Painting in any style with the network that predicts numbers of it, from files to files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import run
from vggquant import load_stylizer
from vggquant.errors import PictureError
from vggquant.files.container import write
from vggquant.files.disk import read_file, sha256
from vggquant.models.arbitrary import Arbitrary
from vggquant.networks.arbitrary import ArbitraryNetwork, steered_names
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.style import any_style
from vggquant.style.any_style import paint_in_styles
from vggquant.style.style_files import read_style
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "painter.safetensors"
    painter = Arbitrary(ArbitraryNetwork((4, 6, 8), steered_names(), predictor=(8,) * 9))
    write(path, palettized(unquantized(painter, "for a test"), 8, None))
    return path


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    names = ["content.png", "first.png", "second.png"]
    for name, array in zip(names, generated_pictures(3, 40, 56, 5), strict=True):
        Image.fromarray(array).save(name)
    return names


def pixels(path: str) -> torch.Tensor:
    return read_picture(path).pixels


def test_several_styles_with_weights_and_a_strength(network: Path, pictures: list[str]) -> None:
    content, *styles = pictures
    result = run(
        "stylize", *pictures, "-o", "out.png", "--network", network, "--style-weight", "0.7,0.3", "--strength", "0.6"
    )
    assert result.exit_code == 0, result.output
    painter = load_stylizer(network)
    assert isinstance(painter, Arbitrary)
    looked_at = [read_picture(style, pixels=any_style.LOOKED_AT).pixels for style in styles]
    expected = painter(pixels(content), looked_at, weights=[0.7, 0.3], strength=0.6)
    torch.testing.assert_close(pixels("out.png"), expected, atol=0.003, rtol=0)


def test_a_saved_style_paints_as_its_pictures_do(network: Path, pictures: list[str]) -> None:
    content = pictures[0]
    paint_in_styles(content, pictures[1:], "a.png", network, style_weights=[0.7, 0.3], save_style="style.json")
    paint_in_styles(content, ["style.json"], "b.png", network)
    assert torch.equal(pixels("a.png"), pixels("b.png"))
    assert read_style("style.json", sha256(read_file(network))).shape == (1, 100)
    # in the place of a picture, in the order in which styles were named
    paint_in_styles(content, ["style.json", "second.png"], "c.png", network, style_weights=[1, 0])
    assert torch.equal(pixels("c.png"), pixels("a.png"))
    paint_in_styles(content, ["second.png", "style.json"], "d.png", network, style_weights=[0, 1])
    assert torch.equal(pixels("d.png"), pixels("a.png"))


def test_a_saved_style_is_the_same_whatever_the_contents_size(network: Path, pictures: list[str]) -> None:
    found = []
    for size in (56, 28):
        paint_in_styles(pictures[0], pictures[1:2], "a.png", network, size=size, save_style="style.json", force=True)
        found.append(Path("style.json").read_text())
    assert found[0] == found[1]
    paint_in_styles(pictures[0], pictures[1:2], "a.png", network, style_size=30, save_style="style.json", force=True)
    assert Path("style.json").read_text() != found[0]


def test_an_existing_style_is_kept(network: Path, pictures: list[str]) -> None:
    Path("style.json").write_text("mine")
    result = run("stylize", *pictures, "-o", "out.png", "--network", network, "--save-style", "style.json")
    assert result.exit_code == 1
    assert Path("style.json").read_text() == "mine"
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (["--network", "adain", "--save-style", "x.json"], "--save-style: expected a network whose styles are numbers"),
        (["--network", "starry", "--save-style", "x.json"], "--save-style: expected an option that serves with"),
        (["--save-style", "x.json"], "--save-style: expected an option that serves without"),
        (["--network", "NET", "--save-style", "x.png"], "--save-style: expected a name that ends in .json"),
        (
            ["--network", "NET", "--save-style", "x.json", "--mask", "content.png"],
            "--save-style: expected one style for the whole picture, got masks; leave one of them out",
        ),
        (["style.json", "--network", "adain"], "style.json: expected a picture, at which adain looks, got numbers"),
        (
            ["style.json", "--network", "NET", "--preserve-color", "linear"],
            "style.json: expected a picture, which linear recolours, got numbers of a style; choose luminance, or name",
        ),
        (["style.json", "--network", "arbitrary"], "style.json: network: expected numbers of the network"),
    ],
)
def test_what_does_not_serve_is_refused(network: Path, pictures: list[str], options: list[str], refusal: str) -> None:
    paint_in_styles("content.png", ["first.png"], "any.png", network, save_style="style.json")
    named = [str(network) if option == "NET" else option for option in options]
    result = run("stylize", "content.png", "first.png", *named, "-o", "out.png")
    assert result.exit_code in (1, 2)
    assert result.stderr.splitlines()[-1].startswith(f"Error: {refusal}")
    assert not Path("out.png").exists()


def test_pictures_too_large_for_the_memory_are_refused(
    network: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(any_style, "available_memory", lambda device: 151.6e6)
    with pytest.raises(PictureError, match=r"content.png: expected a painting in the 0.15 GB .*; choose \d+ × \d+ pix"):
        paint_in_styles("content.png", ["first.png"], "any.png", network)
