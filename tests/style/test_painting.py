"""Painting from files to a file, and going on from an intermediate picture."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vggquant.errors import OptionError, PictureError, StorageError
from vggquant.pictures.files import Picture, read_picture, write_picture
from vggquant.style import Interrupted, StyleOptions, StyleProgress, loading, memory, paint, painting, transfer
from vggquant.style.options import Optimizer
from vggquant.style.painting import Saves
from vggquant.style.task import Reached

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
        ({"step": 5}, "expected a step of a transfer in a PNG's text, got 5 of 4, planned as 4"),
        ({"step": -1}, "expected a step of a transfer in a PNG's text, got -1 of 4"),
        ({"step": "2"}, "expected a step of a transfer in a PNG's text, got 2 of 4"),
        ({"planned": 9}, "expected a step of a transfer in a PNG's text, got 4 of 4, planned as 9"),
        ({"pooling": "avg"}, "expected `pooling` avg, as before, got max; repeat the command"),
        ({"size": [1, 2]}, "expected a result of 1 × 2 pixels, as before, got 32 × 24 pixels; choose `size=2`, or"),
        ({"style_sizes": [[1, 2], [3, 4]]}, "expected styles of 1 × 2 and 3 × 4 pixels, as before, got 20 × 39 pixels"),
        ({"options": {"steps": 4}}, "expected `content_layers` none, as before, got relu2_1=1.0"),
    ],
)
def test_pictures_of_other_transfers_are_not_gone_on_from(folder: Path, changes: dict[str, Any], message: str) -> None:
    picture = painted(folder)
    text = json.dumps({**settings(picture), **changes})
    write_picture(folder / "way.png", Picture(picture.pixels, settings=text))
    with pytest.raises((PictureError, OptionError), match=f"way.png: {message}"):
        painted(folder, resume=folder / "way.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content_weight": 2.0}, "expected `content_weight` 1.0, as before, got 2.0"),
        ({"seed": 3, "scales": 1}, "expected `seed` 0, as before, got 3; repeat"),
        ({"scales": 1}, "expected `scales` none, as before, got 1"),
        ({"style_layers": {"relu1_1": 1.0}}, "expected `style_layers` relu1_1=1.0, relu3_1=1.0, as before, got re"),
        ({"steps": 3}, "expected `steps` 4 or more, as before, got 3"),
    ],
)
def test_options_that_differ_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    painted(folder)
    with pytest.raises(OptionError, match=rf"out\.png: {message}"):
        painted(folder, "new.png", replace(OPTIONS, **options), resume=folder / "out.png")


def test_files_that_differ_are_named(folder: Path) -> None:
    painted(folder)
    write_picture(folder / "content.png", Picture(torch.rand(1, 3, 24, 32)), force=True)
    with pytest.raises(OptionError, match=r"out\.png: expected the same `content` as before, got a file of other"):
        painted(folder, "new.png", resume=folder / "out.png")


def test_pictures_in_another_order_are_named(folder: Path) -> None:
    styles = [folder / "style.png", folder / "black.png"]
    paint(folder / "content.png", styles, folder / "out.png", OPTIONS, size=32)
    with pytest.raises(OptionError, match="the same `styles` as before, got the same files in another order; repeat"):
        paint(folder / "content.png", styles[::-1], folder / "new.png", OPTIONS, size=32, resume=folder / "out.png")


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
    with pytest.raises(OptionError, match=r"^style_layers: expected a layer, conv1_1 … pool5, got any; choose one"):
        paint("nowhere.png", ["nowhere.png"], folder / "out.png", StyleOptions(style_layers={"any": 1.0}))


def test_saves_are_named_by_their_step() -> None:
    saves = Saves(25, "way", "p-")
    assert saves.paths(range(30, 101)) == ["way/p-050.png", "way/p-075.png", "way/p-100.png"]
    assert saves.path(5, 9) == "way/p-5.png"


@pytest.mark.parametrize("resumed", [False, True])
def test_every_picture_is_read_once_and_hashed_as_it_was_read(
    resumed: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(folder / "white.png", Picture(torch.ones(1, 3, 8, 8)))
    more: dict[str, Any] = {"masks": [folder / "white.png"]}
    names = ["content", "style", "white", "small"]
    if resumed:
        painted(folder, saves=Saves(2, folder), **more)
        more["resume"], names[3] = folder / "2.png", "2"
    else:
        more["start"] = folder / "small.png"
    expected = {name: hashlib.sha256((folder / f"{name}.png").read_bytes()).hexdigest() for name in names}
    opened: list[str] = []
    read = os.open

    def counting(path: Any, *arguments: Any, **options: Any) -> int:
        opened.append(os.fspath(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(os, "open", counting)
    given = (folder / "content.png", [folder / "style.png"], folder / "out.png", OPTIONS)
    paint(*given, size=32, force=True, saves=Saves(3, folder, "way-"), **more)
    monkeypatch.undo()
    assert sorted(path for path in opened if path.endswith(".png")) == sorted(f"{folder / name}.png" for name in names)
    found = settings(read_picture(folder / "out.png"))
    assert found["sha256"]["content"] == expected["content"]
    assert found["sha256"]["styles"] == [expected["style"]]
    assert found["sha256"]["masks"] == [expected["white"]]
    if resumed:
        assert found["resumed"] == [{"step": 2, "sha256": expected["2"]}]
    else:
        assert found["sha256"]["start"] == expected["small"]


def test_the_precision_is_recorded_and_kept_by_whoever_goes_on(folder: Path, request: pytest.FixtureRequest) -> None:
    assert settings(painted(folder, saves=Saves(2, folder)))["options"]["precision"] == "float32"
    expected = painted(folder, resume=folder / "2.png")
    request.getfixturevalue("processor_with_bf16")
    assert settings(painted(folder))["options"]["precision"] == "bf16"
    went_on = painted(folder, resume=folder / "2.png")
    assert settings(went_on)["options"]["precision"] == "float32"
    assert torch.equal(went_on.pixels, expected.pixels)
    with pytest.raises(OptionError, match="expected `precision` float32, as before, got bf16"):
        painted(folder, options=replace(OPTIONS, precision="bf16"), resume=folder / "2.png")


def test_the_precision_is_bf16_only_if_all_devices_have_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in (({"cpu", "meta"}, "bf16"), ({"meta"}, "float32")):
        monkeypatch.setattr(loading, "computes_bf16", lambda device, has=has: device.type in has)
        found = painted(folder, supplemental_devices=[("cpu", "3")])
        assert settings(found)["options"]["precision"] == expected


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_whoever_goes_on_from_a_state_has_never_stopped(folder: Path, optimizer: Optimizer) -> None:
    """Bit for bit, with what one scale has taught the next, and wherever it stopped."""
    options = replace(OPTIONS, steps=66, scales=2, optimizer=optimizer)
    kept: dict[int, Reached] = {}
    whole = painted(folder, "whole.png", options, progress=lambda made: kept.update({made.done: made.reached}))
    assert ("whitening" in kept[66].memory) == (optimizer == "lbfgs")
    for done in (1, 22, 40):  # after the first step, between the scales, and in the second
        with pytest.raises(Interrupted):
            painted(folder, "way.png", options, progress=stopping(done))
        assert settings(read_picture(folder / "way.png"))["step"] == done
        again = painted(folder, "again.png", options, resume=folder / "way.png")
        assert torch.equal(again.pixels, whole.pixels)
        assert {key: value for key, value in settings(again).items() if key != "resumed"} == {
            key: value for key, value in settings(whole).items() if key != "resumed"
        }


def stopping(done: int) -> Callable[[StyleProgress], None]:
    """A callback that does what Ctrl-C does, after a step."""

    def stop(made: StyleProgress) -> None:
        if made.done == done:
            raise KeyboardInterrupt

    return stop


def test_more_steps_are_made_at_the_full_size(folder: Path) -> None:
    options = replace(OPTIONS, steps=9, scales=2)
    painted(folder, "short.png", options, saves=Saves(9, folder))
    seen: list[StyleProgress] = []
    more = replace(options, steps=13)
    once = painted(folder, "more.png", more, resume=folder / "9.png", progress=seen.append, saves=Saves(4, folder))
    assert [made.detail for made in seen] == ["32 × 24"] * 4
    assert (settings(once)["planned"], settings(once)["options"]["steps"]) == (9, 13)
    # and it makes no difference when they are asked for
    painted(folder, "short.png", options, saves=Saves(2, folder))
    (folder / "8.png.state").rename(folder / "kept.state")
    early = painted(folder, "early.png", more, resume=folder / "8.png")
    assert early.pixels.shape == once.pixels.shape  # without the state it is another painting
    (folder / "kept.state").rename(folder / "8.png.state")
    assert torch.equal(painted(folder, "early.png", more, resume=folder / "8.png").pixels, once.pixels)
    twice = painted(folder, "twice.png", replace(more, steps=16), resume=folder / "12.png")
    assert settings(twice)["planned"] == 9


def test_what_is_lost_without_a_state_is_said(folder: Path) -> None:
    painted(folder, saves=Saves(2, folder))
    assert not (folder / "2.png.state").exists()  # the newest alone is kept
    report = paint(
        folder / "content.png", [folder / "style.png"], folder / "new.png", OPTIONS, size=32, resume=folder / "2.png"
    )
    expected = "2.png: gone on from without its state, 2.png.state: the picture was rounded to 8 bits, and what the "
    assert report.notes[0].startswith(str(folder / expected))


def test_a_state_belongs_to_its_picture(folder: Path) -> None:
    painted(folder, saves=Saves(3, folder))
    (folder / "3.png.state").rename(folder / "out.png.state")
    more = replace(OPTIONS, steps=5)
    report = paint(
        folder / "content.png", [folder / "style.png"], folder / "new.png", more, size=32, resume=folder / "out.png"
    )
    assert "gone on from without its state" in report.notes[0]


def test_the_picture_reached_is_written_and_gone_on_from_in_place(folder: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        painted(folder, options=replace(OPTIONS, scales=2), progress=stopping(1), saves=Saves(1, folder / "way"))
    expected = (
        f"Interrupted after step 1 of 4; {folder / 'out.png'} holds the picture reached, 16 × 12 pixels, to go on "
    )
    assert str(caught.value).startswith(expected)
    assert caught.value.progress.done == 1
    assert [path.name for path in (folder / "way").iterdir()] == ["1.png"]
    assert (folder / "out.png.state").exists()
    painted(folder, options=replace(OPTIONS, scales=2), resume=folder / "out.png")
    assert not (folder / "out.png.state").exists()
    with pytest.raises(Interrupted, match=r"out\.jpg holds the picture reached, 32 × 24 pixels$"):
        painted(folder, "out.jpg", progress=stopping(1))


def test_an_interruption_destroys_nothing(folder: Path) -> None:
    def stop(made: StyleProgress) -> None:
        (folder / "out.png").write_text("mine")  # came up meanwhile
        raise KeyboardInterrupt

    given = (folder / "content.png", [folder / "style.png"])
    with pytest.raises(StorageError, match=r"out\.png: expected a new file"):
        paint(*given, folder / "out.png", OPTIONS, size=32, progress=stop)
    assert (folder / "out.png").read_text() == "mine"
    (folder / "new.png.state").write_text("mine")
    with pytest.raises(Interrupted, match=r"a state was not written: .*new\.png\.state: expected a new file"):
        paint(*given, folder / "new.png", OPTIONS, size=32, progress=stopping(2))
    assert (folder / "new.png.state").read_text() == "mine"


def test_an_interruption_before_the_first_step_is_pythons_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer, "_loss_at", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        painted(folder)
    assert not isinstance(caught.value, Interrupted)
    assert not (folder / "out.png").exists()


def test_a_second_interruption_ends_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(painting, "write_picture", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        painted(folder, progress=stopping(1))
    assert not isinstance(caught.value, Interrupted)


def test_the_sizes_of_pictures_on_the_way_are_said(folder: Path) -> None:
    options = replace(OPTIONS, steps=9, scales=2)
    given = (folder / "content.png", [folder / "style.png"], folder / "out.png", options)
    report = paint(*given, size=32, saves=Saves(2, folder / "way"))
    assert report.notes == (f"{folder / 'way'}: pictures on the way, 1 of 16 × 12, 3 of 32 × 24 pixels",)
    sizes = [read_picture(folder / "way" / f"{step}.png").size for step in (2, 4, 6, 8)]
    assert sizes == [(12, 16)] + [(24, 32)] * 3


def test_a_picture_on_the_way_that_cannot_be_written_is_named(folder: Path) -> None:
    def block(made: StyleProgress) -> None:
        (folder / f"way-{made.done + 1}.png").mkdir()

    with pytest.raises(StorageError, match=r"^.*way-2\.png: expected a regular file, got a folder"):
        painted(folder, saves=Saves(1, folder, "way-"), progress=block)


def test_a_picture_of_one_pixel_is_painted_or_refused_as_it_is(folder: Path) -> None:
    write_picture(folder / "dot.png", Picture(torch.rand(1, 3, 1, 1)))
    options = StyleOptions(steps=1, content_layers={"relu1_1": 1.0}, style_layers={"relu1_1": 1.0})
    report = paint(folder / "dot.png", [folder / "style.png"], folder / "out.png", options)
    assert (report.width, report.height) == (1, 1)
    with pytest.raises(PictureError, match=r"dot\.png: expected sides of at least 4 .*; choose `size=4` or more"):
        paint(folder / "dot.png", [folder / "style.png"], folder / "new.png", OPTIONS)


def test_the_callers_choice_of_algorithms_is_kept(folder: Path) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        painted(folder, deterministic=True)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
