from __future__ import annotations

import pytest
import torch

from vggquant import load_quantized_vgg
from vggquant.errors import OptionError
from vggquant.models.gradients import GradientScale


def run(image: torch.Tensor, steps: int, loud: float) -> list[torch.Tensor]:
    """Features of a chain that multiplies by 2 in float16 at every step; the last one is also multiplied by `loud`."""
    scale = GradientScale()
    x = scale.enter(image).half()
    features = []
    for step in range(steps):
        x = 2 * x
        x, feature = scale.tap(x, loud if step == steps - 1 else 1.0)
        features.append(feature)
    return features


@pytest.mark.parametrize("loud", [1e-20, 1.0, 3e7, 1e25])
def test_gradients_of_any_size_come_back_exactly(loud: float) -> None:
    image = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    features = run(image, 6, loud)
    (gradient,) = torch.autograd.grad(features[-1].sum(), image)
    assert gradient.dtype == torch.float32
    assert gradient.tolist() == pytest.approx([64 * loud] * 3, rel=1e-3)


def test_gradients_of_several_features_are_added() -> None:
    image = torch.tensor([1.0, 2.0], requires_grad=True)
    features = run(image, 3, 1.0)
    (gradient,) = torch.autograd.grad(features[0].sum() + features[2].sum(), image)
    assert gradient.tolist() == [10.0, 10.0]


def test_activations_pass_unchanged_and_features_are_float32() -> None:
    scale = GradientScale()
    activation = torch.tensor([1.5, -3.0], dtype=torch.float16)
    passed, feature = scale.tap(activation, 1e6)
    assert torch.equal(passed, activation)
    assert feature.dtype == torch.float32
    assert feature.tolist() == [1.5e6, -3e6]
    assert scale.tap(activation, None)[1] is None


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own
def test_forward_mode_is_refused() -> None:
    import torch.autograd.forward_ad as forward_ad

    vgg, image = load_quantized_vgg(upto="relu1_1", dtype=torch.float16), torch.rand(1, 3, 8, 8)
    with (
        forward_ad.dual_level(),
        pytest.raises(OptionError, match=r"expected first derivatives by backward .*, got forward-mode derivatives"),
    ):
        vgg(forward_ad.make_dual(image, torch.ones_like(image)))  # type: ignore[no-untyped-call]


def test_a_model_converted_in_inference_mode_gives_gradients_later() -> None:
    with torch.inference_mode():
        vgg = load_quantized_vgg(upto="relu1_2").half()
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    vgg(image)["relu1_2"].sum().backward()
    assert image.grad is not None
    assert image.grad.any()
