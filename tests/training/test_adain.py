"""Training AdaIN, from files to a file: what it gives, how it goes on, and what it refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import run
from vggquant import info, load_stylizer, verify
from vggquant.errors import NetworkError, OptionError, PictureError, SourceError
from vggquant.files.container import read, write
from vggquant.files.disk import read_file, sha256
from vggquant.models.adain import AdaIN
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.network import weight_specs
from vggquant.pictures.generated import generated_pictures
from vggquant.progress import Progress
from vggquant.training import AdaINOptions, TrainingInterrupted, train_adain
from vggquant.training import adain as module
from vggquant.training.crops import IDENTICAL, PHOTOGRAPHIC, Crops, Pairs, Photographs
from vggquant.training.packing import palettized, unquantized

SMALL = AdaINOptions(steps=6, size=32, batch=2, part="both")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, paintings, and a narrow network that was never trained."""
    folder = tmp_path_factory.mktemp("pictures")
    made = generated_pictures(4, 64, 72, 3)
    for name, pictures in (("photos", made[:2]), ("paintings", made[2:])):
        (folder / name).mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{index}.png")
    torch.manual_seed(0)
    narrow = unquantized(AdaIN(AdaINNetwork((8,) * 9)), "for a test", "whose it is")
    write(folder / "narrow", palettized(narrow, 8, None))
    return folder


def trained(folder: Path, out: Path, options: AdaINOptions = SMALL, **given: Any) -> Any:
    return train_adain(
        folder / "paintings", out, options, **{"images": folder / "photos", "start": folder / "narrow", **given}
    )


def test_a_network_learns_and_is_packed(folder: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    out = tmp_path / "out.safetensors"
    options = replace(SMALL, steps=40, learning_rate=0.01)
    report = trained(folder, out, options, progress=seen.append, preview=tmp_path / "preview.png", bits=6)
    total = [sum(weight * progress.values[name] for name, weight in SMALL.weights.items()) for progress in seen]
    assert len(total) == 40
    assert total[-1] < 0.8 * total[0]
    assert set(report.loss) == {"content", "style", "gram", "tv"}
    assert report.bytes == out.stat().st_size
    assert report.parameters == AdaINNetwork((8,) * 9).parameters
    assert {tensor.codes.bits for tensor in read(out).palettized.values()} == {6}
    assert verify(out).layers
    assert info(out).attribution == "whose it is"
    changes = str(info(out).changes)
    assert changes.startswith("for a test; ")  # what was done before
    assert "; encoder and decoder trained by vggquant" in changes or "; its decoder trained by vggquant" in changes
    assert "paintings, 2 pictures" in changes
    assert f"beginning with the network of SHA-256 {sha256(read_file(folder / 'narrow'))}" in changes
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.size == (72, 64)


def test_without_a_start_it_begins_with_vggs_encoder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEASURED", 2)
    photographs = Photographs(folder / "photos")
    options = replace(SMALL, part="decoder")
    found, digest = module._begun(None, options, photographs, torch.device("cpu"))
    assert digest is None
    assert found.network == AdaINNetwork()
    pictures = torch.stack([Crops(photographs, 32, 0, range(2))[index] for index in range(2)])
    assert float(found.encode(pictures).square().mean()) == pytest.approx(1, rel=1e-3)
    assert {name.partition(".")[0] for name, each in found.named_parameters() if each.requires_grad} == {"decoder"}
    again, _ = module._begun(None, options, photographs, torch.device("cpu"))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize("bits", [None, 3])
def test_the_same_training_gives_the_same_file_and_going_on_is_exact(
    folder: Path, tmp_path: Path, bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a preview or without; rounded weights have codebooks that move on the way."""
    monkeypatch.setattr("vggquant.training.rounded.EVERY", 2)
    options = replace(SMALL, rounded=bits)
    whole, again, halves = (tmp_path / name for name in ("whole", "again", "halves"))
    trained(folder, whole, options)
    trained(folder, again, options, preview=tmp_path / "preview.png", every=1)
    assert whole.read_bytes() == again.read_bytes()

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="Interrupted after step 3 of 6"):
        trained(folder, halves, options, progress=stop, every=1)
    seen: list[int] = []
    trained(
        folder, halves, options, resume=f"{halves}.checkpoint", progress=lambda progress: seen.append(progress.done)
    )
    assert seen == [4, 5, 6]
    assert halves.read_bytes() == whole.read_bytes()
    if bits is not None:
        weights = read(whole)
        assert all(len(set(weights.array(spec.name).flat)) <= 8 for spec in weight_specs(weights.network))


def test_a_checkpoint_goes_on_with_the_same_start_alone(folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    trained(folder, tmp_path / "first", replace(SMALL, steps=1), checkpoint=checkpoint)
    with pytest.raises(SourceError, match="checkpoint: start: expected "):
        trained(folder, tmp_path / "other", replace(SMALL, steps=1), resume=checkpoint, start=tmp_path / "first")
    with pytest.raises(SourceError, match="checkpoint: part: expected decoder, as asked for now, got both"):
        trained(folder, tmp_path / "other", replace(SMALL, steps=1, part="decoder"), resume=checkpoint)
    with pytest.raises(SourceError, match="checkpoint: paintings: "):
        train_adain(
            folder / "photos",
            tmp_path / "other",
            replace(SMALL, steps=1),
            images=folder / "photos",
            start=folder / "narrow",
            resume=checkpoint,
        )


@pytest.mark.parametrize("part", ["decoder", "both"])
def test_the_part_that_is_trained(folder: Path, tmp_path: Path, part: Any) -> None:
    trained(folder, tmp_path / "out", replace(SMALL, steps=2, learning_rate=0.5, part=part))
    before, after = (load_stylizer(path) for path in (folder / "narrow", tmp_path / "out"))
    moved = {}
    for spec in weight_specs(before.network):
        one, other = (each.get_parameter(spec.name) for each in (before, after))
        moved[spec.layer] = float((one - other).norm() / one.norm()) > 0.03  # packing moves them a little
    assert {layer for layer in moved if layer.startswith("encoder.") and moved[layer]} == (
        set() if part == "decoder" else {layer for layer in moved if layer.startswith("encoder.")}
    )
    assert all(moved[layer] for layer in moved if layer.startswith("decoder."))


def test_pairs(folder: Path) -> None:
    photographs, paintings = Photographs(folder / "photos"), Photographs(folder / "paintings")
    count = 1500
    pairs = Pairs(photographs, paintings, 8, 5, range(count))
    assert len(pairs) == count
    contents, alike = (
        Crops(photographs, 8, 5, range(count)),
        {
            name: Crops(pictures, 8, 6, range(count))
            for name, pictures in (("photo", photographs), ("painting", paintings))
        },
    )
    kinds, exchanged = Counter[str](), 0
    for index in range(count):
        content, style = pairs[index]
        assert torch.equal(content, contents[index])
        if torch.equal(style, content):
            kinds["identical"] += 1
            continue
        sums = {name: crops[index].sort(0).values for name, crops in alike.items()}
        kind = next(name for name, sorted_ in sums.items() if torch.equal(style.sort(0).values, sorted_))
        kinds[kind] += 1
        exchanged += not torch.equal(style, alike[kind][index])
    assert kinds["identical"] / count == pytest.approx(IDENTICAL, abs=0.02)
    assert kinds["photo"] / count == pytest.approx(PHOTOGRAPHIC, abs=0.03)
    assert exchanged / (count - kinds["identical"]) == pytest.approx(5 / 12, abs=0.05)  # one order in six is the same
    later = Pairs(photographs, paintings, 8, 5, range(7, 9))
    assert all(torch.equal(*each) for each in zip(later[0], pairs[7], strict=True))


def test_photographs_lie_on_the_device_that_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggquant.training.crops.GENERATED", 1)
    for photographs in (Photographs(folder / "photos", "meta"), Photographs(None, torch.device("meta"))):
        assert photographs[0].device.type == "meta"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"part": "encoder"}, "part: expected one of decoder, both, got encoder"),
        ({"rounded": 9}, "rounded: expected a whole number from 1 to 8"),
        ({"rounded": True}, "rounded: expected a whole number from 1 to 8"),
        ({"size": 7}, "size: expected a whole number from 8"),
        ({"gram_weight": -1.0}, "gram_weight: expected a finite number from 0 up"),
        ({"content_weight": 0, "style_weight": 0, "gram_weight": 0}, "style_weight: expected a weight above 0"),
        ({"steps": 0}, "steps: expected a whole number from 1"),
        ({"learning_rate": float("inf")}, "learning_rate: expected a number above 0"),
        ({"precision": "int8"}, "precision: expected"),
    ],
)
def test_options_without_a_meaning_are_refused(
    changed: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=said):
        trained(folder, tmp_path / "out", replace(SMALL, **changed))


def test_what_cannot_be_trained_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionError, match="start: expected a network of the family adain, got johnson; name one"):
        trained(folder, out, start="starry")
    with pytest.raises(NetworkError, match="expected a network that paints"):
        trained(folder, out, start="vgg19")
    with pytest.raises(PictureError, match="expected a folder of pictures, got no such folder"):
        train_adain(tmp_path / "none", out, SMALL, images=folder / "photos")
    with pytest.raises(OptionError, match="preview: expected a place outside of the pictures' folders"):
        trained(folder, out, preview=folder / "paintings" / "preview.png")
    assert not out.exists()


def test_a_size_of_the_file(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path / "out", replace(SMALL, steps=1), max_size=9000)
    assert 7000 < (tmp_path / "out").stat().st_size <= 9000


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ("--steps", 2, "--size", 32, "--batch", 1, "--start", folder / "narrow", "--images", folder / "photos")
    given = ("train", "--network", "adain", "-o", out, "--styles", folder / "paintings", *small)
    result = run(*given, "--rounded", "--bits", "4")
    assert result.exit_code == 0, result.output
    parameters = AdaINNetwork((8,) * 9).parameters
    assert result.stdout.startswith(f"{out}: {parameters:,} parameters in {out.stat().st_size:,} bytes; content ")
    assert {tensor.codes.bits for tensor in read(out).palettized.values()} == {4}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--network", "adain"), "--styles: expected a folder of paintings, got none; name it"),
        (("STYLE", "--network", "adain", "--styles", "x"), "expected a folder of paintings, got the picture "),
        (("--styles", "x"), "expected a STYLE picture, got x; name one"),
        (("--network", "adain", "--styles", "x", "--alpha", "1"), "--alpha: expected an option of adain, got this"),
        (("STYLE", "--part", "both"), "--part: expected an option of a network of one style, got this one"),
        (("STYLE", "--rounded"), "--rounded: expected an option of a network of one style, got this one"),
        (
            ("--network", "adain", "--styles", "x", "--rounded"),
            "--rounded: expected a width for all weights, --bits N, got none",
        ),
        (
            ("--network", "adain", "--styles", "x", "--rounded", "--bits", "4,conv1_1=8"),
            "expected a width for all weights",
        ),
        (("--network", "adain", "--styles", "x", "--part", "all"), "--part"),
    ],
)
def test_options_of_the_command_that_do_not_go_together_are_refused(
    given: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    result = run("train", *given, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert said in result.stderr
