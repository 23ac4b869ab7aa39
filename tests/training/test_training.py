"""Training a painter, from files to a file: what it gives, how it goes on, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vggquant import info, load_stylizer, verify
from vggquant.errors import NetworkError, OptionError, PictureError, SourceError, StorageError
from vggquant.files.container import read
from vggquant.files.disk import read_file, sha256
from vggquant.pictures.files import read_picture
from vggquant.pictures.generated import generated_pictures
from vggquant.progress import Progress
from vggquant.training import TrainingInterrupted, TrainingOptions, crops, train
from vggquant.training import running as module
from vggquant.training.crops import Crops, Photographs

SMALL = TrainingOptions(alpha=0.125, blocks=1, steps=6, size=32, batch=2, style_pixels=2_500)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A style, and a folder of photographs of which one is broken."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "photos").mkdir()
    made = generated_pictures(3, 64, 72, 3)
    Image.fromarray(made[0]).save(folder / "style.png")
    for index, picture in enumerate(made[1:]):
        Image.fromarray(picture).save(folder / "photos" / f"{index}.png")
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    return folder


def trained(pictures: Path, out: Path, options: TrainingOptions = SMALL, **given: Any) -> Any:
    return train(pictures / "style.png", out, options, images=pictures / "photos", **given)


def test_a_painter_learns_and_is_packed(pictures: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    out = tmp_path / "painter.safetensors"
    report = trained(pictures, out, replace(SMALL, steps=40), progress=seen.append, preview=tmp_path / "preview.png")
    assert [progress.done for progress in seen] == [*range(1, 41)]
    total = [sum(weight * progress.values[name] for name, weight in SMALL.weights.items()) for progress in seen]
    assert total[-1] < 0.9 * total[0]
    assert seen[-1].left == 0
    assert report.bytes == out.stat().st_size
    assert [note.split(":")[0] for note in report.notes] == [f"passed over {pictures / 'photos' / 'broken.png'}"]
    assert verify(out).layers
    found = info(out)
    assert found.family == "johnson"
    assert found.changes is not None
    assert found.changes.startswith("trained by vggquant")
    assert "style.png" in found.changes
    assert "on 3 pictures" in found.changes
    assert not (tmp_path / "painter.safetensors.checkpoint").exists()
    preview = read_picture(tmp_path / "preview.png").pixels
    painted = load_stylizer(out)(read_picture(pictures / "photos" / "0.png").pixels)
    assert float((preview - painted).abs().mean()) < 0.02


def test_the_same_training_gives_the_same_file_and_going_on_is_exact(pictures: Path, tmp_path: Path) -> None:
    whole, again, halves = tmp_path / "whole", tmp_path / "again", tmp_path / "halves"
    trained(pictures, whole)
    trained(pictures, again)
    assert whole.read_bytes() == again.read_bytes()

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(
        TrainingInterrupted, match=r"Interrupted after step 3 of 6; .* holds what was reached"
    ) as stopped:
        trained(pictures, halves, progress=stop)
    checkpoint = Path(f"{halves}.checkpoint")
    assert str(checkpoint) in str(stopped.value)
    assert not halves.exists()
    with pytest.raises(StorageError, match="got a checkpoint of before; go on from it"):
        trained(pictures, halves)
    seen: list[int] = []
    trained(pictures, halves, resume=checkpoint, progress=lambda progress: seen.append(progress.done))
    assert seen == [4, 5, 6]
    assert halves.read_bytes() == whole.read_bytes()
    assert not checkpoint.exists()


def test_an_interrupt_in_the_midst_of_a_step_keeps_the_step_before(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    trained(pictures, whole)
    step = torch.optim.Adam.step

    def interrupted(self: torch.optim.Adam) -> None:
        step(self)
        if self.state_dict()["state"][0]["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", interrupted)
        with pytest.raises(TrainingInterrupted, match="after step 3 of 6"):
            trained(pictures, halves)
    trained(pictures, halves, resume=f"{halves}.checkpoint")
    assert halves.read_bytes() == whole.read_bytes()


def test_a_training_is_not_given_up_for_want_of_room(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Any, *_: Any, **__: Any) -> None:
        raise StorageError("room", "no space left on device", "make some", path=path)

    monkeypatch.setattr(module, "write_picture", full)
    preview, checkpoint = tmp_path / "preview.png", tmp_path / "named"
    report = trained(pictures, tmp_path / "out", preview=preview, checkpoint=checkpoint, every=3)
    notes = [note for note in report.notes if "room" in note]
    assert [note.split(":")[0] for note in notes] == ["not written after step 3"]
    assert checkpoint.exists()
    assert load_stylizer(tmp_path / "out") is not None


def test_a_size_or_widths(pictures: Path, tmp_path: Path) -> None:
    trained(pictures, tmp_path / "five", bits=5)
    assert {tensor.codes.bits for tensor in read(tmp_path / "five").palettized.values()} == {5}
    size = (tmp_path / "five").stat().st_size - 200
    trained(pictures, tmp_path / "less", max_size=size)
    assert 0.9 * size < (tmp_path / "less").stat().st_size <= size
    with pytest.raises(OptionError, match="max_size: expected widths or a size, got both"):
        trained(pictures, tmp_path / "out", bits=5, max_size="17KB")


def test_what_cannot_be_gone_on_from_is_refused(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops, "GENERATED", 3)
    checkpoint = tmp_path / "checkpoint"
    trained(pictures, tmp_path / "out", checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(SourceError, match=r"checkpoint: size: expected 48, as asked for now, got 32; ask for the same"):
        trained(pictures, tmp_path / "other", replace(SMALL, size=48), resume=checkpoint)
    with pytest.raises(SourceError, match=r"checkpoint: photographs: expected 3 generated pictures, as asked"):
        train(pictures / "style.png", tmp_path / "other", SMALL, resume=checkpoint)
    with pytest.raises(SourceError, match=r"checkpoint: style: "):
        train(pictures / "photos" / "0.png", tmp_path / "other", SMALL, images=pictures / "photos", resume=checkpoint)
    with pytest.raises(SourceError, match=r"style.png: expected a checkpoint of a training, got another file"):
        trained(pictures, tmp_path / "other", resume=pictures / "style.png")
    torch.save({"mark": "another"}, tmp_path / "torch")
    with pytest.raises(SourceError, match="expected a checkpoint of a training, got another file"):
        trained(pictures, tmp_path / "other", resume=tmp_path / "torch")
    assert checkpoint.read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_trained_on_is_refused(pictures: Path, tmp_path: Path) -> None:
    out, style = tmp_path / "out", pictures / "style.png"
    with pytest.raises(PictureError, match="expected a folder of pictures, got no such folder"):
        train(style, out, SMALL, images=tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PictureError, match="expected pictures in the folder, got none"):
        train(style, out, SMALL, images=tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"empty: expected photographs to train on, got none that serve \(.*a\.png"):
        train(style, out, SMALL, images=tmp_path / "empty")
    with pytest.raises(PictureError, match=r"broken\.png"):
        train(pictures / "photos" / "broken.png", out, SMALL)
    out.write_bytes(b"old")
    with pytest.raises(StorageError, match="expected a new file"):
        trained(pictures, out)
    with pytest.raises(StorageError, match="expected a new file"):
        trained(pictures, tmp_path / "new", checkpoint=out)
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps": 0}, "steps: expected a whole number from 1"),
        ({"size": 8}, "size: expected a whole number from 16"),
        ({"batch": 1.5}, "batch: expected a whole number"),
        ({"seed": -1}, "seed: expected a whole number from 0"),
        ({"style_weight": -1.0}, "style_weight: expected a finite number from 0 up"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0"),
        ({"alpha": 0.001}, "alpha: expected a multiplier from"),
        ({"alpha": "0.3"}, "alpha: expected a number"),
        ({"steps": True}, "steps: expected a whole number from 1"),
        ({"blocks": 1.5}, "blocks: expected a whole number from 0"),
        ({"network": []}, "network: expected"),
        ({"precision": "int8"}, "precision: expected"),
        ({"content_weight": 0, "style_weight": 0, "color_weight": 0}, "style_weight: expected a weight above 0"),
    ],
)
def test_options_without_a_meaning_are_refused(
    changed: dict[str, Any], said: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=said):
        trained(pictures, tmp_path / "out", replace(SMALL, **changed))


def test_a_training_may_begin_with_a_trained_network(pictures: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    trained(pictures, first)
    trained(pictures, second, replace(SMALL, steps=1, learning_rate=1e-6), start=first)
    one, two = (load_stylizer(path).state_dict() for path in (first, second))
    assert all(torch.allclose(tensor, two[name], atol=0.01) for name, tensor in one.items())
    assert f"beginning with the network of SHA-256 {sha256(read_file(first))}" in str(info(second).changes)
    with pytest.raises(OptionError, match=r"start: expected a network of .* choose `network`, `alpha` and `blocks`"):
        trained(pictures, tmp_path / "third", replace(SMALL, blocks=0), start=first)
    with pytest.raises(NetworkError, match="expected a network that paints"):
        trained(pictures, tmp_path / "third", start="vgg19")


def test_a_training_that_runs_off_ends_in_one_line(pictures: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(OptionError, match=r"learning_rate: expected losses of finite value, got .*; lower"):
        trained(pictures, tmp_path / "out", replace(SMALL, learning_rate=1e38), checkpoint=checkpoint, every=1)
    assert all(tensor.isfinite().all() for tensor in torch.load(checkpoint)["state"]["painter"].values())


def test_small_photographs_are_passed_over(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (7, 90)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_bytes((pictures / "photos" / "0.png").read_bytes())
    preview = tmp_path / "preview.png"
    options = replace(SMALL, steps=1)
    report = train(pictures / "style.png", tmp_path / "out", options, images=tmp_path / "photos", preview=preview)
    (note,) = report.notes
    assert note.endswith("a.png: expected sides of at least 8 pixels, got 7; leave it out")
    assert read_picture(preview).size == (64, 72)


def test_files_that_would_replace_one_another_are_refused(pictures: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.png"
    for name in ("preview", "checkpoint"):
        given: dict[str, Any] = {name: same}
        with pytest.raises(OptionError, match="out: expected three different files"):
            trained(pictures, same, **given)
    with pytest.raises(OptionError, match="preview: expected a place outside of the pictures' folders"):
        trained(pictures, tmp_path / "out", preview=pictures / "photos" / "preview.png")
    trained(pictures, first := tmp_path / "first", replace(SMALL, steps=1))
    with pytest.raises(StorageError, match="expected an output other than the source"):
        trained(pictures, first, start=first, force=True)


@pytest.mark.parametrize("change", [{"state": {}}, {"state": None}, {"options": None}])
def test_checkpoints_with_parts_missing_are_refused(change: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    trained(pictures, tmp_path / "out", replace(SMALL, steps=1), checkpoint=checkpoint)
    torch.save(torch.load(checkpoint) | change, tmp_path / "broken")
    with pytest.raises(SourceError, match=r"broken: expected (a checkpoint of a|the state of this) training, got an"):
        trained(pictures, tmp_path / "again", replace(SMALL, steps=1), resume=tmp_path / "broken")


def test_a_finished_training_goes_on_to_the_same_report(pictures: Path, tmp_path: Path) -> None:
    report = trained(pictures, tmp_path / "out", checkpoint=tmp_path / "checkpoint")
    again = trained(pictures, tmp_path / "again", resume=tmp_path / "checkpoint")
    assert again.loss == report.loss
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()


def test_crops_do_not_depend_on_what_was_taken_before(pictures: Path) -> None:
    photographs = Photographs(pictures / "photos")
    all_of_them = [Crops(photographs, 32, 7, range(10))[index] for index in range(10)]
    later = [Crops(photographs, 32, 7, range(6, 10))[index] for index in range(4)]
    assert all(torch.equal(*pair) for pair in zip(all_of_them[6:], later, strict=True))
    assert not torch.equal(all_of_them[0], all_of_them[1])
    assert all(crop.shape == (3, 32, 32) and 0 <= float(crop.min()) <= float(crop.max()) <= 1 for crop in later)


def test_generated_pictures_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "GENERATED", 3)
    photographs = Photographs(None)
    assert len(photographs) == 3
    assert photographs.description == "3 generated pictures"
    assert photographs[0].dtype == torch.uint8


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_two_processes_train_as_one_does(pictures: Path, tmp_path: Path) -> None:
    """Under torchrun, with gloo; the sums of gradients are rounded in another order."""
    outs = [tmp_path / "one", tmp_path / "two"]
    options = ("--alpha", "0.125", "--blocks", "1", "--steps", "3", "--size", "32", "--style-pixels", "2500")
    for out, processes in zip(outs, (1, 2), strict=True):
        given = ("train", pictures / "style.png", "-o", out, "--images", pictures / "photos", *options, "--batch", "2")
        start = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        command = [*start, "-m", "vggquant", *given] if processes > 1 else [sys.executable, "-m", "vggquant", *given]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(" parameters in ") == 1, done.stdout
    one, two = (load_stylizer(out).state_dict() for out in outs)
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=0.02), name
