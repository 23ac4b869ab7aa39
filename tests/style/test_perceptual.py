"""Losses for training: what they compute, in which types, and how they live inside of other people's modules."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tests.style.networks import Tiny, photograph
from vggquant import VGG, Frozen, load_quantized_vgg, pack
from vggquant.errors import OptionError, PictureError
from vggquant.style import ContentLoss, PerceptualLoss, StyleLoss

SHALLOW: dict[str, Any] = {"content_layers": "relu2_1", "style_layers": ("relu1_1", "relu2_1")}


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss(**SHALLOW)


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 32, 24, generator=generator), torch.rand(2, 3, 32, 24, generator=generator)


def squares(one: Tensor, other: Tensor) -> Tensor:
    return ((one - other) ** 2).flatten(1).mean(1)


# ---- what is computed


def test_by_the_formulas_of_the_paper(pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    found, expected = (load_quantized_vgg(upto="relu4_3")(images) for images in (x, target))
    content = squares(found["relu3_3"], expected["relu3_3"])
    assert torch.allclose(ContentLoss(reduction="none")(x, target), content)
    # Johnson's Gram matrices are divided by the channels too, and he sums their differences: the same
    style = torch.zeros(2)
    for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3"):
        channels, height, width = found[layer].shape[1:]
        one, other = (features[layer].flatten(2) / (channels * height * width) ** 0.5 for features in (found, expected))
        style += ((one @ one.mT - other @ other.mT) ** 2).sum((1, 2))
    assert torch.allclose(StyleLoss("johnson", reduction="none")(x, target), style, rtol=1e-3)
    both = PerceptualLoss("johnson", "johnson", content_weight=2.0, style_weight=0.5, reduction="none")
    assert torch.allclose(both(x, target), 2 * content + 0.5 * style, rtol=1e-3)


def test_the_layers_of_the_papers() -> None:
    both = PerceptualLoss("gatys", "gatys", network=Tiny())
    assert both.content_layers == {"relu4_2": 1.0}
    assert list(both.style_layers) == ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert list(PerceptualLoss("johnson", "johnson", network=Tiny()).layers) == [
        "relu3_3", "relu1_2", "relu2_2", "relu4_3",
    ]  # fmt: skip
    assert PerceptualLoss(network=Tiny()).style_layers == {}


def test_layers_have_weights(pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    found, expected = (load_quantized_vgg(upto="relu2_1")(images) for images in pictures)
    weighted = ContentLoss({"relu1_1": 3.0, "relu2_1": 0.25}, reduction="none")(x, target)
    parts = [squares(found[layer], expected[layer]) for layer in ("relu1_1", "relu2_1")]
    assert torch.allclose(weighted, 3 * parts[0] + 0.25 * parts[1])


def test_reductions(pictures: tuple[Tensor, Tensor]) -> None:
    each = PerceptualLoss(**SHALLOW, reduction="none")(*pictures)
    assert each.shape == (2,)
    assert torch.allclose(PerceptualLoss(**SHALLOW)(*pictures), each.mean())
    assert torch.allclose(PerceptualLoss(**SHALLOW, reduction="sum")(*pictures), each.sum())
    alone = PerceptualLoss(**SHALLOW, reduction="none")(pictures[0][:1], pictures[1][:1])
    assert torch.allclose(alone, each[:1], rtol=1e-4)


def test_one_target_for_a_whole_batch(loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    assert torch.allclose(loss(x, target[:1]), loss(x, target[:1].repeat(2, 1, 1, 1)))
    with pytest.raises(PictureError, match="target: expected 2 images or 1, got 3; repeat"):
        loss(x, target[[0, 1, 1]])
    with pytest.raises(PictureError, match=r"target: expected shape \(2, 3, 32, 24\), that of x, got"):
        loss(x, target[..., :8])


def test_a_style_of_its_own_and_of_any_size(loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    style = photograph("astronaut", 20)
    content = ContentLoss("relu2_1")(x, target)
    manner = StyleLoss(("relu1_1", "relu2_1"))(x, style)
    assert torch.allclose(loss(x, target, style), content + manner)
    assert torch.allclose(loss(x, target), content + StyleLoss(("relu1_1", "relu2_1"))(x, target))
    with pytest.raises(OptionError, match="style_layers: expected style layers to compare a style at, got none"):
        ContentLoss("relu1_1")(x, target, style)
    with pytest.raises(PictureError, match="style: expected 2 images or 1, got 3"):
        loss(x, target, style.repeat(3, 1, 1, 1))


def test_other_ranges_when_they_are_said(loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]) -> None:
    expected = loss(*pictures)
    for black, white in ((-1, 1), (0, 255)):
        said = PerceptualLoss(**SHALLOW, input_range=(black, white))
        assert torch.allclose(said(*(images * (white - black) + black for images in pictures)), expected)


@pytest.mark.parametrize("network", [None, Tiny()], ids=["vgg", "other"])
def test_other_ranges_are_caught_when_they_are_not_said(
    network: nn.Module | None, pictures: tuple[Tensor, Tensor]
) -> None:
    x, target = pictures
    x = (x * 3).requires_grad_()  # it is being optimised, and may go astray
    for changed, shown in ((255 * target, "to 25"), (2 * target - 1, "to 0.9")):
        fresh = PerceptualLoss("relu1_1", network=network)
        with pytest.raises(PictureError, match=rf"target: expected images in \[0, 1\], got .*{shown}.*as input_range"):
            fresh(x, changed)
        with pytest.raises(PictureError, match="x: expected images"):
            fresh(changed, target)
        painted = changed.clone().requires_grad_() * 1  # by a network that is being trained
        with pytest.raises(PictureError, match=rf"x: expected images in \[0, 1\], got .*{shown}.*as input_range"):
            fresh(painted, target)
        fresh(x, x)  # has looked at nothing
        with pytest.raises(PictureError, match="x: expected images"):
            fresh(painted, target)
        fresh(x, target)


# ---- what is refused


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"content_layers": "relu9_1"}, r"layers: expected johnson, gatys or a layer conv1_1 … pool5, got relu9_1;"),
        ({"content_layers": "jonson"}, r"got jonson; did you mean johnson\?"),
        ({"content_layers": ()}, "layers: expected a layer or more, got none"),
        ({"content_layers": {"relu1_1": -1}}, "content_layers: expected a finite number from 0 up for relu1_1, got -1"),
        ({"style_layers": {"relu1_1": "x"}}, "style_layers: expected a finite number from 0 up for relu1_1, got x"),
        ({"content_weight": float("nan")}, "content_weight: expected a finite number from 0 up, got nan"),
        ({"style_weight": -1}, "style_weight: expected a finite number from 0 up, got -1"),
        ({"reduction": "max"}, "reduction: expected one of mean, sum, none, got max"),
        ({"input_range": "-1,1"}, r"input_range: expected black and white, as in \(-1, 1\), got -1,1"),
        ({"input_range": None}, r"input_range: expected black and white"),
        ({"input_range": (0, "1")}, r"input_range: expected black and white"),
        ({"content_layers": None}, "content_layers: expected layers, got None; pass names"),
        ({"style_layers": 3}, "style_layers: expected layers, got 3; pass names"),
        ({"input_range": (1, 1)}, r"input_range: expected black and white, as in \(-1, 1\), got \(1, 1\)"),
    ],
)
def test_arguments_without_a_meaning(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(OptionError, match=error):
        PerceptualLoss(**arguments)


def test_images_that_are_none(loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    with pytest.raises(PictureError, match="x: expected images as a floating tensor, got ndarray"):
        loss(x.numpy(), target.numpy())
    with pytest.raises(PictureError, match="target: expected images as a floating tensor, got NoneType"):
        loss(x, None)
    with pytest.raises(PictureError, match=r"style: expected shape \(N, 3, H, W\), N from 1, got \(3, 32, 24\)"):
        loss(x, target, target[0])
    with pytest.raises(PictureError, match=r"x: expected shape .*, got \(0, 3, 32, 24\); pass one image or more"):
        loss(x[:0], target[:0])


def test_any_packed_file_is_read_no_deeper_than_needed(tmp_path: Any, pictures: tuple[Tensor, Tensor]) -> None:
    pack("vgg19", tmp_path / "x", bits=4, upto="relu2_1")
    found = ContentLoss("relu1_2", network=tmp_path / "x")
    module = found.network.module
    assert isinstance(module, VGG)
    assert module.layers[-1] == "relu1_2"
    network = load_quantized_vgg(tmp_path / "x")
    assert torch.equal(found(*pictures), ContentLoss("relu1_2", network=network)(*pictures))
    with pytest.raises(OptionError, match="upto: expected a layer up to conv2_1, where the file ends, got relu3_3"):
        ContentLoss(network=tmp_path / "x")


# ---- gradients


def test_gradients_reach_the_images_alone(loss: PerceptualLoss) -> None:
    x, target = (torch.rand(1, 3, 8, 8, requires_grad=True) for _ in range(2))
    loss(x, target.detach()).backward()
    assert target.grad is None
    expected = torch.autograd.grad(loss(x, target), (x, target))
    assert x.grad is not None
    assert torch.allclose(x.grad, expected[0])
    assert expected[1].norm() > 0
    assert not list(loss.parameters())


def test_gradients_are_right() -> None:
    exact = PerceptualLoss("relu1_2", "pool1", style_weight=1e-4, content_weight=1e-2).double()
    generator = torch.Generator().manual_seed(0)
    x, target = (torch.rand(n, 3, 4, 4, dtype=torch.float64, generator=generator) for n in (2, 1))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(exact, (x.requires_grad_(), target), eps=1e-7, rtol=1e-3, atol=1e-3, fast_mode=True)


def test_a_network_of_ones_own_is_frozen(pictures: tuple[Tensor, Tensor]) -> None:
    network = Tiny().train().requires_grad_(True)
    loss = PerceptualLoss(("any",), network=network)
    assert loss.network.module is network
    assert not network.training
    x = pictures[0].clone().requires_grad_()
    loss(x, pictures[1]).backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


# ---- types


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.bfloat16], ids=["half", "bfloat16"])
def test_half_types(convert: Callable[[nn.Module], PerceptualLoss], loss: PerceptualLoss) -> None:
    x, target = photograph("astronaut", 24).requires_grad_(), photograph("chelsea", 24)
    expected = loss(x, target)
    (gradient,) = torch.autograd.grad(expected, x)
    half = convert(copy.deepcopy(loss))
    for images in (x, x.to(torch.bfloat16)):
        found = half(images, target.to(images.dtype))
        assert found.dtype == torch.float32
        assert torch.allclose(found, expected, rtol=0.05)
    (found,) = torch.autograd.grad(half(x, target), x)
    assert torch.nn.functional.cosine_similarity(found.flatten(), gradient.flatten(), 0) > 0.99
    assert torch.allclose(half.float()(x, target), expected, rtol=0.05)  # and back


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype, loss: PerceptualLoss) -> None:
    x, target = photograph("astronaut", 32).requires_grad_(), photograph("chelsea", 32)
    expected = loss(x, target)
    (gradient,) = torch.autograd.grad(expected, x)
    seen: list[torch.dtype] = []
    own = copy.deepcopy(loss)
    own.network.module.get_submodule("relu1_2").register_forward_hook(lambda *given: seen.append(given[2].dtype))
    with torch.autocast("cpu", dtype):
        found = own(x, target)
    assert set(seen) == {torch.float32 if dtype == torch.float16 else torch.bfloat16}
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=0.05)
    (reached,) = torch.autograd.grad(found, x)
    assert torch.nn.functional.cosine_similarity(reached.flatten(), gradient.flatten(), 0) > 0.99


def test_autocast_of_a_float16_network(pictures: tuple[Tensor, Tensor], loss: PerceptualLoss) -> None:
    half = PerceptualLoss(**SHALLOW, network=load_quantized_vgg(upto="relu2_1", dtype=torch.float16))
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype):
            assert torch.allclose(half(*pictures), loss(*pictures), rtol=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_cuda(dtype: torch.dtype, loss: PerceptualLoss) -> None:
    x, target = photograph("astronaut", 64), photograph("chelsea", 64)
    expected = loss(x, target).item()
    on_gpu = copy.deepcopy(loss).cuda()
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        found = on_gpu(x.cuda().requires_grad_(), target.cuda())
    assert found.item() == pytest.approx(expected, rel=0.05)
    assert on_gpu.cpu()(x, target).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(PictureError, match="as input_range"):
        PerceptualLoss("relu1_1").cuda()(x.cuda(), 255 * target.cuda())


# ---- a module among modules


class Trained(nn.Module):
    """Somebody's network that holds its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.paint = nn.Conv2d(3, 3, 3, padding=1)
        self.loss = PerceptualLoss(**SHALLOW)
        self.vgg = Frozen(load_quantized_vgg(upto="relu1_2"))

    def forward(self, x: Tensor) -> Tensor:
        painted: Tensor = torch.sigmoid(self.paint(x))
        return painted


def test_a_checkpoint_does_not_grow_by_the_network(pictures: tuple[Tensor, Tensor]) -> None:
    parent = Trained()
    assert sorted(parent.state_dict()) == ["paint.bias", "paint.weight"]
    file = io.BytesIO()
    torch.save(parent.state_dict(), file)
    assert file.tell() < 10_000
    file.seek(0)
    other = Trained()
    assert not any(other.load_state_dict(torch.load(file), strict=True))
    assert torch.equal(other(pictures[0]), parent(pictures[0]))
    assert torch.equal(other.loss(*pictures), parent.loss(*pictures))


def test_what_reaches_a_parents_parameters_does_not_reach_the_network(pictures: tuple[Tensor, Tensor]) -> None:
    parent = Trained()
    before = parent.loss(*pictures)

    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)

    parent.apply(initialise)
    parent.requires_grad_(True).train()
    assert not parent.paint.weight.any()
    assert len(list(parent.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in parent.loss.network.module.parameters())
    assert not parent.vgg.module.training
    assert torch.equal(parent.loss(*pictures), before)
    assert "conv2_1" in repr(parent)


def test_a_frozen_module_gives_what_it_gives(pictures: tuple[Tensor, Tensor]) -> None:
    expected = load_quantized_vgg(upto="relu1_2")(pictures[0], layers="relu1_2")
    found = Frozen(load_quantized_vgg(upto="relu1_2"))(pictures[0], layers="relu1_2")
    assert torch.equal(found["relu1_2"], expected["relu1_2"])


def test_a_parent_that_is_emptied_does_not_empty_the_network(pictures: tuple[Tensor, Tensor]) -> None:
    parent = Trained()
    expected = parent.loss(*pictures)
    parent.to("meta")
    assert parent.paint.weight.is_meta
    assert torch.equal(parent.loss(*pictures), expected)
    parent.to_empty(device="cpu")
    assert torch.equal(parent.loss(*pictures), expected)
    assert torch.allclose(parent.double().loss(*pictures), expected.double())
    with pytest.raises(OptionError, match=r"^module: expected a module, got str; load one"):
        Frozen("vgg19")  # type: ignore[arg-type]


AGAIN: dict[str, Callable[[Any], Any]] = {
    "copy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_copies_compute_the_same(again: Callable[[Any], Any], pictures: tuple[Tensor, Tensor]) -> None:
    parent = Trained()
    found = again(parent)
    assert found.loss.network.module is not parent.loss.network.module
    assert torch.equal(found.loss(*pictures), parent.loss(*pictures))
    assert torch.equal(found(pictures[0]), parent(pictures[0]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's compiler does it
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_in_one_graph_it_is_the_same(
    backend: str, loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]
) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(loss), fullgraph=True, backend=backend)
    for part in ((...,), (..., slice(16)), (slice(1),)):
        x, target = (images[part].clone() for images in pictures)
        x.requires_grad_()
        assert torch.allclose(compiled(x, target), loss(x, target))
        found, expected = (torch.autograd.grad(one(x, target), x)[0] for one in (compiled, loss))
        assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch 2.6, about its own tracing
def test_exported_and_transformed_it_is_the_same(loss: PerceptualLoss, pictures: tuple[Tensor, Tensor]) -> None:
    x, target = pictures
    exported = torch.export.export(copy.deepcopy(loss), pictures, strict=False).module()
    assert torch.allclose(exported(x, target), loss(x, target))
    each = torch.stack([loss(x[i : i + 1], target[i : i + 1]) for i in range(2)])
    fresh = copy.deepcopy(loss)
    fresh._ranges_seen = False
    mapped = torch.func.vmap(lambda one, other: fresh(one[None], other[None]))(x, target)
    assert torch.allclose(mapped, each, rtol=1e-4)


def test_a_loss_made_in_inference_mode_gives_gradients_later(pictures: tuple[Tensor, Tensor]) -> None:
    with torch.inference_mode():
        loss = PerceptualLoss("relu1_1", "relu1_1")
        loss(*pictures)
    x = pictures[0].clone().requires_grad_()
    loss(x, pictures[1]).backward()
    assert x.grad is not None


class Measured(Dataset[Tensor]):
    """A data set that looks at its pictures with a loss, as filters and hard-example miners do."""

    def __init__(self, loss: PerceptualLoss) -> None:
        self.loss = loss

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        x, target = (torch.rand(1, 3, 16, 16, generator=generator) for _ in range(2))
        loss = PerceptualLoss(**SHALLOW) if index % 2 else self.loss  # loaded in the worker, or outside
        found: Tensor = loss(x, target)
        return found


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_in_workers(context: str, loss: PerceptualLoss) -> None:
    data = Measured(loss)
    expected = torch.stack([data[index] for index in range(4)])
    loaded = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=context)
    assert torch.allclose(torch.cat(list(loaded)), expected, rtol=1e-4)


def test_a_network_learns_from_it() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    content, style = photograph("chelsea", 24), photograph("astronaut", 24)
    loss = PerceptualLoss("relu1_2", "relu1_1", style_weight=1e-4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        found = loss(torch.sigmoid(network(content)), content, style)
        found.backward()
        optimizer.step()
        losses.append(found.item())
    assert losses[-1] < losses[0] / 2
