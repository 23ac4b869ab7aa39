"""Loading: in part, in other types, on other devices, by as many threads as torch has."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import GOLDEN, natural_picture
from vggquant import VGG, load_quantized_state_dict, load_quantized_vgg, pack
from vggquant.codec.bitstream import encode_codes
from vggquant.codec.palette import PalettizedTensor, dequantize
from vggquant.errors import ContainerError, OptionError, PictureError, StorageError
from vggquant.files import disk
from vggquant.files.container import read, write
from vggquant.files.layouts import Layout, write_layout
from vggquant.files.sources import embedded_path
from vggquant.models.features import gram_matrix, relative_error
from vggquant.models.load import restore_on
from vggquant.networks.vgg import ARCHITECTURES
from vggquant.threads import map_in_threads

CPU = torch.device("cpu")
FILES = [*(f"planes-{bits}" for bits in range(1, 9)), "huffman-2", "huffman-5", "scale"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_are_the_float32_weights_converted(name: str, dtype: torch.dtype) -> None:
    path = GOLDEN / f"{name}.safetensors"
    expected = load_quantized_vgg(path).state_dict()
    found = load_quantized_vgg(path, dtype=dtype).state_dict()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor.to(dtype)), key


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_a_gpu_does_equals_what_the_processor_does(name: str, dtype: torch.dtype) -> None:
    """The GPU's road, taken on the processor."""
    tensor = read(GOLDEN / f"{name}.safetensors").palettized["conv1_1.weight"]
    assert torch.equal(restore_on(CPU, tensor, dtype), torch.from_numpy(dequantize(tensor)).to(dtype))


def test_a_gpus_road_takes_any_number_of_codes_and_checks_them() -> None:
    codes = np.arange(13, dtype=np.uint8) % 5
    tensor = PalettizedTensor(encode_codes(codes, 3), np.arange(5, dtype=np.float32), (13,))
    assert restore_on(CPU, tensor, torch.float32).tolist() == codes.tolist()
    tensor = replace(tensor, codebook=np.arange(4, dtype=np.float32))
    with pytest.raises(ContainerError, match="codes below 4"):
        restore_on(CPU, tensor, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 7, 3, 1])
def test_a_gpus_weights_are_the_processors(bits: int, dtype: torch.dtype, packed_at: dict[int, Path]) -> None:
    expected = load_quantized_vgg(packed_at[bits], dtype=dtype).state_dict()
    found = load_quantized_vgg(packed_at[bits], device="cuda", dtype=dtype).state_dict()
    assert all(torch.equal(found[name].cpu(), tensor) for name, tensor in expected.items())


def test_upto_neither_reads_nor_checks_what_is_deeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(embedded_path().read_bytes())
    data[-1] ^= 1  # of conv5_4
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="conv5_4"):
        read(path)
    shallow = read(path, upto="relu2_1")
    assert list(shallow.palettized) == ["conv1_1.weight", "conv1_2.weight", "conv2_1.weight"]
    assert list(shallow.plain) == ["conv1_1.bias", "conv1_2.bias", "conv2_1.bias"]
    filled: list[int] = []
    original = disk.RegularFile.fill

    def fill(file: disk.RegularFile, begin: int, part: disk.Bytes) -> None:
        filled.append(part.size)
        original(file, begin, part)

    monkeypatch.setattr(disk.RegularFile, "fill", fill)
    read(path, upto="relu2_1")
    assert sum(filled) < 200_000
    data[sum(filled) - 1] ^= 1  # the last byte that was read
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="checksum"):
        read(path, upto="relu2_1")


def test_a_header_beyond_the_head_is_read_too(tmp_path: Path) -> None:
    weights = read(GOLDEN / "planes-3.safetensors")
    long = replace(weights.provenance, attribution="x" * (disk.HEAD_BYTES + 1))
    write(tmp_path / "x", replace(weights, provenance=long))
    found = read(tmp_path / "x", upto="relu1_1")
    assert np.array_equal(found.array("conv1_1.weight"), weights.array("conv1_1.weight"))


def test_a_file_shorter_than_its_header_says_is_refused_in_part(tmp_path: Path) -> None:
    data = embedded_path().read_bytes()
    for length in (4, 100, 7000, 100_000):
        (tmp_path / "x").write_bytes(data[:length])
        with pytest.raises(ContainerError):
            read(tmp_path / "x", upto="relu1_1")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_follow_torch_and_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def recorded(function: Any, items: Any, threads: int) -> Any:
        used.append(threads)
        return map_in_threads(function, items, threads)

    for module in ("container", "weights"):
        monkeypatch.setattr(f"vggquant.files.{module}.map_in_threads", recorded)
    expected = load_quantized_vgg().state_dict()
    used.clear()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = load_quantized_vgg().state_dict()
        load_quantized_state_dict(layout="caffe")
    finally:
        torch.set_num_threads(before)
    assert set(used) == {threads}
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


# ---- float16


def photographs() -> list[torch.Tensor]:
    pictures = [natural_picture(name) for name in ("astronaut", "coffee", "chelsea")]
    return [
        torch.from_numpy(picture[60:156, 160:256].copy()).permute(2, 0, 1)[None].float() / 255 for picture in pictures
    ]


def test_half_features_agree_to_their_accuracy() -> None:
    vgg = load_quantized_vgg()
    expected = [vgg(picture) for picture in photographs()]
    for dtype, first, rest in ((torch.float16, 5e-4, 2e-3), (torch.bfloat16, 4e-3, 3e-2)):  # rounded pixels give 6e-3
        half = load_quantized_vgg(dtype=dtype)
        for picture, activations in zip(photographs(), expected, strict=True):
            found = half(picture)
            for name, activation in activations.items():
                assert relative_error(found[name].float(), activation) < (first if name == "relu1_1" else rest), name
    assert max(float(activation.max()) for activation in expected[0].values()) > 3000


def test_float16_features_are_float32_and_their_gram_matrices_pass_float16() -> None:
    found = load_quantized_vgg(dtype=torch.float16, upto="relu4_1")(photographs()[0])
    assert all(activation.dtype == torch.float32 for activation in found.values())
    assert gram_matrix(found["relu4_1"]).max() > torch.finfo(torch.float16).max


def loud(factor: float = 16.0) -> dict[str, torch.Tensor]:
    """VGG with activations that float16 cannot hold between conv3_1 and conv4_2, and the same elsewhere."""
    state = load_quantized_vgg(upto="relu4_2").state_dict()
    names = ["conv3_1", "conv3_2", "conv3_3", "conv3_4", "conv4_1", "conv4_2"]
    state["conv3_1.weight"] = state["conv3_1.weight"] * factor
    state["conv4_2.weight"] = state["conv4_2.weight"] / factor
    for name in names[:-1]:
        state[f"{name}.bias"] = state[f"{name}.bias"] * factor
    return state


def test_float16_is_rescaled_where_activations_would_overflow() -> None:
    state = loud()
    whole, half = VGG(state), VGG({name: tensor.half() for name, tensor in state.items()})
    for picture in photographs():
        expected, found = whole(picture), half(picture)
        assert torch.isinf(expected["relu4_1"].half()).any()
        assert all(relative_error(found[name], activation) < 2e-3 for name, activation in expected.items())


def test_float16_stays_in_range_on_whatever_it_sees() -> None:
    vgg = load_quantized_vgg(dtype=torch.float16)
    torch.manual_seed(0)
    checks = ((torch.arange(96)[:, None] // 6 + torch.arange(96) // 6) % 2).float().expand(1, 3, 96, 96)
    noise = (torch.rand(1, 3, 96, 96) > 0.5).float()
    for picture in (torch.ones(1, 3, 96, 96), torch.zeros(1, 3, 96, 96), noise, checks):
        assert all(torch.isfinite(activation).all() for activation in vgg(picture).values())


def grams(activations: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack([(gram_matrix(activation) ** 2).mean() for activation in activations.values()]).sum()


LOSSES: dict[str, Callable[[dict[str, torch.Tensor]], torch.Tensor]] = {
    "squares": lambda activations: (activations["relu4_2"] ** 2).sum() / 2,
    "of one layer alone": lambda activations: (activations["relu2_1"] ** 2).sum(),
    "grams": grams,
    "tiny": lambda activations: 1e-12 * activations["relu4_2"].mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_float16_gradients_reach_the_image_whatever_their_size(name: str) -> None:
    gradients = []
    for dtype in (torch.float32, torch.float16):
        image = photographs()[0].requires_grad_()
        vgg = load_quantized_vgg(dtype=dtype, upto="relu4_2")
        loss = LOSSES[name](vgg(image, ("relu1_1", "relu2_1", "relu4_2")))
        for again in (True, False):  # a second pass begins anew
            (gradient,) = torch.autograd.grad(loss, image, retain_graph=again)
            gradients.append(gradient)
    assert torch.equal(gradients[2], gradients[3])
    assert relative_error(gradients[2], gradients[0]) < 0.05


def test_no_gradient_is_as_good_as_none() -> None:
    image = photographs()[0].requires_grad_()
    (0 * load_quantized_vgg(dtype=torch.float16, upto="relu2_1")(image)["relu2_1"]).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16])
def test_torchs_default_type_changes_nothing(default: torch.dtype) -> None:
    expected = load_quantized_vgg(upto="relu1_1")(photographs()[0])["relu1_1"]
    torch.set_default_dtype(default)
    try:
        found = load_quantized_vgg(upto="relu1_1")(photographs()[0].float())["relu1_1"]
        half = load_quantized_vgg(upto="relu1_1", dtype=torch.float16)(photographs()[0].float())["relu1_1"]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)
    assert relative_error(half, expected) < 1e-3


def test_float16_weights_are_not_rescaled_themselves() -> None:
    half, whole = load_quantized_vgg(dtype=torch.float16), load_quantized_vgg()
    assert torch.equal(half.get_parameter("conv3_1.weight"), whole.get_parameter("conv3_1.weight").half())


def test_float16_takes_a_dead_layer() -> None:
    state = {name: tensor.half() for name, tensor in load_quantized_vgg(upto="relu1_2").state_dict().items()}
    dead = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    assert VGG(dead)(photographs()[0])["relu1_2"].abs().max() == 0


def test_a_float16_state_dict_warns_which_layers_may_overflow(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"65504, which .*conv4_2.* may pass") as caught:
        state = load_quantized_state_dict(layout="torchvision", preprocessing="caffe", dtype=torch.float16)
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    assert "conv1_1" not in str(caught[0].message)
    pack("vgg19", tmp_path / "x", upto="relu1_2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_quantized_state_dict(tmp_path / "x", layout="torchvision", preprocessing="caffe", dtype=torch.float16)
        load_quantized_state_dict(layout="torchvision", preprocessing="caffe", dtype=torch.bfloat16)


def test_what_is_loaded_does_not_hold_on_to_the_file() -> None:
    """Neither weights nor biases are views of the file's bytes."""
    state = load_quantized_vgg().state_dict()
    assert sum(tensor.untyped_storage().nbytes() for tensor in state.values()) == 80_097_536


def test_options_are_refused_by_name() -> None:
    with pytest.raises(OptionError) as caught:
        load_quantized_vgg(pooling="mean")  # type: ignore[arg-type]
    assert str(caught.value) == "pooling: expected one of max, avg, got mean; choose one of these"
    vgg = load_quantized_vgg(upto="relu1_2")
    for layer, cure in (("relu9_9", r"did you mean relu1_2\?"), ("relu4_2", "load a deeper model")):
        with pytest.raises(OptionError, match=f"layers: expected layers of conv1_1 … relu1_2, got {layer}; {cure}"):
            vgg(torch.zeros(1, 3, 8, 8), layer)
    with pytest.raises(PictureError, match="sides of at least 1 pixels, got"):
        vgg(torch.zeros(1, 3, 0, 5), ())
    with pytest.raises(StorageError, match=r"^'': expected a readable file"):
        load_quantized_vgg("")


@pytest.mark.parametrize("layout", ["torchvision", "keras", "caffe"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_state_dicts_are_the_weights_renamed(layout: Layout, dtype: torch.dtype) -> None:
    weights = read(embedded_path()).restored()
    expected = write_layout(weights.plain, layout, ARCHITECTURES["vgg19"])
    found = load_quantized_state_dict(layout=layout, preprocessing="caffe", dtype=dtype)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, torch.from_numpy(expected[name]).to(dtype)), name
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
