"""The estimate of a transfer's memory is enough, not far off, and refuses what would not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.style.networks import Tiny
from vggquant.errors import PictureError
from vggquant.models.devices import computes_bf16
from vggquant.style import memory
from vggquant.style.memory import memory_per_pixel
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import stylize

CPU, OTHER = torch.device("cpu"), torch.device("meta")


class Split(nn.Module):
    """A network that goes on elsewhere after its first layer; "meta" stands for a second device."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Tiny()
        self.second = nn.Conv2d(8, 64, 3, padding=1, device=OTHER).requires_grad_(False)

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.first(images, ["relu1_1"])
        return {layer: self.second(found["relu1_1"].to(OTHER)).relu() for layer in layers} | found


def test_a_picture_too_large_is_refused_with_one_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    content = torch.rand(1, 3, 64, 96)
    needed = 64 * 96 * memory_per_pixel(Tiny(), CPU, StyleOptions())[CPU][0]
    monkeypatch.setattr(memory, "OVERHEAD", 0)
    monkeypatch.setattr(memory, "available_memory", lambda device: int(needed / 4) + 1000)
    with pytest.raises(PictureError, match=r"at 96 × 64; choose 48 × 32 pixels or less, or `precision='bf16'`"):
        stylize(Tiny(), content, [content])
    with pytest.raises(PictureError, match=r"pixels or less$"):
        stylize(Tiny(), content, [content], StyleOptions(precision="bf16"))
    stylize(Tiny(), content, [content], StyleOptions(steps=0))  # for which none is needed
    monkeypatch.setattr(memory, "available_memory", lambda device: int(needed) + 1000)
    stylize(Tiny(), content, [content], StyleOptions(steps=1))
    with pytest.raises(PictureError, match="choose smaller styles"):
        stylize(Tiny(), content, [torch.rand(1, 3, 1500, 1500)])
    with pytest.raises(PictureError, match="pixels or less"):
        stylize(Tiny(), content, [content] * 9, masks=[torch.ones(1, 1, 64, 96)] * 9)


def test_nothing_is_refused_where_a_device_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "OVERHEAD", 1e18)
    monkeypatch.setattr(memory, "available_memory", lambda device: None)
    content = torch.rand(1, 3, 16, 16)
    stylize(Tiny(), content, [content], StyleOptions(steps=1))


def test_a_split_network_needs_memory_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    options = StyleOptions(steps=1)
    whole, split = memory_per_pixel(Tiny(), CPU, options), memory_per_pixel(Split(), CPU, options)
    assert set(split) == {CPU, OTHER}
    assert split[CPU][0] <= whole[CPU][0]
    assert split[OTHER][0] > 64 * 4  # an activation of 64 channels, at least
    content = torch.rand(1, 3, 1000, 1000)
    monkeypatch.setattr(memory, "available_memory", {CPU: 10**11, OTHER: 4 * 10**8}.get)
    with pytest.raises(PictureError, match=r"a transfer in the 0\.4 GB left on meta, got one of about \d"):
        stylize(Split(), content, [content], options)


def test_masks_need_copies_of_the_style_layers() -> None:
    options = StyleOptions(steps=1, optimizer="adam")
    none, two = (memory_per_pixel(Tiny(), CPU, options, masks)[CPU][0] for masks in (0, 2))
    copies = 2 * 5 * 8 * 4  # two masks, five layers, eight channels of float32
    assert copies <= two - none <= 1.2 * copies


def remembered(steps: int) -> float:
    """Bytes for each pixel that torch's L-BFGS remembers after some steps."""
    torch.manual_seed(0)
    picture, factors = torch.rand(1, 3, 16, 16, requires_grad=True), torch.rand(1, 3, 16, 16) + 1
    optimizer = torch.optim.LBFGS([picture], lr=0.1, max_iter=1)

    def evaluate() -> Tensor:
        loss = (factors * picture**4).sum()
        (picture.grad,) = torch.autograd.grad(loss, picture)
        return loss

    for _ in range(steps):
        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
    state = optimizer.state[picture]
    history: list[Tensor] = [*state["old_dirs"], *state["old_stps"]]
    return sum(tensor.nbytes for tensor in history) / 16**2


def test_the_history_of_lbfgs_is_counted() -> None:
    def estimate(steps: int) -> float:
        return memory_per_pixel(Tiny(), CPU, StyleOptions(steps=steps))[CPU][0]

    for steps in (20, 60):
        growth = estimate(steps) - estimate(0)
        assert remembered(steps) <= growth <= 1.2 * remembered(steps)
    assert estimate(1000) == estimate(100)  # as many as it remembers
    adam = [memory_per_pixel(Tiny(), CPU, StyleOptions(steps=steps, optimizer="adam"))[CPU] for steps in (1, 100)]
    assert adam[0] == adam[1]
    assert adam[0][0] < estimate(20)


MEASURE = """
import sys, torch
from bench.machine import peak_memory
from vggquant import load_quantized_vgg
from vggquant.style.memory import OVERHEAD, memory_per_pixel
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import stylize
side, masked, style_side, precision = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.manual_seed(0)
vgg, options = load_quantized_vgg(upto="relu5_1"), StyleOptions(steps=3, scales=1, precision=precision)
content, style = torch.rand(1, 3, side, side), torch.rand(1, 3, style_side, style_side)
each, each_of_style = memory_per_pixel(vgg, torch.device("cpu"), options, masked)[torch.device("cpu")]
estimate = OVERHEAD + max(each * side**2, each_of_style * style_side**2)
before = peak_memory()
stylize(vgg, content, [style] * max(1, masked), options, masks=[torch.rand(1, 1, side, side)] * masked or None)
print(estimate / (peak_memory() - before))
"""


# without it torch computes in another way, which takes minutes and other amounts of memory
WITH_BF16 = pytest.mark.skipif(not computes_bf16(torch.device("cpu")), reason="needs a processor with bf16")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's count of memory")
@pytest.mark.parametrize(
    "case",
    [
        "512 0 512 float32",
        "384 2 384 float32",
        pytest.param("384 0 384 bf16", marks=WITH_BF16),
        "64 0 900 float32",
    ],
)
def test_the_estimate_of_memory_is_enough_and_not_far_off(case: str) -> None:
    root = Path(__file__).parent.parent.parent
    found = subprocess.run([sys.executable, "-c", MEASURE, *case.split()], cwd=root, capture_output=True, check=True)
    assert 1 < float(found.stdout) < 2.5, case
