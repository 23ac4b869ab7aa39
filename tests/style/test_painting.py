"""Painting from files to a file, and going on from an intermediate picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vggquant.errors import OptionError, PictureError
from vggquant.pictures.files import Picture, read_picture, write_picture
from vggquant.style import StyleOptions, loading, memory, paint
from vggquant.style.painting import Saves

OPTIONS = StyleOptions(steps=4, content_layers={"relu2_1": 1.0}, style_layers={"relu1_1": 1.0, "relu3_1": 1.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for name, size in (("content", (24, 32)), ("style", (40, 20)), ("small", (3, 90))):
        write_picture(tmp_path / f"{name}.png", Picture(torch.rand(1, 3, *size)))
    write_picture(tmp_path / "black.png", Picture(torch.zeros(1, 3, 8, 8)))
    return tmp_path


def painted(folder: Path, out: str = "out.png", options: StyleOptions = OPTIONS, **more: Any) -> Picture:
    paint(folder / "content.png", [folder / "style.png"], folder / out, options, size=32, force=True, **more)
    return read_picture(folder / out)


def settings(picture: Picture) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(picture.settings or "")
    return found


def test_the_report_says_what_was_painted(folder: Path) -> None:
    report = paint(folder / "content.png", [folder / "style.png"], folder / "out.jpg", OPTIONS, size=32)
    assert (report.width, report.height, report.notes) == (32, 24, ())
    assert set(report.loss) == {"loss", "content", "style"}
    options = StyleOptions(steps=0)
    assert paint(folder / "content.png", [folder / "style.png"], folder / "out.webp", options).loss == {}


def test_going_on_from_a_picture_is_recorded(folder: Path) -> None:
    whole = painted(folder, saves=Saves(1, folder, "way-"))
    assert settings(whole)["resumed"] == []
    start = folder / "style.png"
    painted(folder, saves=Saves(1, folder, "started-"), start=start)
    for prefix in ("way", "started"):
        went_on = painted(folder, "again.png", resume=folder / f"{prefix}-2.png")
        found = settings(went_on)
        assert [entry["step"] for entry in found["resumed"]] == [2]
        assert (found["sha256"]["start"] is None) == (prefix == "way")  # the first start is kept
        twice = painted(folder, "twice.png", resume=folder / "again.png")
        assert [entry["step"] for entry in settings(twice)["resumed"]] == [2, 4]
        assert torch.equal(twice.pixels, went_on.pixels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the settings of a transfer in a PNG's text, got none"),
        ("{", "the settings of a transfer in a PNG's text, got none"),
        ("[" * 100_000, "the settings of a transfer in a PNG's text, got none"),
        ("[1]", "the settings of a transfer in a PNG's text, got none"),
        ('{"step": 1}', "the settings of a transfer in a PNG's text, got none"),
    ],
    ids=["nothing", "no JSON", "deep", "a list", "too little"],
)
def test_pictures_of_no_transfer_are_not_gone_on_from(folder: Path, text: str | None, message: str) -> None:
    write_picture(folder / "way.png", Picture(torch.rand(1, 3, 24, 32), settings=text))
    with pytest.raises(PictureError, match=f"way.png: expected {message}; repeat the command"):
        painted(folder, resume=folder / "way.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 5}, "expected a step up to 4, got 5"),
        ({"step": -1}, "expected a step up to 4, got -1"),
        ({"step": "2"}, "expected a step up to 4, got 2"),
        ({"size": [1, 2], "pooling": "avg"}, "expected a picture of this very transfer, got other pooling, size"),
    ],
)
def test_pictures_of_other_transfers_are_not_gone_on_from(folder: Path, changes: dict[str, Any], message: str) -> None:
    picture = painted(folder)
    text = json.dumps({**settings(picture), **changes})
    write_picture(folder / "way.png", Picture(picture.pixels, settings=text))
    with pytest.raises(PictureError, match=f"way.png: {message}"):
        painted(folder, resume=folder / "way.png")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"masks": ["{folder}/black.png"]}, "{folder}/black.png: masks[0]: expected some white"),
        ({"styles": ["style", "small"]}, "{folder}/small.png: styles[1]: expected sides of at least 4"),
        ({"content": "small"}, "{folder}/small.png: expected sides of at least 4 pixels for relu3_1"),
    ],
)
def test_errors_name_the_file(folder: Path, more: dict[str, Any], message: str) -> None:
    content = folder / f"{more.get('content', 'content')}.png"
    styles = [folder / f"{name}.png" for name in more.get("styles", ["style"])]
    masks = [mask.format(folder=folder) for mask in more.get("masks", [])]
    size = 30 if "content" in more else 32
    with pytest.raises(PictureError) as caught:
        paint(content, styles, folder / "out.png", OPTIONS, size=size, style_size=90, masks=masks)
    assert str(caught.value).startswith(message.format(folder=folder))
    assert not (folder / "out.png").exists()


def test_a_picture_too_large_for_the_memory_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    with pytest.raises(PictureError, match=r"content\.png: expected a transfer in the 0\.0 GB left on cpu"):
        painted(folder)


def test_options_are_refused_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(OptionError, match=r"^tv_weight: expected a finite number"):
        paint("nowhere.png", ["nowhere.png"], folder / "out.png", StyleOptions(tv_weight=-1.0))
    with pytest.raises(OptionError, match=r"^style_layers: expected a layer conv1_1 … pool5, got “any”"):
        paint("nowhere.png", ["nowhere.png"], folder / "out.png", StyleOptions(style_layers={"any": 1.0}))


def test_saves_are_named_by_their_step() -> None:
    saves = Saves(25, "way", "p-")
    assert saves.paths(range(30, 101)) == ["way/p-050.png", "way/p-075.png", "way/p-100.png"]
    assert saves.path(5, 9) == "way/p-5.png"


def test_the_precision_is_recorded_and_kept_by_whoever_goes_on(folder: Path, request: pytest.FixtureRequest) -> None:
    assert settings(painted(folder, saves=Saves(2, folder)))["options"]["precision"] == "float32"
    expected = painted(folder, resume=folder / "2.png")
    request.getfixturevalue("processor_with_bf16")
    assert settings(painted(folder))["options"]["precision"] == "bf16"
    went_on = painted(folder, resume=folder / "2.png")
    assert settings(went_on)["options"]["precision"] == "float32"
    assert torch.equal(went_on.pixels, expected.pixels)
    with pytest.raises(PictureError, match="got other options"):
        painted(folder, options=replace(OPTIONS, precision="bf16"), resume=folder / "2.png")


def test_the_precision_is_bf16_only_if_all_devices_have_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in (({"cpu", "meta"}, "bf16"), ({"meta"}, "float32")):
        monkeypatch.setattr(loading, "computes_bf16", lambda device, has=has: device.type in has)
        found = painted(folder, supplemental_devices=[("cpu", "3")])
        assert settings(found)["options"]["precision"] == expected
