"""The recipes of docs/recipes.md: each runs as it stands, and does what its page says."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from bench import pastiche_startup
from tests.conftest import natural_picture
from vggquant import VGG, load_quantized_state_dict, load_quantized_vgg, unpack
from vggquant.networks.vgg import CAFFE_MEAN, TORCH_MEAN, TORCH_STD

PAGE = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()
BLOCKS = {
    section.partition("\n")[0]: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for section in PAGE.split("\n## ")[1:]
}
BY_FILE = ("astronaut", "coffee", "chelsea")
SIZE = (48, 60)
DEPTHS = (2, 2, 4, 4, 4)
Run = Callable[..., dict[str, Any]]
Recipe = dict[str, Any]


def photograph(name: str) -> Tensor:
    """(1, 3, 48, 60), RGB in [0, 1]."""
    picture = torch.from_numpy(natural_picture(name).copy()).permute(2, 0, 1)[None].float() / 255
    return interpolate(picture, SIZE, mode="area")


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


def as_caffe(pictures: Tensor) -> Tensor:
    return pictures.flip(1) * 255 - torch.tensor(CAFFE_MEAN).reshape(3, 1, 1)


def as_torch(pictures: Tensor) -> Tensor:
    return (pictures - torch.tensor(TORCH_MEAN).reshape(3, 1, 1)) / torch.tensor(TORCH_STD).reshape(3, 1, 1)


def shape_of_torchvision() -> nn.Sequential:
    """What `torchvision.models.vgg19().features` is."""
    layers: list[nn.Module] = []
    for block, depth in enumerate(DEPTHS):
        for number in range(depth):
            width = 64 << min(block, 3)
            before = width if number else 3 if not block else 64 << (block - 1)
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the blocks of a section in one namespace, or the first few of them, with what the page says is given."""
    monkeypatch.chdir(tmp_path)
    for path, name in (("photo.jpg", "astronaut"), ("painting.jpg", "coffee")):
        pixels = (photograph(name)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(path)

    def run(section: str, count: int | None = None) -> Recipe:
        torch.manual_seed(0)
        names: Recipe = {
            "images": torch.cat([photograph(name) for name in BY_FILE]),
            "content": photograph("astronaut"),
            "style": photograph("coffee"),
        }
        for code in BLOCKS[section][:count]:
            exec(compile(code, f"docs/recipes.md, {section}", "exec"), names)
        return names

    return run


def optional(name: str) -> ModuleType:
    """A package that no test needs, without its warnings."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr("warnings.filters", [])
        pytest.importorskip(name.partition(".")[0])
        return importlib.import_module(name)


def test_every_recipe_is_here() -> None:
    tests = Path(__file__).read_text()
    for section, blocks in BLOCKS.items():
        assert blocks, section
        assert f'run("{section}"' in tests, section


def test_the_scale_of_the_features() -> None:
    vgg = load_quantized_vgg(upto="relu4_2")
    for name in (*BY_FILE, "rocket"):
        assert 9_500 < float(vgg(photograph(name), "relu4_2")["relu4_2"].max()) < 30_000


# ---- pastiche


def test_the_benchmark_runs_the_page() -> None:
    assert pastiche_startup.recipe() == BLOCKS["pastiche with these weights"][0]


@pytest.mark.filterwarnings("ignore")  # pastiche's own
def test_pastiches_artist_paints_with_our_weights_as_with_its_own(run: Run) -> None:
    pastiche = optional("pastiche.pastiche")
    theirs = pastiche.PasticheArtist("photo.jpg", ["painting.jpg"], device="cpu")
    original = pastiche.VGG19.from_quantized_bin
    recipe = run("pastiche with these weights")
    artist = recipe["artist"]
    assert pastiche.VGG19.from_quantized_bin is original
    state, expected = artist.vgg19.state_dict(), theirs.vgg19.state_dict()
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(state[name].view(torch.int32), tensor.view(torch.int32)), name
    start = theirs.loss
    for _ in range(3):
        theirs.draw()
    assert artist.loss == pytest.approx(theirs.loss, rel=1e-3)
    assert artist.loss < start
    painted = np.asarray(Image.open("pastiche.png"))
    assert painted.shape == (*SIZE, 3)
    assert np.abs(painted - np.asarray(Image.open("photo.jpg")).astype(float)).mean() > 1
    with pytest.MonkeyPatch.context() as context:
        context.setattr(pastiche.VGG19, "from_quantized_bin", recipe["load"])
        average = pastiche.PasticheArtist("photo.jpg", ["painting.jpg"], device="cpu", pooling="avg")
    assert isinstance(average.vgg19.block1_pool, nn.AvgPool2d)


# ---- torchvision


def test_the_features_are_those_of_our_module(run: Run) -> None:
    recipe = run("The shape of torchvision", 1)
    features, images = recipe["features"], recipe["images"]
    expected = VGG(recipe["state"], preprocessing="torch")(images)
    assert relative(recipe["activation"], expected["relu4_2"]) < 1e-5
    found = load_quantized_vgg()(images)
    assert relative(recipe["activation"], found["relu4_2"]) < 1e-2  # zero padding stands for another colour
    inner = (..., slice(2, -2), slice(2, -2))
    assert relative(features[:4](as_torch(images))[inner], found["relu1_2"][inner]) < 1e-5
    assert not any(parameter.requires_grad for parameter in features.parameters())
    before = features[0](as_torch(images))
    kept = before.clone()
    features[1](before)
    assert torch.equal(before, kept)


def check_shape(recipe: Recipe, module: nn.Sequential) -> None:
    """Holds the recipe to a module of torchvision's shape: its names, shapes, layers and activations."""
    ours = recipe["features"]
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in module.state_dict().items()
    }
    assert len(ours) == len(module) == 37
    assert all(isinstance(layer, type(other)) for layer, other in zip(ours, module, strict=True))
    exec(BLOCKS["The shape of torchvision"][1], {**recipe, "features": module})
    assert relative(module[:23](as_torch(recipe["images"])), recipe["activation"]) < 1e-5
    module.load_state_dict(load_quantized_state_dict(layout="torchvision", preprocessing="caffe", prefix=""))
    layers = load_quantized_vgg().layers
    with torch.no_grad():
        for name, expected in load_quantized_vgg()(recipe["images"], layers).items():
            if not name.startswith("conv"):  # which relus in place overwrite
                end = layers.index(name) + 1
                assert relative(module[:end](as_caffe(recipe["images"])), expected) < 1e-5, name


def test_a_module_of_torchvisions_shape_takes_the_weights(run: Run) -> None:
    check_shape(run("The shape of torchvision", 1), shape_of_torchvision())


def test_torchvisions_own_module_takes_the_weights(run: Run) -> None:
    models = optional("torchvision.models")
    check_shape(run("The shape of torchvision", 1), models.vgg19(weights=None).features)


# ---- Keras


def test_the_arrays_of_keras_compute_the_same(run: Run) -> None:
    """By convolutions over channels that come last, written out."""
    recipe = run("The names of Keras")
    arrays, images = recipe["weights"], recipe["images"]
    assert list(arrays)[:2] == ["block1_conv1/kernel", "block1_conv1/bias"]
    assert len(arrays) == 2 * sum(DEPTHS)
    x = as_caffe(images).permute(0, 2, 3, 1).numpy().astype(np.float64)
    for name in ("block1_conv1", "block1_conv2"):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # N, H, W, in, height, width
        x = np.maximum(
            np.einsum("nhwcij,ijco->nhwo", windows, arrays[f"{name}/kernel"], optimize=True) + arrays[f"{name}/bias"], 0
        )
    expected = load_quantized_vgg(upto="relu1_2")(images)["relu1_2"].permute(0, 2, 3, 1)
    assert relative(torch.from_numpy(x).float(), expected) < 1e-5


class Layer:
    """As much of a layer of Keras as the recipe touches."""

    def __init__(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.name = name
        self.weights = [np.zeros(shape, np.float32) for shape in shapes]

    def set_weights(self, weights: list[np.ndarray[Any, Any]]) -> None:
        assert [array.shape for array in weights] == [array.shape for array in self.weights]
        self.weights = list(weights)


def test_layers_of_keras_names_and_shapes_are_filled(run: Run) -> None:
    recipe = run("The names of Keras")
    layers, channels = [Layer("input_layer")], 3
    for block, depth in enumerate(DEPTHS, 1):
        for number in range(1, depth + 1):
            width = (64, 128, 256, 512, 512)[block - 1]
            layers.append(Layer(f"block{block}_conv{number}", (3, 3, channels, width), (width,)))
            channels = width
        layers.append(Layer(f"block{block}_pool"))
    model = type("Model", (), {"layers": layers})
    recipe["fill"](model)
    state = load_quantized_vgg().state_dict()
    for layer in layers:
        if layer.weights:
            name = layer.name.replace("block", "conv").replace("_conv", "_")
            assert np.array_equal(layer.weights[0].transpose(3, 2, 0, 1), state[f"{name}.weight"].numpy())
            assert np.array_equal(layer.weights[1], state[f"{name}.bias"].numpy())


@pytest.mark.filterwarnings("ignore")  # Keras' own
def test_keras_own_model_takes_the_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = optional("keras")
    applications = optional("keras.applications")
    recipe = run("The names of Keras")
    images = recipe["images"]
    model = applications.VGG19(weights=None, include_top=False, input_shape=(*SIZE, 3))
    recipe["fill"](model)
    prepared = applications.vgg19.preprocess_input((images * 255).permute(0, 2, 3, 1).numpy().copy())
    inner = keras.Model(model.input, model.get_layer("block4_conv2").output)
    expected = load_quantized_vgg(upto="relu4_2")(images)["relu4_2"].permute(0, 2, 3, 1)
    assert relative(torch.from_numpy(inner.predict(prepared, verbose=0)), expected) < 1e-5
    unpack("vgg19", tmp_path / "vgg19.h5")
    again = applications.VGG19(weights=None, include_top=False, input_shape=(*SIZE, 3))
    again.load_weights(tmp_path / "vgg19.h5")
    for found, filled in zip(again.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(found, filled)


# ---- Gatys et al.


def test_the_code_of_gatys_et_al_descends(run: Run) -> None:
    recipe = run("Gatys et al., by number")
    ours = load_quantized_vgg(upto="relu4_2", pooling="avg")
    with torch.no_grad():
        found = recipe["activations"](recipe["style"])
    assert len(found) == len(ours.layers) == 23
    for name, expected in ours(recipe["style"], ours.layers).items():
        assert relative(found[ours.layers.index(name)], expected) < 1e-5, name
    assert [ours.layers[number] for number in recipe["STYLE"]] == ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    assert ours.layers[recipe["CONTENT"]] == "relu4_2"
    assert recipe["losses"][-1] < recipe["losses"][0] / 4
    assert not torch.equal(recipe["picture"], recipe["content"])
    assert not any(parameter.requires_grad for parameter in recipe["network"].parameters())


def test_poolings_share_their_weights_but_not_their_features(run: Run) -> None:
    pictures = photograph("coffee")
    average, largest = (load_quantized_vgg(upto="relu2_1", pooling=pooling) for pooling in ("avg", "max"))
    assert all(torch.equal(one, largest.state_dict()[name]) for name, one in average.state_dict().items())
    assert relative(average(pictures)["relu2_1"], largest(pictures)["relu2_1"]) > 0.01


# ---- training


def test_the_training_loop_descends(run: Run) -> None:
    recipe = run("A perceptual loss in training")
    losses = recipe["losses"]
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]
    network, perceptual, images = recipe["network"], recipe["perceptual"], recipe["images"]
    with torch.no_grad():
        feature_loss = float(perceptual(network(images), images))
        pixel_loss = float(nn.functional.l1_loss(network(images), images))
    assert 1e4 < feature_loss / 1e-6 < 1e6
    assert 0.2 < feature_loss / pixel_loss < 5  # "of about one size"
    held = nn.ModuleDict({"network": network, "loss": perceptual})
    assert list(held.state_dict()) == [f"network.{name}" for name in network.state_dict()]
    assert len(list(held.parameters())) == len(list(network.parameters()))


# ---- distance


def test_the_distance_behaves_as_one(run: Run) -> None:
    recipe = run("A distance like LPIPS")
    distance, images = recipe["distance"], recipe["images"][:2]
    assert recipe["distances"].shape == (3,)
    assert torch.equal(distance(images, images), torch.zeros(2))
    others = images.roll(1, 0)
    assert torch.allclose(distance(images, others), distance(others, images), rtol=1e-6)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    for changed in (
        [(images + amount * noise).clamp(0, 1) for amount in (0.03, 0.1, 0.3)],
        [avg_pool2d(images, size, 1, size // 2, count_include_pad=False) for size in (3, 5, 9)],
    ):
        distances = torch.stack([distance(images, pictures) for pictures in changed])
        assert (distances[0] > 0).all()
        assert (distances.diff(dim=0) > 0).all()
        assert (distances < distance(images, others)).all()
    assert (distance(images, torch.zeros_like(images)) <= 10).all()
    x = others.clone().requires_grad_()
    distance(x, images).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_distance_by_its_definition(run: Run) -> None:
    recipe = run("A distance like LPIPS")
    one, other = recipe["images"][:1], recipe["images"][1:2]
    vgg, expected = load_quantized_vgg(), 0.0
    found = [vgg(pictures) for pictures in (one, other)]
    for layer in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"):
        a, b = (features[layer][0].double().numpy() for features in found)
        a, b = a / (np.sqrt((a**2).sum(0)) + 1e-10), b / (np.sqrt((b**2).sum(0)) + 1e-10)
        expected += ((a - b) ** 2).sum(0).mean()
    assert float(recipe["distance"](one, other)) == pytest.approx(expected, rel=1e-4)
