from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import on_a_terminal
from tests.conftest import GOLDEN, run

SMALL = GOLDEN / "planes-4.safetensors"


def test_stylize(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    result = run("stylize", content, style, style, "-o", out, "--steps", "3", "--size", "32")
    assert result.exit_code == 0, result.output
    assert "32 × 24 pixels, 3 steps" in result.stdout
    with Image.open(out) as image:
        assert image.size == (32, 24)
    assert run("stylize", content, style, "-o", out).exit_code == 1  # exists
    weights = pictures / "small.safetensors"
    run("pack", "vgg19", weights, "--bits", "1", "--upto", "relu5_1")
    options = ("--steps", "1", "--pixels", "768", "--weights", weights, "--force")
    assert run("stylize", content, style, "-o", out, *options).exit_code == 0


def settings_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        found: dict[str, Any] = json.loads(image.text["vggquant"])
        return found


def test_a_picture_tells_what_made_it_and_can_be_made_again(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("--steps", "4", "--start", "noise", "--seed", "7", "--tv-weight", "0.5", "--style-layer", "relu2_1=3")
    assert run("stylize", content, style, "-o", out, "--size", "40", *given).exit_code == 0
    found = settings_of(out)
    assert found["step"] == found["options"]["steps"] == 4
    assert found["options"]["style_layers"] == {"relu2_1": 3}
    assert found["options"]["seed"] == 7
    assert found["size"] == [40, 30]
    assert found["sha256"]["content"] == hashlib.sha256(content.read_bytes()).hexdigest()
    assert found["sha256"]["styles"] == [hashlib.sha256(style.read_bytes()).hexdigest()]
    assert found["sha256"]["weights"].startswith("ec61039e")
    assert str(pictures) not in json.dumps(found)
    again = pictures / "again.png"
    assert run("stylize", content, style, "-o", again, "--size", "40", *given, "--deterministic").exit_code == 0
    assert again.read_bytes() == out.read_bytes()


def test_pictures_on_the_way_and_resuming(pictures: Path) -> None:
    content, style, out, folder = (pictures / name for name in ("content.png", "style.png", "out.png", "way/there"))
    given = ["stylize", content, style, "-o", out, "--size", "64", "--steps", "12", "--scales", "2"]
    saves = ("--save-every", "3", "--save-to", folder, "--save-prefix", "p-")
    assert run(*given, *saves).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "p-03.png",
        "p-06.png",
        "p-09.png",
        "p-12.png",
        "p-12.png.state",
    ]
    assert settings_of(folder / "p-03.png")["step"] == 3
    with Image.open(folder / "p-03.png") as early, Image.open(folder / "p-09.png") as late:
        assert (early.size, late.size) == ((32, 24), (64, 48))
    assert np.array_equal(np.asarray(Image.open(folder / "p-12.png")), np.asarray(Image.open(out)))

    again = run(*given, *saves, "--force", "--resume", folder / "p-09.png")
    assert again.exit_code == 0, again.output
    assert settings_of(out) == settings_of(folder / "p-12.png")
    result = run(*given, *saves, "--resume", folder / "p-03.png")
    assert result.exit_code == 1  # out exists
    result = run(*given, "--force", "--resume", folder / "p-03.png", "--content-weight", "2")
    assert result.exit_code == 2
    assert "p-03.png: expected --content-weight 1.0, as before, got 2.0; repeat the command" in result.stderr
    result = run(*given, "--force", "--resume", style)
    assert "the settings of a transfer in a PNG's text" in result.stderr
    result = run(*given, "--force", "--resume", folder / "p-03.png", "--start", style)
    assert result.exit_code == 2
    blocked = run(*given[:4], pictures / "new.png", *given[5:], *saves)
    assert blocked.exit_code == 1
    assert "p-03.png: expected a new file" in blocked.stderr
    assert not (pictures / "new.png").exists()


def test_ctrl_c_writes_the_picture_reached(pictures: Path) -> None:
    content, style, out, whole = (pictures / f"{name}.png" for name in ("content", "style", "out", "whole"))
    given = ("stylize", content, style, "--steps", "12", "--size", "32", "--style-size", "64", "-o")
    code, _, shown = on_a_terminal(*given, out, interrupt_at=b"/12")
    assert code == 130
    step = settings_of(out)["step"]
    assert 0 < step < 12
    said = f"Interrupted after step {step} of 12; {out} holds the picture reached, 32 × 24 pixels, to go on from with "
    assert shown.decode().replace("\r\n", "\n").endswith(f"\n{said}--resume\n")
    assert run(*given, out, "--resume", out, "--force").exit_code == 0
    assert run(*given, whole).exit_code == 0
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(whole)))
    assert sorted(path.name for path in pictures.iterdir()) == ["content.png", "out.png", "style.png", "whole.png"]


def test_the_content_lends_transparency_and_profile(pictures: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    with Image.open(content) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(content, icc_profile=profile)
        alpha = np.asarray(image.getchannel("A"))
    given = ("--steps", "3", "--size", "32", "--save-every", "1", "--save-to", pictures, "--scales", "2")
    shallow = ("--content-layer", "relu3_1", "--style-layer", "relu3_1")  # which see pictures as small as these
    assert run("stylize", content, style, "-o", out, *given, *shallow).exit_code == 0
    with Image.open(out) as image:
        assert image.mode == "RGBA"
        assert np.array_equal(np.asarray(image.getchannel("A")), alpha)
        assert image.info["icc_profile"] == profile
    with Image.open(pictures / "1.png") as image:
        assert (image.mode, image.size) == ("RGBA", (16, 12))


SHALLOW = ("--content-layer", "relu1_2", "--style-layer", "relu1_1")


@pytest.fixture
def mask(pictures: Path) -> Path:
    """The right half, in white."""
    path = pictures / "mask.png"
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 16, 1)).save(path)
    return path


def test_masks_and_colours_and_places(pictures: Path, mask: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("-o", out, "--steps", "2", "--size", "32", "--force")
    more: tuple[str | Path, ...]
    for more in (
        ("--mask", mask, "--mask", "none", "--style-weight", "1", "--style-weight", "2"),
        ("--preserve-color", "luminance"),
        ("--preserve-color", "linear", "--optimizer", "adam", "--pooling", "avg"),
        ("--supplemental-device", "cpu", "20", "--supplemental-device", "cpu", "36"),
        ("--style-size", "40", "--start", "grey"),
        # shallow, because processors without bf16 take their time over it
        ("--style-pixels", "600", "--start", style, "--precision", "bf16", *SHALLOW),
    ):
        result = run("stylize", content, style, style, *given, *more)
        assert result.exit_code == 0, (more, result.output)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--mask mask.png", "mask: expected one for each style, or none at all, got 1 for 2"),
        ("--style-weight 1", "--style-weight: expected one for each style, 2"),
        ("--content-layer relu4_2=x", "expected LAYER or LAYER=WEIGHT, got relu4_2=x"),
        ("--content-layer relu9_2", "--content-layer: expected a layer, conv1_1 … pool5, got relu9_2; did you mean"),
        ("--content-layer =2", "--content-layer: expected a layer, conv1_1 … pool5, got ''; choose one of these"),
        ("--supplemental-device cpu 99", "--supplemental-device: expected 1 to"),
        ("--supplemental-device cpu conv5_9", "got conv5_9; did you mean conv5_4?"),
        ("--device abacus", "--device: expected a device that torch has here, got abacus"),
        ("--supplemental-device abacus 3", "--supplemental-device: expected a device that torch has here, got abacus"),
        ("--style-layer relu1_1=1 --style-layer relu1_1=2", "expected each layer once"),
        ("--style-weight -30,1", "--style-weight: expected a finite number from 0 up, got -30.0; choose 0 or more"),
        ("--style-weight 1,2,3", "--style-weight: expected one for each style, 2"),
        ("--tv-weight nan", "--tv-weight: expected a finite number from 0 up, got nan"),
        ("--content-weight -1", "--content-weight: expected a finite number from 0 up, got -1.0"),
        ("--style-layer relu1_1=-2", "--style-layer: expected a finite number from 0 up for relu1_1, got -2.0"),
        ("--scales 4 --steps 30", "scales: expected sides of at least"),
        ("--pixels 900", "--size: expected a side or an area, got both; leave out --size or --pixels"),
        ("--style-size 30 --style-pixels 900", "--style-size: expected a side or an area, got both; leave out"),
        ("--save-to mask.png", "add it"),
        ("--save-prefix a", "add it"),
    ],
)
def test_wrong_options_are_refused(
    more: str, message: str, pictures: Path, mask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mask.parent)
    given = ("content.png", "style.png", "style.png", "-o", "out.png", "--steps", "2", "--size", "32")
    result = run("stylize", *given, *more.split())
    assert result.exit_code == 2, more
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (pictures / "out.png").exists()


def test_options_reach_the_transfer(pictures: Path, mask: Path) -> None:
    """Each changes the picture, which is else the same twice."""
    content, style, other = (pictures / f"{name}.png" for name in ("content", "style", "other"))
    Image.effect_noise((40, 30), 80).convert("RGB").save(other)

    def paint(*more: object, name: str = "out") -> bytes:
        out = pictures / f"{name}.png"
        given = ("--steps", "3", "--size", "64", "--force", "--style-weight", "1", "--style-weight", "1")
        result = run("stylize", content, style, other, "-o", out, *given, *more)
        assert result.exit_code == 0, result.output
        with Image.open(out) as image:
            return bytes(np.asarray(image))

    plain = paint()
    assert paint("--deterministic") == plain
    assert not torch.are_deterministic_algorithms_enabled()
    seen = {plain}
    for more in (
        ("--pooling", "avg"),
        ("--style-pixels", "5000"),
        ("--style-size", "100"),
        ("--content-weight", "50"),
        ("--tv-weight", "100"),
        ("--start", other),
        ("--start", "grey"),
        SHALLOW,
        (*SHALLOW, "--precision", "bf16"),
        ("--optimizer", "adam"),
        ("--preserve-color", "luminance"),
        ("--preserve-color", "linear"),
        ("--mask", mask, "--mask", "none"),
        ("--mask", "none", "--mask", mask),
        ("--style-layer", "relu1_1=3", "--style-layer", "relu2_1"),
        ("--content-layer", "relu3_1"),
    ):
        found = paint(*more)
        assert found not in seen, more
        seen.add(found)


def test_no_steps_change_no_colour_of_what_is_transparent(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    with Image.open(content) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(content)
        expected, size = np.asarray(image).astype(int), image.size
    assert run("stylize", content, style, "-o", out, "--steps", "0", "--size", max(size)).exit_code == 0
    with Image.open(out) as image:
        found = np.asarray(image).astype(int)
    solid = expected[..., 3] > 8
    assert np.array_equal(found[..., 3], expected[..., 3])
    assert np.abs(found - expected)[solid].max() <= 1
    out = pictures / "out.jpg"
    result = run("stylize", content, style, "-o", out, "--steps", "0", "--size", max(size))
    assert "JPEG keeps no transparency" in result.stderr


def test_outputs_are_looked_at_before_work(pictures: Path) -> None:
    content, style = (pictures / f"{name}.png" for name in ("content", "style"))
    given = ("stylize", content, style, "--size", "32", "--steps", "10", "-o")
    result = run(*given, pictures / "05.png", "--save-every", "5", "--save-to", pictures)
    assert result.exit_code == 2
    assert "another name than that of a picture on the way" in result.stderr
    result = run(*given, pictures / "o.png", "--save-every", "5", "--save-to", content)
    assert result.exit_code == 1
    assert f"Error: {content}: expected a folder, or a place for one, got File exists" in result.stderr
    Image.new("RGB", (1000, 1)).save(pictures / "long.png")
    result = run("stylize", pictures / "long.png", style, "--size", "16400", "--steps", "0", "-o", pictures / "o.webp")
    assert result.exit_code == 1
    assert "at most 16383 pixels a side in .webp, got 16400" in result.stderr
    assert not (pictures / "o.webp").exists()


def test_a_style_too_small_is_named(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("stylize", content, content, style, "-o", out, "--size", "64", "--steps", "1")
    result = run(*given, "--style-size", "20")
    assert result.exit_code == 1
    assert f"{content}: styles[0]: expected sides of at least 16 pixels for relu5_1" in result.stderr
    assert "; choose --style-size 22 or more" in result.stderr
    assert not out.exists()
    result = run(*given, "--style-size", "22")
    assert f"{style}: styles[1]: " in result.stderr
    assert "; choose --style-size 32 or more" in result.stderr
    assert run(*given, "--style-size", "32").exit_code == 0


@pytest.mark.parametrize("more", [("--size", "20"), ("--pixels", "300")])
def test_a_size_too_small_is_what_is_to_be_changed(pictures: Path, more: tuple[str, str]) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("stylize", content, style, "-o", out, "--steps", "1")
    result = run(*given, *more)
    assert result.exit_code == 1
    assert f"{content}: expected sides of at least 16 pixels for relu5_1" in result.stderr
    assert result.stderr.endswith("; choose --size 22 or more\n")
    assert run(*given, "--size", "22", "--style-size", "32").exit_code == 0


def test_a_picture_too_narrow_for_any_size_is_to_be_cropped(pictures: Path) -> None:
    Image.new("RGB", (1, 4000)).save(pictures / "line.png")
    result = run("stylize", pictures / "line.png", pictures / "style.png", "-o", pictures / "out.png")
    assert result.exit_code == 1
    assert "for relu5_1, got 1 × 4000; crop it, so that it is less narrow" in result.stderr


def test_the_size_is_the_contents_own_unless_that_is_large(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("-o", out, "--steps", "0", "--force")
    result = run("stylize", content, style, *given)
    assert (result.stdout, result.stderr) == (f"{out}: 32 × 24 pixels, 0 steps\n", "")
    assert "64 × 48 pixels" in run("stylize", content, style, *given, "--pixels", "3072").stdout
    large = pictures / "large.png"
    Image.new("RGB", (1000, 500)).save(large)
    result = run("stylize", large, style, *given)
    assert "707 × 354 pixels" in result.stdout
    note = f"{large}: reduced from 1000 × 500 to 707 × 354 pixels; pass --size for another size\n"
    assert result.stderr == note
    for asked in (("--size", "707"), ("--pixels", "250000")):
        result = run("stylize", large, style, *given, *asked)
        assert "707 × 354 pixels" in result.stdout
        assert result.stderr == ""
    assert "1000 × 500 pixels" in run("stylize", large, style, *given, "--size", "1000").stdout


def test_options_have_other_spellings(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    more = ("--start", "gray", "--precision", "bfloat16", "--style-weight", "0.7,0.3", "--steps", "1")
    result = run("stylize", content, style, style, "-o", out, *more)
    assert result.exit_code == 0, result.output
    found = settings_of(out)["options"]
    assert (found["start"], found["precision"], found["style_weights"]) == ("grey", "bf16", [0.7, 0.3])
    repeated = ("--start", "grey", "--precision", "bf16", "--style-weight", "0.7", "--style-weight", "0.3")
    assert run("stylize", content, style, style, "-o", pictures / "b.png", *repeated, "--steps", "1").exit_code == 0
    assert settings_of(pictures / "b.png")["options"] == found


def test_an_animations_first_frame_is_painted_and_that_is_said(pictures: Path) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    frames[0].save(pictures / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    out = pictures / "out.png"
    result = run("stylize", pictures / "moving.webp", pictures / "style.png", "-o", out, "--steps", "0", "--size", "32")
    assert result.exit_code == 0
    assert result.stderr == f"{pictures / 'moving.webp'}: only the first of its frames is used\n"
    with Image.open(out) as image:
        assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_layers_are_listed() -> None:
    result = run("stylize", "--list-layers")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["0", "conv1_1"]
    assert lines[22].split() == ["22", "relu4_2"]
    assert len(lines) == 37


def test_layers_are_listed_of_the_weights_that_are_named(tmp_path: Path) -> None:
    short = tmp_path / "short.safetensors"
    run("pack", "vgg19", short, "--bits", "1", "--upto", "relu2_1")
    for arguments in (("--weights", short, "--list-layers"), ("--list-layers", "--weights", short)):
        result = run("stylize", *arguments)
        assert result.exit_code == 0
        assert result.stdout.split()[1::2] == [
            "conv1_1",
            "relu1_1",
            "conv1_2",
            "relu1_2",
            "pool1",
            "conv2_1",
            "relu2_1",
        ]
    result = run("stylize", "--list-layers", "--weights", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path / 'nowhere'}: expected a readable file")
    assert run("stylize", "--weights", short).exit_code == 2  # which lists nothing


def test_stylize_refuses_small_pictures_devices_and_cut_weights(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    result = run("stylize", content, style, "-o", out, "--size", "8")
    assert result.exit_code == 1
    assert "sides of at least 16 pixels for relu5_1, got 8 × 6; choose --size 22 or more" in result.stderr
    result = run("stylize", content, style, "-o", out, "--device", "nonsense")
    assert result.exit_code == 2
    assert "a device that torch has here, got nonsense" in result.stderr
    result = run("stylize", content, style, "-o", out, "--weights", SMALL)
    assert result.exit_code == 1
    assert f"Error: {SMALL}: expected layers up to relu5_1 to paint with" in result.stderr
    assert not out.exists()


def test_stylize_never_writes_over_what_it_reads(pictures: Path) -> None:
    content, style, weights = pictures / "content.png", pictures / "style.png", pictures / "weights.png"
    run("pack", "vgg19", weights, "--bits", "1", "--upto", "relu5_1")
    for out in (content, style, weights):
        before = out.read_bytes()
        result = run("stylize", content, style, "-o", out, "--weights", weights, "--force")
        assert result.exit_code == 1
        assert "the same file" in result.stderr
        assert out.read_bytes() == before


def test_cuda_is_used_where_it_is(pictures: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    assert run("stylize", content, style, "-o", out, "--steps", "2", "--device", "cuda").exit_code == 0


def test_one_step_is_one(pictures: Path) -> None:
    given = ("stylize", pictures / "content.png", pictures / "style.png", "-o", pictures / "out.png")
    assert "32 × 24 pixels, 1 step;" in run(*given, "--steps", "1").stdout
    result = run(*given, "--save-to", pictures, "--force")
    assert result.stderr.startswith(
        "Error: --save-every: expected a number of steps, since a folder or prefix is named"
    )
