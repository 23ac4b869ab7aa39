"""A VGG as a torch module among others: hooks, copies, tracers, compilers and modes of autograd."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.fx
from torch import Tensor, nn

from tests.style.networks import photograph
from vggquant import VGG, load_quantized_state_dict, load_quantized_vgg
from vggquant.errors import OptionError, PictureError
from vggquant.networks.vgg import ARCHITECTURES

LAYERS = ("relu1_1", "conv2_1", "pool2", "relu3_1")


@pytest.fixture(scope="module")
def vgg() -> VGG:
    return load_quantized_vgg(upto="relu3_1")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(0))


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def test_every_layer_is_a_module_in_its_place(vgg: VGG) -> None:
    names = [name for name, _ in vgg.named_children()]
    assert names == ["prepare", *ARCHITECTURES["vgg19"].layers_upto("relu3_1")]
    shown = repr(vgg)
    assert "vgg19, preprocessing=caffe, pooling=max" in shown
    assert "(conv1_2): Conv2d(64, 64" in shown
    assert "(pool1): MaxPool2d" in shown
    assert type(load_quantized_vgg(upto="pool1", pooling="avg").get_submodule("pool1")) is nn.AvgPool2d
    assert all(name.startswith("conv") for name in vgg.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_hooks_see_every_layer(dtype: torch.dtype, images: Tensor) -> None:
    vgg = load_quantized_vgg(upto="relu2_1", dtype=dtype)
    seen: list[str] = []
    for name, module in vgg.named_children():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    vgg(images, "relu2_1")
    assert seen == ["prepare", *vgg.layers]


def test_a_replaced_layer_is_used(vgg: VGG, images: Tensor) -> None:
    changed = copy.deepcopy(vgg)
    old = changed.get_submodule("conv2_1")
    assert isinstance(old, nn.Conv2d)
    dilated = nn.Conv2d(64, 128, 3, padding=2, dilation=2)
    dilated.load_state_dict(old.state_dict())
    changed.conv2_1 = dilated
    changed.pool1 = nn.AvgPool2d(2)
    found = changed(images, LAYERS)
    assert torch.equal(found["relu1_1"], vgg(images, "relu1_1")["relu1_1"])
    halves = nn.functional.avg_pool2d(vgg(images, "relu1_2")["relu1_2"], 2)
    assert torch.allclose(found["conv2_1"], dilated(halves))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda vgg: pickle.loads(pickle.dumps(vgg))], ids=["copy", "pickle"])
def test_copies_compute_the_same(again: Any, vgg: VGG, images: Tensor) -> None:
    assert same(again(vgg)(images), vgg(images))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("layers", [None, LAYERS, "relu2_1"], ids=str)
def test_compiled_in_one_graph_it_is_the_same(backend: str, layers: Any, vgg: VGG, images: Tensor) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(vgg, fullgraph=True, backend=backend)
    assert same(compiled(images, layers), vgg(images, layers))
    assert same(compiled(images[..., :24], layers), vgg(images[..., :24], layers))


def test_exported_it_is_the_same_at_any_size(vgg: VGG, images: Tensor) -> None:
    auto = torch.export.Dim.AUTO
    sizes = {"images": {0: auto, 2: auto, 3: auto}}
    exported = torch.export.export(vgg, (images,), dynamic_shapes=sizes, strict=False).module()
    assert same(exported(images), vgg(images))
    assert same(exported(images[:1, :, 8:]), vgg(images[:1, :, 8:]))
    some = torch.export.export(vgg, (images,), {"layers": LAYERS}, strict=False).module()
    assert same(some(images, layers=LAYERS), vgg(images, LAYERS))


def test_tracers_see_every_layer(vgg: VGG, images: Tensor) -> None:
    traced = torch.fx.symbolic_trace(vgg)
    called = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    assert called == [name for name in vgg.layers if name != "conv1_1"]  # which is computed in its own way
    assert same(traced(images), vgg(images, vgg.layers))


def test_a_model_loaded_in_inference_mode_gives_gradients_later(images: Tensor) -> None:
    with torch.inference_mode():
        vgg = load_quantized_vgg(upto="relu1_2")
        state = load_quantized_state_dict(layout="vggquant")
    images.requires_grad_()
    vgg(images)["relu1_2"].sum().backward()
    assert images.grad is not None
    assert not any(tensor.is_inference() for tensor in (*state.values(), *vgg.parameters()))


def test_second_derivatives_are_right_or_refused(images: Tensor) -> None:
    image = images[:1].double()

    def squared_norm(vgg: VGG) -> float:
        x = image.to(torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(vgg(x, "relu1_2")["relu1_2"].square().mean(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
        return float(second.norm())

    expected = squared_norm(load_quantized_vgg(upto="relu1_2"))
    assert squared_norm(load_quantized_vgg(upto="relu1_2", dtype=torch.bfloat16)) == pytest.approx(expected, rel=0.1)
    half = load_quantized_vgg(upto="relu1_2", dtype=torch.float16)
    with pytest.raises(OptionError, match=r"first derivatives .* in float16, got second derivatives; load float32"):
        squared_norm(half)


def test_transforms_of_torch_func_are_right_or_refused(vgg: VGG, images: Tensor) -> None:
    def loss(network: VGG, image: Tensor) -> Tensor:
        found: Tensor = network(image[None], "relu2_1")["relu2_1"]
        return found.square().mean()

    image = images[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(vgg, image), image)
    assert torch.allclose(torch.func.grad(lambda x: loss(vgg, x))(images[0]), expected)
    mapped = torch.func.vmap(torch.func.grad(lambda x: loss(vgg, x)))(images)
    assert torch.allclose(mapped[0], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    half = load_quantized_vgg(upto="relu2_1", dtype=torch.float16)
    with pytest.raises(OptionError, match=r"got a transform of torch\.func; load float32 or bfloat16"):
        torch.func.grad(lambda x: loss(half, x))(images[0])


def test_it_may_be_mapped_without_gradients(vgg: VGG, images: Tensor) -> None:
    mapped = torch.func.vmap(lambda image: vgg(image[None], "relu1_1")["relu1_1"][0])(images)
    assert torch.allclose(mapped, vgg(images, "relu1_1")["relu1_1"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("place", [False, True])
def test_converted_later_it_is_as_if_loaded_in_that_type(place: bool, images: Tensor) -> None:
    expected = load_quantized_vgg(upto="relu2_1", dtype=torch.float16)
    converted = load_quantized_vgg(upto="relu2_1")
    if place:
        converted.place({"conv1_2": "cpu"})
    nn.Sequential(converted).half()
    assert converted.peaks == expected.peaks
    assert same(converted(images), expected(images))
    back = copy.deepcopy(converted).float()
    assert back.peaks == {}
    whole = load_quantized_vgg(upto="relu2_1")
    found = torch.func.vmap(lambda image: back(image[None], "relu2_1")["relu2_1"][0])(images)  # refused in float16
    assert torch.allclose(found, whole(images)["relu2_1"], rtol=0.01, atol=0.01 * float(found.max()))
    assert torch.equal(back.get_buffer("prepare.shift"), whole.get_buffer("prepare.shift"))
    assert same(
        load_quantized_vgg(upto="relu1_1").bfloat16()(images),
        load_quantized_vgg(upto="relu1_1", dtype=torch.bfloat16)(images),
    )


def test_images_of_a_tanh_are_caught(vgg: VGG, images: Tensor) -> None:
    with pytest.raises(PictureError, match=r"images in \[0, 1\], got -0\.9\d* to 0\.9.*; add 1 and divide by 2"):
        vgg(2 * images - 1)
    photographs = torch.cat([photograph(name, 128) for name in ("astronaut", "chelsea", "coffee", "rocket")])
    with pytest.raises(PictureError, match="add 1 and divide by 2"):
        vgg(2 * photographs - 1)
    vgg((2 * images - 1).requires_grad_())
    vgg(photographs - 0.2)  # which is no picture of [-1, 1], though dark
    compiled = torch.compile(vgg, fullgraph=True, backend="eager")
    compiled(2 * images - 1)  # a graph has no values


def test_images_that_were_not_divided_are_caught(vgg: VGG, images: Tensor) -> None:
    with pytest.raises(PictureError, match=r"images in \[0, 1\], got .* to 25\d.*; divide them by 255"):
        vgg(255 * images)
    vgg(2 * images - 0.5)  # colours that were matched to others leave [0, 1]
    vgg(60 * images - 20)  # and so does a painting that went astray
    vgg((9 * images).requires_grad_())  # a picture that is being optimised may go astray
