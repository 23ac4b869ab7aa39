"""How long a transfer says that it still takes, by a clock that its network moves on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.style.networks import Tiny
from vggquant.style.options import StyleOptions
from vggquant.style.transfer import StyleProgress, stylize


class Timed(Tiny):
    """A network that takes as long as it has pixels, and far longer when a size is new to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.known: set[tuple[int, ...]] = set()

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.now += images[0, 0].numel() / 500 + (0 if images.shape in self.known else 15)
        self.known.add(images.shape)
        return super().forward(images, layers)


@pytest.mark.parametrize("scales", [1, 3])
def test_the_time_left_is_told_once_ordinary_steps_have_told_it(scales: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vgg, seen = Timed(), list[StyleProgress]()
    monkeypatch.setattr("time.monotonic", lambda: vgg.now)
    content, style = torch.rand(1, 3, 40, 32), torch.rand(1, 3, 30, 40)
    options = StyleOptions(steps=84, scales=scales, optimizer="adam")
    stylize(vgg, content, [style], options, progress=seen.append)
    total = seen[-1].elapsed
    told = [report for report in seen if report.left is not None]
    assert all(report.left is None for report in seen[:2])
    assert told[0].done <= 12
    for report in told[:-1]:
        assert report.left is not None
        assert 1 / 2 < (total - report.elapsed) / report.left < 2
    assert told[-1].left == 0
