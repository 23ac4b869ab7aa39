from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import natural_picture
from vggquant import load_quantized_vgg
from vggquant.errors import OptionError
from vggquant.features import gram_matrix
from vggquant.options import StyleOptions
from vggquant.progress import Progress
from vggquant.style import ContentLoss, StyleLoss, stylize


def test_gram_matrix_by_its_formula() -> None:
    activation = torch.arange(24.0).reshape(1, 2, 3, 4)
    f = activation[0].reshape(2, 12)
    assert torch.allclose(gram_matrix(activation)[0], f @ f.T / 12)
    assert gram_matrix(torch.cat([activation, activation])).shape == (2, 2, 2)


def test_losses_by_their_formulas() -> None:
    target, other = torch.rand(1, 4, 5, 6), torch.rand(1, 4, 5, 6)
    assert ContentLoss({"a": target})({"a": other}).item() == pytest.approx(
        0.01 * ((target - other) ** 2).mean().item()
    )
    difference = gram_matrix(target) - gram_matrix(other)
    assert StyleLoss({"a": target})({"a": other}).item() == pytest.approx(10 / 16 * (difference**2).mean().item())
    assert StyleLoss({"a": target})({"a": target}).item() == 0


class Tiny(nn.Module):
    """Any module that gives activations by name will do."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1).requires_grad_(False)

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, self.convolution(images * 255).relu())


def test_any_module_will_do_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    seen: list[Progress] = []
    content = torch.rand(1, 3, 12, 10)
    styles = [torch.rand(1, 3, 9, 7), torch.rand(1, 3, 6, 14)]
    result = stylize(Tiny(), content, styles, StyleOptions(steps=20), progress=seen.append)
    assert result.shape == content.shape
    assert not result.requires_grad
    assert [report.done for report in seen] == list(range(1, 21))
    assert seen[-1].values["loss"] < seen[0].values["loss"]
    assert seen[-1].values["loss"] == pytest.approx(seen[-1].values["content"] + seen[-1].values["style"], rel=1e-5)


def test_no_steps_give_the_content() -> None:
    content = torch.rand(1, 3, 8, 8)
    assert torch.allclose(stylize(Tiny(), content, [content], StyleOptions(steps=0)), content)


def test_a_transfer_moves_towards_the_style_and_keeps_the_content() -> None:
    content, style = (
        torch.from_numpy(natural_picture(name)[:128:2, :128:2].copy()).permute(2, 0, 1)[None].float() / 255
        for name in ("astronaut", "coffee")
    )
    vgg = load_quantized_vgg(upto="relu5_1")
    seen: list[Progress] = []
    result = stylize(vgg, content, [style], StyleOptions(steps=30), progress=seen.append)
    assert seen[-1].values["style"] < 0.1 * seen[0].values["style"]
    layer = ["relu4_2"]
    distance = (vgg(result, layer)["relu4_2"] - vgg(content, layer)["relu4_2"]).norm()
    unrelated = (vgg(style, layer)["relu4_2"] - vgg(content, layer)["relu4_2"]).norm()
    assert distance < unrelated
    again = stylize(vgg, content, [style], StyleOptions(steps=30))
    assert torch.allclose(again, result, atol=1e-3)


def test_wrong_options_are_refused() -> None:
    picture = torch.rand(1, 3, 8, 8)
    with pytest.raises(OptionError, match="one style or more"):
        stylize(Tiny(), picture, [])
    with pytest.raises(OptionError, match="0 steps or more"):
        stylize(Tiny(), picture, [picture], StyleOptions(steps=-1))
