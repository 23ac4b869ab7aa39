"""Painting in any style in one pass, from files to a file, and as the start of an optimisation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import run
from tests.sealing import reseal, unseal
from vggquant import load_stylizer
from vggquant.errors import NetworkError, OptionError, PictureError, StorageError
from vggquant.files.container import write
from vggquant.files.disk import sha256
from vggquant.files.sources import embedded_path
from vggquant.models.adain import AdaIN
from vggquant.networks.adain import AdaINNetwork
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.style import StyleOptions, any_style, paint
from vggquant.style.any_style import paint_in_styles
from vggquant.style.feedforward import paint_in_one_pass
from vggquant.training.packing import palettized, unquantized


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    painter = AdaIN(AdaINNetwork((8,) * 9))
    painter.decoder.get_submodule("conv1_1").get_parameter("bias").data.fill_(0.5)
    path = tmp_path_factory.mktemp("network") / "painter.safetensors"
    write(path, palettized(unquantized(painter, "for a test"), 8, None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several kinds."""
    made = generated_pictures(3, 40, 56, 5)
    for name, picture in zip(("content", "a", "b"), made, strict=True):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        Image.fromarray(picture).convert("CMYK").save(tmp_path / f"{name}-cmyk.jpg")
        alpha = np.linspace(0, 255, 40 * 56).reshape(40, 56, 1).astype(np.uint8)
        Image.fromarray(np.concatenate([picture, alpha], 2)).save(tmp_path / f"{name}-alpha.png")
    Image.new("RGB", (30, 20), "teal").save(tmp_path / "flat.png")
    Image.new("RGB", (1, 1), "teal").save(tmp_path / "one.png")
    mask = np.zeros((40, 56), np.uint8)
    mask[:, 28:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def painted(folder: Path, network: object, *styles: str, content: str = "content.png", **given: Any) -> torch.Tensor:
    out = folder / "out.png"
    paint_in_styles(folder / content, [folder / style for style in styles], out, str(network), force=True, **given)
    return read_picture(out).pixels


def test_a_picture_is_painted_as_the_module_paints_it(folder: Path, network: Path) -> None:
    found = painted(folder, network, "a.png", "b.png", strength=0.5, style_weights=[3, 1])
    content, *styles = (read_picture(folder / f"{name}.png").pixels for name in ("content", "a", "b"))
    expected = load_stylizer(network)(content, styles, strength=0.5, weights=[3, 1])
    assert torch.allclose(found, expected, atol=1 / 255)
    told = json.loads(read_picture(folder / "out.png").settings or "")
    assert (told["strength"], told["style_weights"], told["preserve_color"]) == (0.5, [3, 1], "none")
    assert told["network"] == sha256(network.read_bytes())
    assert told["sha256"]["content"] == sha256((folder / "content.png").read_bytes())
    assert told["style_sizes"] == [[56, 40], [56, 40]]
    assert str(folder) not in json.dumps(told)


def test_sizes_transparency_and_notes(folder: Path, network: Path) -> None:
    assert painted(folder, network, "a.png", size=28, style_size=20).shape == (1, 3, 20, 28)
    assert json.loads(read_picture(folder / "out.png").settings or "")["style_sizes"] == [[20, 14]]
    painted(folder, network, "a-alpha.png", content="content-alpha.png")
    before, after = (read_picture(folder / name).alpha for name in ("content-alpha.png", "out.png"))
    assert before is not None
    assert after is not None
    assert torch.equal(before, after)
    report = paint_in_styles(folder / "content-alpha.png", [folder / "a.png"], folder / "out.jpg", network)
    assert report.notes == (f"{folder / 'out.jpg'}: JPEG keeps no transparency; it is painted over white",)


@pytest.mark.parametrize("style", ["flat.png", "one.png", "a-alpha.png", "a-cmyk.jpg"])
def test_odd_styles_are_painted_in(folder: Path, style: str) -> None:
    found = painted(folder, "adain", style)
    assert found.shape == (1, 3, 40, 56)
    assert found.isfinite().all()


@pytest.mark.parametrize("content", ["flat.png", "one.png", "content-cmyk.jpg"])
def test_odd_contents_are_painted(folder: Path, network: Path, content: str) -> None:
    size = read_picture(folder / content).size
    assert painted(folder, network, "a.png", content=content).shape == (1, 3, *size)


def test_colours_of_the_content_can_be_kept(folder: Path, network: Path) -> None:
    from vggquant.pictures.colors import luminance

    kinds: dict[str, Any] = {
        kind: painted(folder, network, "a.png", preserve_color=kind) for kind in ("none", "linear")
    }
    assert not torch.allclose(kinds["none"], kinds["linear"], atol=0.002)
    kept = painted(folder, network, "a.png", preserve_color="luminance")
    content = read_picture(folder / "content.png").pixels
    inside = ((kept > 0.01) & (kept < 0.99)).all(1, keepdim=True)
    chroma = [(x - luminance(x)) * inside for x in (kept, content)]
    assert inside.float().mean() > 0.3
    assert torch.allclose(chroma[0], chroma[1], atol=0.01)


def test_masks(folder: Path, network: Path) -> None:
    plain, none = (painted(folder, network, "a.png", strength=strength, size=168) for strength in (1, 0))
    found = painted(folder, network, "a.png", masks=[folder / "mask.png"], size=168)
    # all but what the decoder sees of the other half
    assert torch.equal(found[..., :48], none[..., :48])
    assert torch.equal(found[..., -48:], plain[..., -48:])
    assert not torch.equal(plain, none)
    with pytest.raises(OptionError, match="masks: expected one for each style, or none at all, got 1 for 2"):
        painted(folder, network, "a.png", "b.png", masks=[folder / "mask.png"])


def test_pictures_too_large_for_the_memory_are_refused_with_a_size_that_fits(
    folder: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = load_stylizer(network)
    assert isinstance(painter, AdaIN)
    each = any_style._memory(painter, 1600 * 1200, 1600 * 1200)
    monkeypatch.setattr(any_style, "available_memory", lambda _: each / 2)
    Image.new("RGB", (1600, 1200)).save(folder / "large.png")
    monkeypatch.setattr(AdaIN, "forward", None)
    with pytest.raises(
        PictureError, match=r"large\.png: expected a painting in the .* GB left on cpu, got one"
    ) as said:
        painted(folder, network, "a.png", content="large.png")
    monkeypatch.undo()
    width, _, height = said.value.cure.split()[1:4]
    area = int(width) * int(height)
    assert any_style._memory(painter, area, area) <= each / 2
    assert area > 0.1 * 1600 * 1200
    monkeypatch.setattr(any_style, "available_memory", lambda _: 1e6)
    with pytest.raises(PictureError, match="choose smaller styles"):
        painted(folder, network, "a.png", style_size=800)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("A", "--network", "starry", "--strength", "0.5"), "--strength: expected an option that serves with a"),
        (("A", "--strength", "0.5"), "--strength: expected an option that serves without a --network"),
        (("--network", "adain"), "expected a style or more, got none"),
        (("A", "--network", "adain", "--steps", "5"), "--steps: expected an option that serves with a --network that"),
        (("A", "--network", "adain", "--strength", "2"), "--strength: expected a number from 0 to 1, got 2.0"),
        (("A", "--network", "adain", "--style-weight", "1,2"), "--style-weight: expected one for each style, 1"),
        (("--network", "vgg19"), "expected a network that paints, got a network of the family vgg"),
        (("A", "--weights", "adain"), "expected a VGG"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(folder: Path, given: tuple[str, ...], said: str) -> None:
    files = [str(folder / "a.png") if word == "A" else word for word in given]
    result = run("stylize", folder / "content.png", *files, "-o", folder / "out.png")
    assert result.exit_code in (1, 2), result.output
    assert said in result.stderr
    assert sum(line.startswith("Error") for line in result.stderr.splitlines()) == 1
    assert not (folder / "out.png").exists()


def test_files_mixed_up_are_refused(folder: Path, network: Path) -> None:
    with pytest.raises(OptionError, match="expected a network that takes any style, got one of the family johnson"):
        painted(folder, "starry", "a.png")
    with pytest.raises(OptionError, match="expected a network that knows its style, got one of the family adain"):
        paint_in_one_pass([folder / "content.png"], folder / "out.png", network)
    with pytest.raises(NetworkError, match="vgg19: expected a network that paints"):
        painted(folder, "vgg19", "a.png")
    with pytest.raises(StorageError, match="expected an output other than the source"):
        paint_in_styles(folder / "content.png", [folder / "a.png"], folder / "a.png", network, force=True)


@pytest.mark.parametrize("channels", [[10**9] * 9, [1024] * 8 + [1025], [0] * 9, [8] * 900])
def test_records_with_absurd_channels_are_refused(folder: Path, network: Path, channels: list[int]) -> None:
    header, metadata, body = unseal(network.read_bytes())
    metadata["network"]["configuration"]["channels"] = channels
    (folder / "x").write_bytes(reseal(header, metadata, body))
    result = run(
        "stylize", folder / "content.png", folder / "a.png", "-o", folder / "out.png", "--network", folder / "x"
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {folder / 'x'}: network.channels: expected ")
    assert result.stderr.count("\n") == 1


def test_the_command(folder: Path, network: Path) -> None:
    out = folder / "out.png"
    given = ("stylize", folder / "content.png", folder / "a.png", folder / "b.png", "-o", out, "--network", network)
    result = run(*given, "--strength", "0.5", "--style-weight", "2,1", "--mask", "none", "--mask", folder / "mask.png")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: 56 × 40 pixels\n"
    assert json.loads(read_picture(out).settings or "")["style_weights"] == [2, 1]


def test_an_optimisation_may_begin_with_its_painting(folder: Path) -> None:
    out, files = folder / "out.png", (folder / "content.png", [folder / "a.png"])
    options = StyleOptions(steps=1, scales=1)
    losses = [paint(*files, out, options, start=start, force=True).loss["loss"] for start in (None, "adain")]
    assert losses[1] < losses[0]
    told = json.loads(read_picture(out).settings or "")
    assert told["sha256"]["start"] == sha256(embedded_path("adain").read_bytes())
    paint(*files, out, StyleOptions(steps=2, scales=1), resume=out, force=True)
    again = json.loads(read_picture(out).settings or "")
    assert again["sha256"]["start"] == told["sha256"]["start"]
    with pytest.raises(OptionError, match="start: expected a picture to start or to resume from, got both"):
        paint(*files, out, options, start="adain", resume=out, force=True)
