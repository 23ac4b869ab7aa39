from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import GOLDEN, run
from vggquant.files.container import read

SMALL = GOLDEN / "planes-4.safetensors"


def test_pack_reports_and_info_and_verify_agree(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    result = run("pack", "vgg19", out, "--bits", "conv1_1=8,*=2", "--upto", "relu2_1")
    assert result.exit_code == 0, result.output
    assert "vgg19, 3 layers" in result.stdout
    table = run("info", out).stdout
    lines = table.splitlines()
    assert lines[0].split() == ["layer", "shape", "bits", "coding", "codebook", "bytes", "rate", "SQNR", "dB"]
    assert lines[1].split()[:5] == ["conv1_1", "64×3×3×3", "8", "planes", "256"]
    assert lines[2].split()[:5] == ["conv1_2", "64×64×3×3", "2", "planes", "4"]
    assert "vgg19 up to conv2_1" in table
    for text in ("Simonyan", "CC BY 4.0", "k-means", "caffe", "fits"):
        assert text in table
    assert "sound, 3 layers" in run("verify", out).stdout
    against = run("verify", out, "--against", "vgg19").stdout
    assert "lossless" in against.splitlines()[1]
    assert "SQNR over all weights:" in against


def test_a_size_instead_of_widths(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    result = run("pack", "vgg19", out, "--max-size", "100kB", "--upto", "relu2_2")
    assert result.exit_code == 0
    assert "left out conv3_1, conv3_2" in result.stderr
    assert 98_000 < out.stat().st_size <= 100_000  # one bit more anywhere is too much
    widths = [line.split()[2] for line in run("info", out).stdout.splitlines()[1:5]]
    assert len(set(widths)) > 1
    assert run("pack", "vgg19", out, "--max-size", "1kB", "--force").exit_code == 2
    assert out.stat().st_size > 98_000


def test_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    packed = json.loads(run("pack", SMALL, out, "--bits", "4", "--json").stdout)
    assert packed["info"]["bytes"] == out.stat().st_size
    info = json.loads(run("info", out, "--json", "--wheel").stdout)
    assert info["architecture"] == "vgg11"
    assert info["layers"][0]["sqnr_db"] == 12.5
    assert 0 < info["wheel_bytes"] < out.stat().st_size + 500
    verified = json.loads(run("verify", out, "--against", SMALL, "--json").stdout)
    assert verified["sqnr_db"] is None  # infinite
    assert verified["against"][0]["largest_error"] == 0


def test_info_of_the_embedded_weights() -> None:
    info = json.loads(run("info", "vgg19", "--json").stdout)
    assert info["weights"] == 20_018_880
    assert info["float32_bytes"] == 80_097_536
    assert info["fits_pypi"]
    assert info["complete"]
    assert info["sha256"] == "ec61039e8eb399aedb4640dd658e137a1385113ce3b7accfd16644d94e9abb53"


def test_verify_measures_against_any_layout(tmp_path: Path) -> None:
    run("pack", "vgg19", tmp_path / "x.safetensors", "--bits", "3", "--upto", "relu2_1")
    for name in ("a.h5", "a.pth"):
        assert run("unpack", "vgg19", tmp_path / name).exit_code == 0
        found = json.loads(run("verify", tmp_path / "x.safetensors", "--against", tmp_path / name, "--json").stdout)
        recorded = read(tmp_path / "x.safetensors").sqnr_db["conv1_2.weight"]
        assert found["against"][1]["sqnr_db"] == pytest.approx(recorded, abs=0.006)
        expected = np.abs(
            read(tmp_path / "x.safetensors").array("conv1_2.weight")
            - read(Path("vggquant/weights/vgg19.safetensors").absolute()).array("conv1_2.weight")
        ).max()
        assert found["against"][1]["largest_error"] == pytest.approx(float(expected))


def test_verify_refuses_another_architecture(tmp_path: Path) -> None:
    unpacked, cut = tmp_path / "vgg19.safetensors", tmp_path / "cut.safetensors"
    assert run("unpack", "vgg19", unpacked, "--layout", "caffe").exit_code == 0
    result = run("verify", SMALL, "--against", unpacked)
    assert result.exit_code == 1
    assert "name weights of vgg11 up to conv1_1" in result.stderr
    run("pack", "vgg19", cut, "--upto", "relu1_1")
    result = run("verify", "vgg19", "--against", cut)
    assert result.exit_code != 0
    assert "name weights of vgg19 up to conv5_4" in result.stderr


def test_verify_finds_unused_centroids_and_wrong_codes(tmp_path: Path) -> None:
    from tests.packed import rebuilt

    path = tmp_path / "x"
    path.write_bytes(rebuilt(weight_codes=np.zeros(648, np.uint8)))
    assert "every centroid used, got 7 unused" in run("verify", path).stderr
    path.write_bytes(rebuilt(weight_codes=np.full(648, 255, np.uint8), weight_codebook=np.arange(7, dtype=np.float32)))
    assert "codes below 7" in run("verify", path).stderr


def test_unpack_says_what_the_file_cannot(tmp_path: Path) -> None:
    result = run("unpack", SMALL, tmp_path / "x.pth")
    assert result.exit_code == 0
    assert "preprocessing torch" in result.stderr
    assert "Drawn at random" in result.stderr
    assert run("unpack", SMALL, tmp_path / "x.safetensors").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["info", "missing"], 1, "Error: missing: expected a readable file, got No such file or directory"),
        (["verify", __file__], 1, "expected a safetensors file"),
        (["pack", "vgg19", "/no/such/folder/x"], 1, "create it first"),
        (["pack", "vgg19", "x", "--bits", "9"], 2, "Error: bits: expected 1 to 8"),
        (["pack", "vgg19", "x", "--bits", "conv9_*=1,*=2"], 2, "Error: "),
        (["pack", "vgg19", "x", "--coding", "zip"], 2, "'zip' is not one of"),
        (["pack", "vgg19", "x", "--upto", "relu7_1"], 2, "relu7_1"),
        (["pack", "vgg19", "x", "--preprocessing", "torch"], 1, "preprocessing caffe, which the file is known to have"),
        (["pack", "vgg19", "x", "--arch", "vgg16"], 1, "architecture vgg19"),
        (["unpack", "vgg19", "x.npz"], 2, "expected an ending"),
        (["unpack", "vgg19", "x.h5", "--layout", "caffe"], 2, "layout keras for .h5"),
        (["stylize", "missing.png", "missing.png", "-o", "x.gif"], 1, "rename the output"),
        (["stylize", "missing.png", "missing.png", "-o", "x.png"], 1, "missing.png: expected a readable file"),
        (["nothing"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    if code == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_names_with_terminal_escapes_are_shown_harmless(tmp_path: Path) -> None:
    result = run("info", tmp_path / "\x1b[31mred\nline")
    assert result.exit_code == 1
    assert "\\x1b[31mred\\nline" in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_texts_of_strangers_are_shown_harmless(tmp_path: Path) -> None:
    from dataclasses import replace

    from vggquant.files.container import write

    weights = read(SMALL)
    hostile = replace(weights.provenance, layout="\x1b[31m\n", attribution="\x1b[2J", changes="a\rb")
    write(tmp_path / "x", replace(weights, provenance=hostile))
    result = run("info", tmp_path / "x")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert "a\\rb" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "vggquant", "info", "vgg19"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 1
    assert (
        result.stderr
        == "Error: standard output: expected to take text, got No space left on device; check where it goes\n"
    )


def test_a_closed_pipe_ends_quietly() -> None:
    result = subprocess.run(
        f"{sys.executable} -m vggquant info vgg19 | head -1", shell=True, capture_output=True, text=True
    )
    assert result.stdout.startswith("layer")
    assert "Traceback" not in result.stderr


def test_a_poor_terminal_gets_its_table() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "koi8-r"}
    command = [sys.executable, "-m", "vggquant", "info", "vgg19"]
    result = subprocess.run(command, capture_output=True, env=environment)
    assert result.returncode == 0
    assert b"conv1_1" in result.stdout


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, shape in (("content", (24, 32, 3)), ("style", (40, 20, 3))):
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


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
    assert sorted(path.name for path in folder.iterdir()) == ["p-03.png", "p-06.png", "p-09.png", "p-12.png"]
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
    assert result.exit_code == 1
    assert "p-03.png: expected a picture of this very transfer, got other options" in result.stderr
    result = run(*given, "--force", "--resume", style)
    assert "the settings of a transfer in a PNG's text" in result.stderr
    result = run(*given, "--force", "--resume", folder / "p-03.png", "--start", style)
    assert result.exit_code == 2
    blocked = run(*given[:4], pictures / "new.png", *given[5:], *saves)
    assert blocked.exit_code == 1
    assert "p-03.png: expected a new file" in blocked.stderr
    assert not (pictures / "new.png").exists()


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


def test_masks_and_colours_and_places(pictures: Path) -> None:
    content, style, out, mask = (pictures / f"{name}.png" for name in ("content", "style", "out", "mask"))
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 16, 1)).save(mask)
    given = ("-o", out, "--steps", "2", "--size", "32", "--force")
    more: tuple[str | Path, ...]
    for more in (
        ("--mask", mask, "--mask", "none", "--style-weight", "1", "--style-weight", "2"),
        ("--preserve-color", "luminance"),
        ("--preserve-color", "linear", "--optimizer", "adam", "--pooling", "avg"),
        ("--supplemental-device", "cpu", "20", "--supplemental-device", "cpu", "36"),
        ("--style-size", "40", "--start", "grey"),
        ("--style-pixels", "600", "--start", style, "--precision", "bf16"),
    ):
        result = run("stylize", content, style, style, *given, *more)
        assert result.exit_code == 0, (more, result.output)
    for more, message in (
        (("--mask", mask), "mask: expected one for each style, or none at all, got 1 for 2"),
        (("--style-weight", "1"), "style_weights: expected one for each style, 2"),
        (("--content-layer", "relu4_2=x"), "expected LAYER or LAYER=WEIGHT, got relu4_2=x"),
        (("--content-layer", "relu9_2"), "--content-layer: expected a layer conv1_1 … pool5, got “relu9_2”"),
        (("--supplemental-device", "cpu", "99"), "supplemental device: expected 1 to"),
        (("--supplemental-device", "cpu", "conv9_9"), "got conv9_9"),
        (("--supplemental-device", "abacus", "3"), "a device that torch has here, got abacus"),
        (("--style-layer", "relu1_1=1", "--style-layer", "relu1_1=2"), "expected each layer once"),
        (("--style-weight", "-1", "--style-weight", "1"), "finite numbers from 0 up"),
        (("--scales", "4", "--steps", "30"), "scales: expected sides of at least"),
        (("--save-to", mask), "add it"),
    ):
        result = run("stylize", content, style, style, *given, *more)
        assert result.exit_code == 2, more
        assert message in result.stderr
        assert "Traceback" not in result.output


def test_options_reach_the_transfer(pictures: Path) -> None:
    """Each changes the picture, which is else the same twice."""
    content, style, other, mask = (pictures / f"{name}.png" for name in ("content", "style", "other", "mask"))
    Image.effect_noise((40, 30), 80).convert("RGB").save(other)
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 16, 1)).save(mask)

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
        ("--precision", "bf16"),
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
    result = run("stylize", content, content, style, "-o", out, "--size", "64", "--style-size", "20")
    assert result.exit_code == 1
    assert f"{content}: styles[0]: expected sides of at least 16 pixels for relu5_1" in result.stderr
    assert not out.exists()


def test_an_animations_first_frame_is_painted_and_that_is_said(pictures: Path) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    frames[0].save(pictures / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    out = pictures / "out.png"
    result = run("stylize", pictures / "moving.webp", pictures / "style.png", "-o", out, "--steps", "0", "--size", "32")
    assert result.exit_code == 0
    assert result.stderr == f"{pictures / 'moving.webp'}: the first of 2 frames\n"
    with Image.open(out) as image:
        assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)


def test_layers_are_listed() -> None:
    result = run("stylize", "--list-layers")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["0", "conv1_1"]
    assert lines[22].split() == ["22", "relu4_2"]
    assert len(lines) == 37


def test_stylize_refuses_small_pictures_devices_and_cut_weights(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    result = run("stylize", content, style, "-o", out, "--size", "8")
    assert result.exit_code == 1
    assert "sides of at least 8 pixels for relu4_2" in result.stderr
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


def test_running_out_of_memory_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("vggquant.style.painting.stylize", exhaust)
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    result = run("stylize", content, style, "-o", out)
    assert result.exit_code == 1
    assert result.stderr == "Error: expected enough memory, got none left; choose a smaller picture or file\n"


def on_a_terminal(*arguments: object, interrupt_at: bytes | None = None) -> tuple[int, bytes, bytes]:
    """Exit code, stdout and what a terminal shows of stderr; an interrupt once it shows some text."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "vggquant", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=follower, stdout=subprocess.PIPE)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while piece := os.read(leader, 4096):
            shown += piece
            if interrupt_at is not None and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                interrupt_at = None
    os.close(leader)
    return process.wait(), process.communicate()[0], shown


def test_a_terminal_sees_a_progress_bar(tmp_path: Path) -> None:
    code, stdout, shown = on_a_terminal("pack", "vgg19", tmp_path / "x", "--bits", "1", "--upto", "relu2_1")
    assert code == 0
    for text in (b"packing", b"3/3", b"1 bits"):
        assert text in shown
    assert b"None" not in shown
    assert b"packing" not in stdout


def test_a_terminal_of_80_columns_sees_a_transfers_progress(pictures: Path) -> None:
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    given = ("--steps", "40", "--size", "100", "--style-size", "64")
    code, _, shown = on_a_terminal("stylize", content, style, "-o", out, *given)
    assert code == 0
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line) for line in shown.decode().split("\r")]
    last = next(line for line in reversed(lines) if "40/40" in line)
    assert re.search(r"0:00 [\d.]+/s 100 × \d+ content [\d.e+-]+ style [\d.e+-]+", last)
    assert all(len(line.strip()) <= 80 for line in lines if "/40" in line)


def test_an_interrupt_keeps_the_old_file(tmp_path: Path) -> None:
    """A real signal, in the midst of real work."""
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"old")
    arguments = ("pack", "vgg19", out, "--max-size", "6MB", "--force")
    code, _, shown = on_a_terminal(*arguments, interrupt_at=b"packing")
    assert code == 130
    assert b"Interrupted; every file is the old one or a whole new one." in shown
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_cuda_is_used_where_it_is(pictures: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    assert run("stylize", content, style, "-o", out, "--steps", "2", "--device", "cuda").exit_code == 0


def test_version() -> None:
    assert run("--version").stdout.startswith("vggquant, version 0.")
