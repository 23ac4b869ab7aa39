"""Distillation: pupils come nearer to their teachers, from files to a file, and a separable one begins with a plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import run
from vggquant import info, load_stylizer
from vggquant.errors import OptionError, SourceError, StorageError
from vggquant.files.container import read, write
from vggquant.files.disk import read_file, sha256
from vggquant.models.arbitrary import Arbitrary, Predictor, Transfer
from vggquant.networks.arbitrary import ArbitraryNetwork, mobilenet, steered_names
from vggquant.pictures.generated import generated_pictures
from vggquant.progress import Progress
from vggquant.training import DistilOptions, Teacher, TrainingInterrupted, distil
from vggquant.training.distil_objective import MIXTURES, CodeLoss, PaintingLoss
from vggquant.training.distilling import begin_with
from vggquant.training.packing import unquantized
from vggquant.training.processes import Processes
from vggquant.training.trainer import Trainer

NETWORK = ArbitraryNetwork((4, 6, 8), predictor=(8,) * 9)
SEPARABLE = replace(NETWORK, separable=steered_names())
SMALL = DistilOptions(steps=4, size=32, style_size=40, batch=4, learning_rate=0.01)
PIXELS = replace(SMALL, content_weight=0.0, style_weight=0.0)


def mean_colors(views: Tensor) -> Tensor:
    """A teacher of numbers that are easy to learn."""
    return views.mean((2, 3)).repeat(1, 34)[:, :100]


def tinted(contents: Tensor, codes: Tensor) -> Tensor:
    """A teacher that paints in the colours of the numbers."""
    return (contents + codes[:, :3, None, None]) / 2


def eyes(images: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
    """What stands for a VGG: the pixels, at every layer another part of them."""
    return {layer: images[:, :, :: len(layer) - 6, ::2] for layer in layers}


TEACHER = Teacher(mean_colors, tinted, "a teacher of colours", "who taught")


@pytest.fixture(autouse=True)
def small_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggquant.training.views.STYLE_SIDE", 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, paintings, and narrow networks that were never trained: `plain` and `separable`."""
    folder = tmp_path_factory.mktemp("pictures")
    made = generated_pictures(6, 64, 72, 3)
    for name, pictures in (("photos", made[:3]), ("paintings", made[3:])):
        (folder / name).mkdir()
        for index, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{index}.png")
    torch.manual_seed(0)
    for name, network in (("plain", NETWORK), ("separable", SEPARABLE)):
        weights = unquantized(Arbitrary(network), "for a test", "whose it is")
        write(folder / name, weights)
    return folder


def taught(teacher: Any, folder: Path, out: Path, options: DistilOptions = PIXELS, **given: Any) -> Any:
    """With codes of 2 bits, which take little time to find."""
    return distil(teacher, folder / "paintings", out, options, **{"images": folder / "photos", "bits": 2, **given})


def test_a_plain_network_becomes_a_separable_one(folder: Path, tmp_path: Path) -> None:
    """The step of the article, with the losses of a VGG beside it."""
    seen: list[Progress] = []
    out, options = tmp_path / "out", replace(SMALL, separable=True, steps=12)
    report = taught(
        folder / "plain", folder, out, options, progress=seen.append, preview=tmp_path / "preview.png", bits=5
    )
    assert len(seen) == 12
    assert set(report.loss) == {"pixel", "content", "style"}
    assert seen[-1].values["pixel"] < seen[0].values["pixel"]
    found, before = load_stylizer(out), load_stylizer(folder / "plain")
    assert isinstance(found, Arbitrary)
    assert isinstance(before, Arbitrary)
    assert found.network == SEPARABLE
    assert report.bytes == out.stat().st_size
    assert report.parameters == SEPARABLE.parameters
    assert {tensor.codes.bits for tensor in read(out).palettized.values()} == {5}
    same = found.predictor.state_dict()
    for name, tensor in before.predictor.state_dict().items():  # which stays, but for the codes
        assert float((same[name] - tensor).norm()) <= 0.1 * float(tensor.norm())
    assert info(out).attribution == "whose it is"  # once
    changes = str(info(out).changes)
    digest = sha256(read_file(folder / "plain"))
    assert changes.startswith("for a test; ")  # what was done before
    assert f"; its transfer network distilled from the network of SHA-256 {digest} by vggquant " in changes
    assert "on 3 pictures" in changes
    with Image.open(tmp_path / "preview.png") as preview:
        assert preview.size == (72, 64)


def test_any_callables_teach(folder: Path, tmp_path: Path) -> None:
    """Without a network to begin with both parts are new, and normalised while they learn."""
    seen: list[Progress] = []
    out = tmp_path / "out"
    options = replace(PIXELS, part="predictor", width=0.02, steps=25, learning_rate=0.02)
    report = taught(TEACHER, folder, out, options, progress=seen.append)
    first, last = (sum(shown.values["code"] for shown in part) for part in (seen[:3], seen[-3:]))
    assert last < 0.9 * first  # means over all steps so far
    found = load_stylizer(out)
    assert isinstance(found, Arbitrary)
    assert found.network == ArbitraryNetwork(predictor=mobilenet(0.02))
    assert set(report.loss) == {"code"}
    assert info(out).attribution == "who taught"
    changes = str(info(out).changes)
    assert changes.startswith("its predictor distilled from a teacher of colours by vggquant ")
    assert "25 steps of 4 styles;" in changes
    assert report.notes == ("its transfer knows nothing yet: go on with `start`",)


def test_a_transfer_network_is_begun_anew(tmp_path: Path, folder: Path) -> None:
    """Its contracting convolutions are normalised while it learns, and are as they were in the file."""
    options = replace(PIXELS, steps=2, batch=1)
    report = taught(TEACHER, folder, tmp_path / "out", options)
    assert set(report.loss) == {"pixel"}
    assert load_stylizer(tmp_path / "out").network == ArbitraryNetwork(predictor=mobilenet(0.6))
    assert "2 steps of 1 crops of 32 pixels in styles of 40;" in str(info(tmp_path / "out").changes)


def test_large_gradients_are_scaled_down() -> None:
    torch.manual_seed(0)
    loss = PaintingLoss(TEACHER, None, {"pixel": 1e6}, "float32")
    trainer = Trainer(Transfer(NETWORK), loss, SMALL, Processes(0, 1, torch.device("cpu")))
    trainer.step([torch.rand(2, 3, 32, 32), torch.rand(2, 3, 40, 40), torch.zeros(2, 2)])
    norms = [float(parameter.grad.norm()) for parameter in trainer.painter.parameters() if parameter.grad is not None]
    assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("predict", "paint", "said"),
    [
        (lambda views: mean_colors(views)[:, :50], tinted, r"numbers of shape \(4, 100\), got \(4, 50\)"),
        (lambda views: mean_colors(views)[:, :, None], tinted, r"numbers of shape \(4, 100\), got \(4, 100, 1\)"),
        (lambda views: [], tinted, r"numbers of shape \(4, 100\), got list"),
        (mean_colors, lambda contents, codes: contents[:, :1], r"paintings of shape \(4, 3, 32, 32\), got \(4, 1, "),
    ],
)
def test_what_a_teacher_gives_is_looked_at(predict: Any, paint: Any, said: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"teacher: expected {said}.*; mend the teacher"):
        taught(Teacher(predict, paint, "wrong"), folder, tmp_path / "out", start=folder / "plain")


@pytest.mark.parametrize("network", [NETWORK, SEPARABLE])
def test_a_transfer_network_learns_its_teachers_pictures(network: ArbitraryNetwork) -> None:
    torch.manual_seed(0)
    pupil = Transfer(network)
    loss = PaintingLoss(TEACHER, eyes, SMALL.weights, "float32")
    optimizer = torch.optim.Adam(pupil.parameters(), lr=0.01)
    batch = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 40, 40), torch.zeros(4, 2)
    pixels = []
    for step in range(30):
        terms = loss.terms(pupil, batch, step)
        optimizer.zero_grad()
        torch.autograd.backward(terms["pixel"])
        optimizer.step()
        pixels.append(terms["pixel"].item())
    assert pixels[-1] < 0.5 * pixels[0]


def test_losses_are_relative_squares() -> None:
    loss = PaintingLoss(TEACHER, eyes, SMALL.weights, "float32")
    contents = torch.rand(3, 3, 32, 32)
    batch = contents, contents, torch.zeros(3, 2)  # each is its own style
    same = loss.terms(lambda contents, codes: contents, batch, 0)
    assert float(same["content"]) == pytest.approx(0, abs=1e-6)
    assert float(same["style"]) == pytest.approx(0, abs=1e-6)
    doubled = loss.terms(lambda contents, codes: 2 * contents, batch, 0)
    assert float(doubled["content"]) == pytest.approx(1, abs=1e-4)
    assert float(doubled["style"]) == pytest.approx(9, abs=1e-3)
    assert float(loss.terms(tinted, batch, 0)["pixel"]) == 0
    own = loss.terms(lambda contents, codes: 2 * contents, (*batch[:2], torch.tensor([[1.0, 0]]).repeat(3, 1)), 0)
    assert float(own["style"]) == 0  # which is not asked for


def test_shares_are_of_the_contents_own_style_and_of_the_next() -> None:
    seen: list[Tensor] = []

    def paint(contents: Tensor, codes: Tensor) -> Tensor:
        seen.append(codes)
        return contents

    contents, styles = torch.full((4, 3, 32, 32), 0.5), torch.arange(4.0)[:, None, None, None].expand(4, 3, 32, 32) / 4
    shares = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.25], [0.5, 0.0]])
    loss = PaintingLoss(TEACHER, None, SMALL.weights, "float32")
    assert set(loss.terms(paint, (contents, styles, shares), 0)) == {"pixel"}
    torch.testing.assert_close(seen[0][:, 0], torch.tensor([0.0, 0.5, 0.5 + 0.0625, (0.75 + 0.5) / 2]))


def test_the_teacher_adds_styles_for_the_predictor() -> None:
    seen: list[Tensor] = []

    def painter(contents: Tensor, codes: Tensor) -> Tensor:
        seen.append(codes)
        return torch.full_like(contents, 0.25)

    views = torch.rand(8, 3, 16, 16)
    looked: list[Tensor] = []

    def pupil(batch: Tensor) -> Tensor:
        looked.append(batch)
        return mean_colors(batch)

    loss = CodeLoss(Teacher(mean_colors, painter, ""), "float32")
    loss.terms(pupil, views, 0)
    codes = mean_colors(views)
    expected = [torch.lerp(codes[index], codes[index + 1], share) for index, share in enumerate(MIXTURES)]
    torch.testing.assert_close(seen[0], torch.stack(expected))
    assert torch.equal(looked[0][:2], torch.full((2, 3, 16, 16), 0.25))
    assert torch.equal(looked[0][2:], views[2:])
    assert float(loss.terms(pupil, views[:1], 0)["code"]) == 0
    assert len(seen) == 1  # one alone has no next
    loss.terms(pupil, views[:2], 0)
    assert tuple(seen[1].shape) == (1, 100)


def test_a_separable_network_begins_with_a_plain_one() -> None:
    torch.manual_seed(0)
    plain, separable, other = Transfer(NETWORK), Transfer(SEPARABLE), Transfer(SEPARABLE)
    for name in steered_names():  # kernels that are separable as they are
        weight = plain.get_parameter(f"{name}.convolution.weight")
        outside, inside, kernel, _ = weight.shape
        weight.data = torch.randn(outside, inside, 1, 1) * torch.randn(1, inside, kernel, kernel)
    contents, codes = torch.rand(2, 3, 32, 32), torch.randn(2, 100)
    begin_with(separable, plain)
    torch.testing.assert_close(separable(contents, codes), plain(contents, codes), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(other(contents, codes), plain(contents, codes), atol=0.01)


def test_going_on_is_exact_and_a_new_predictor_keeps_its_statistics(folder: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = replace(PIXELS, part="predictor", width=0.02)
    taught(folder / "plain", folder, whole, options)

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="Interrupted after step 2 of 4"):
        taught(folder / "plain", folder, halves, options, progress=stop, every=1)
    taught(
        folder / "plain", folder, halves, options, resume=f"{halves}.checkpoint", preview=tmp_path / "a.png", every=1
    )
    assert halves.read_bytes() == whole.read_bytes()
    with pytest.raises(TrainingInterrupted):
        taught(folder / "plain", folder, tmp_path / "other", options, progress=stop)
    with pytest.raises(SourceError, match=r"teacher: expected the network of SHA-256 \w+, as asked for now, got the "):
        taught(folder / "separable", folder, tmp_path / "other", options, resume=tmp_path / "other.checkpoint")


def test_a_network_goes_on_from_where_another_is(folder: Path, tmp_path: Path) -> None:
    """With a teacher beside it, and its other part as it was."""
    options = replace(PIXELS, steps=1, learning_rate=1e-9)
    taught(folder / "separable", folder, tmp_path / "out", options, start=folder / "plain", bits=5)
    found, before = load_stylizer(tmp_path / "out"), load_stylizer(folder / "plain")
    assert isinstance(found, Arbitrary)
    assert found.network == before.network
    for name, tensor in before.state_dict().items():
        assert float((found.state_dict()[name] - tensor).norm()) <= 0.1 * float(tensor.norm()) + 1e-6
    assert [*found.predictor.state_dict()] == [*Predictor(NETWORK).state_dict()]


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ({"part": "both"}, {}, "part: expected one of predictor, transfer, got both"),
        ({"style_size": 8}, {}, "style_size: expected a whole number from 16 to 2048, got 8"),
        ({"width": 0.5}, {}, "width: expected an option of the part predictor, got transfer; leave it out"),
        ({"part": "predictor", "width": 0.0}, {}, "width: expected a number above 0, up to 1.5, got 0.0"),
        ({"part": "predictor", "width": "wide"}, {}, "width: expected a number, got wide"),
        ({"part": "predictor", "separable": True}, {}, "separable: expected an option of the part transfer"),
        ({"pixel_weight": 0.0}, {}, "style_weight: expected a weight above 0, got none"),
        ({}, {"start": "starry"}, "starry: start: expected a network of the family arbitrary, got johnson"),
        ({}, {"bits": 9}, "bits: expected"),
        ({"separable": True}, {"start": "arbitrary"}, "separable: expected a network with plain convolutions, got one"),
    ],
)
def test_what_has_no_meaning_is_refused(
    options: dict[str, Any], given: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError) as refused:
        taught(TEACHER, folder, tmp_path / "out", replace(PIXELS, **options), **given)
    assert said in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_the_teacher_is_neither_another_network_nor_replaced(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="adain: teacher: expected a network of the family arbitrary, got adain"):
        taught("adain", folder, tmp_path / "out")
    before = (folder / "plain").read_bytes()
    with pytest.raises(StorageError):
        taught(folder / "plain", folder, folder / "plain", force=True)
    assert (folder / "plain").read_bytes() == before


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("distil", folder / "plain", "-o", out, "--images", folder / "photos", "--styles", folder / "paintings")
    small = ("--steps", "1", "--size", "32", "--style-size", "32", "--batch", "2", "--separable", "--bits", "2")
    result = run(*asked, *small)
    assert result.exit_code == 0, result.output
    said = f"{out}: {SEPARABLE.parameters:,} parameters in {out.stat().st_size:,} bytes; pixel "
    assert result.stdout.startswith(said)
    assert run("info", out).exit_code == 0
    for given, said in (
        (("--width", "0.5"), "--width: expected an option of the part predictor, got transfer; leave it out"),
        (
            ("--part", "predictor", "--size", "64"),
            "--size: expected an option that serves with --part predictor, got this one;",
        ),
    ):
        wrong = run(*asked, "--force", *given)
        assert wrong.exit_code == 2
        assert wrong.stderr.startswith(f"Error: {said}")
