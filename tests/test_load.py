"""Loading: in part, in other types, on other devices, by as many threads as torch has."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import GOLDEN, natural_picture
from vggquant import VGG, load_quantized_state_dict, load_quantized_vgg, pack, storage
from vggquant.coding import encode_codes
from vggquant.container import read, write
from vggquant.errors import ContainerError
from vggquant.load import restore_on
from vggquant.palette import PalettizedTensor, dequantize
from vggquant.sources import embedded_path
from vggquant.storage import read_file

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
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_a_gpu_does_equals_what_the_processor_does(name: str, dtype: torch.dtype) -> None:
    """The GPU's road, taken on the processor."""
    weight = read(GOLDEN / f"{name}.safetensors").layers["conv1_1"].weight
    assert torch.equal(restore_on(CPU, weight, dtype), torch.from_numpy(dequantize(weight)).to(dtype))


def test_a_gpus_road_takes_any_number_of_codes_and_checks_them() -> None:
    codes = np.arange(13, dtype=np.uint8) % 5
    tensor = PalettizedTensor(encode_codes(codes, 3), np.arange(5, dtype=np.float32), (13,))
    assert restore_on(CPU, tensor, torch.float32).tolist() == codes.tolist()
    tensor = replace(tensor, codebook=np.arange(4, dtype=np.float32))
    with pytest.raises(ContainerError, match="codes below 4"):
        restore_on(CPU, tensor, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("bits", [8, 7, 3, 1])
def test_a_gpus_weights_are_the_processors(bits: int, packed_at: dict[int, Path]) -> None:
    expected = load_quantized_vgg(packed_at[bits]).state_dict()
    found = load_quantized_vgg(packed_at[bits], device="cuda").state_dict()
    assert all(torch.equal(found[name].cpu(), tensor) for name, tensor in expected.items())


def test_upto_neither_reads_nor_checks_what_is_deeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(embedded_path().read_bytes())
    data[-1] ^= 1  # of conv5_4
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="conv5_4"):
        read(path)
    shallow = read(path, upto="relu2_1")
    assert list(shallow.layers) == ["conv1_1", "conv1_2", "conv2_1"]
    filled: list[int] = []
    original = storage._fill

    def fill(file: io.FileIO, part: storage.Bytes) -> bool:
        filled.append(part.size)
        return original(file, part)

    monkeypatch.setattr(storage, "_fill", fill)
    read(path, upto="relu2_1")
    assert sum(filled) < 200_000
    data[sum(filled) - 1] ^= 1  # the last byte that was read
    path.write_bytes(data)
    with pytest.raises(ContainerError, match="checksum"):
        read(path, upto="relu2_1")


def test_a_header_beyond_the_head_is_read_too(tmp_path: Path) -> None:
    weights = read(GOLDEN / "planes-3.safetensors")
    long = replace(weights.provenance, attribution="x" * (storage.HEAD_BYTES + 1))
    write(tmp_path / "x", replace(weights, provenance=long))
    found = read(tmp_path / "x", upto="relu1_1")
    assert np.array_equal(dequantize(found.layers["conv1_1"].weight), dequantize(weights.layers["conv1_1"].weight))


def test_a_file_shorter_than_its_header_says_is_refused_in_part(tmp_path: Path) -> None:
    data = embedded_path().read_bytes()
    for length in (4, 100, 7000, 100_000):
        (tmp_path / "x").write_bytes(data[:length])
        with pytest.raises(ContainerError):
            read(tmp_path / "x", upto="relu1_1")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_follow_torch_and_change_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            used.append(workers)
            super().__init__(workers)

    for module in ("container", "load", "weights"):
        monkeypatch.setattr(f"vggquant.{module}.ThreadPoolExecutor", Pool)
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


def photograph() -> torch.Tensor:
    picture = torch.from_numpy(natural_picture()[40:168, 160:288].copy())
    return picture.permute(2, 0, 1)[None].float() / 255


def test_float16_features_agree_to_its_accuracy() -> None:
    expected, found = load_quantized_vgg()(photograph()), load_quantized_vgg(dtype=torch.float16)(photograph())
    for name, activation in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - activation).norm() / activation.norm() < 2e-3, name
    assert max(float(activation.max()) for activation in expected.values()) > 5000


def test_float16_stays_in_range_on_whatever_it_sees() -> None:
    vgg = load_quantized_vgg(dtype=torch.float16)
    torch.manual_seed(0)
    checks = ((torch.arange(96)[:, None] // 6 + torch.arange(96) // 6) % 2).float().expand(1, 3, 96, 96)
    for picture in (
        torch.ones(1, 3, 96, 96),
        torch.zeros(1, 3, 96, 96),
        (torch.rand(1, 3, 96, 96) > 0.5).float(),
        checks,
    ):
        assert all(torch.isfinite(activation).all() for activation in vgg(picture).values())


def test_float16_without_rescaling_would_overflow() -> None:
    """What the rescaling is for: the same network on activations as they are."""
    vgg = load_quantized_vgg(dtype=torch.float16)
    exponents = dict(vgg._exponents)
    assert max(exponents.values()) >= 5
    bright = torch.ones(1, 3, 64, 64) * 4  # brighter than white
    assert all(torch.isfinite(activation).all() for activation in vgg(bright).values())
    vgg._exponents = dict.fromkeys(exponents, 0)
    assert not all(torch.isfinite(activation).all() for activation in vgg(bright * 3).values())


def test_float16_weights_are_not_rescaled_themselves() -> None:
    half, whole = load_quantized_vgg(dtype=torch.float16), load_quantized_vgg()
    assert torch.equal(half.get_parameter("conv3_1.weight"), whole.get_parameter("conv3_1.weight").half())


def test_float16_takes_a_dead_layer() -> None:
    state = {name: tensor.half() for name, tensor in load_quantized_vgg(upto="relu1_2").state_dict().items()}
    dead = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    assert VGG(dead)(photograph())["relu1_2"].abs().max() == 0


def test_float16_gradients_reach_the_image() -> None:
    vgg = load_quantized_vgg(dtype=torch.float16, upto="relu2_1")
    image = photograph().requires_grad_()
    vgg(image, "relu2_1")["relu2_1"].mean().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0


def test_a_float16_state_dict_warns_which_layers_may_overflow(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"65504, which .*conv4_2.* may pass") as caught:
        state = load_quantized_state_dict(layout="torchvision", dtype=torch.float16)
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    assert "conv1_1" not in str(caught[0].message)
    pack("vgg19", tmp_path / "x", upto="relu1_2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_quantized_state_dict(tmp_path / "x", layout="torchvision", dtype=torch.float16)
        load_quantized_state_dict(layout="torchvision", dtype=torch.bfloat16)


def test_what_is_loaded_does_not_hold_on_to_the_file() -> None:
    """Neither weights nor biases are views of the file's bytes."""
    data = read_file(embedded_path())
    state = load_quantized_vgg().state_dict()
    assert sum(tensor.untyped_storage().nbytes() for tensor in state.values()) == 80_097_536
    assert data.size < 80_097_536
