"""Weights to codes and codebook, and back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant.codec.bitstream import decode_codes, encode_codes
from vggquant.codec.palette import PalettizedTensor, dequantize, look_up, palettize, sqnr_db
from vggquant.errors import ContainerError


@given(st.lists(st.sampled_from([-1.5, -0.25, 0.0, 0.5, 3.0, 1e-40]), min_size=1, max_size=60), st.integers(3, 8))
@settings(max_examples=100, deadline=None)
def test_few_values_are_lossless(numbers: list[float], bits: int) -> None:
    weight = np.array(numbers, np.float32)
    tensor = palettize(weight, bits)
    assert np.array_equal(dequantize(tensor), weight)
    assert tensor.codebook.size == np.unique(weight).size


@pytest.mark.parametrize("bits", range(1, 9))
def test_each_weight_gets_its_nearest_centroid(bits: int) -> None:
    weight = np.random.default_rng(bits).normal(0, 1, (8, 4, 3, 3)).astype(np.float32)
    tensor = palettize(weight, bits)
    distance = np.abs(weight.reshape(-1, 1).astype(np.float64) - tensor.codebook)
    chosen = decode_codes(tensor.codes)
    assert np.array_equal(distance[np.arange(weight.size), chosen], distance.min(1))
    assert np.array_equal(dequantize(tensor).ravel(), tensor.codebook[chosen])
    assert np.unique(chosen).size == tensor.codebook.size <= 2**bits


def test_a_negative_zero_becomes_zero() -> None:
    restored = dequantize(palettize(np.array([-0.0, 1.0, 0.0], np.float32), 1))
    assert restored.tolist() == [0.0, 1.0, 0.0]
    assert not np.signbit(restored).any()


def test_a_constant_layer_is_exact() -> None:
    tensor = palettize(np.full((4, 4, 3, 3), 0.1, np.float32), 8)
    assert tensor.codebook.size == 1
    assert (dequantize(tensor) == np.float32(0.1)).all()


def test_scale_multiplies_output_channels() -> None:
    weight = np.array([[1, 2], [1, 2], [2, 1]], np.float32)
    tensor = replace(palettize(weight, 1), scale=np.array([1, 10, 0.5], np.float32))
    assert dequantize(tensor).tolist() == [[1, 2], [10, 20], [1, 0.5]]


def test_a_code_beyond_the_codebook_is_refused() -> None:
    codes = encode_codes(np.array([0, 1, 2, 3], np.uint8), 2)
    tensor = PalettizedTensor(codes, np.array([0, 1, 2], np.float32), (4,))
    with pytest.raises(ContainerError, match="codes below 3, the codebook's size, got 3"):
        dequantize(tensor)


@pytest.mark.parametrize("size", [600_000, 600_001, 600_002])
def test_large_tensors_are_restored_whole(size: int) -> None:
    """More than is looked up at once; eights, pairs and neither."""
    rng = np.random.default_rng(size)
    codes = rng.integers(0, 32, size).astype(np.uint8)
    codebook = np.sort(rng.normal(0, 1, 32)).astype(np.float32)
    tensor = PalettizedTensor(encode_codes(codes, 5), codebook, (size,))
    assert np.array_equal(dequantize(tensor), codebook[codes])


def test_an_output_can_be_given() -> None:
    tensor = palettize(np.arange(6, dtype=np.float32).reshape(2, 3), 4)
    out = np.empty((2, 3), np.float32)
    assert dequantize(tensor, out) is out
    assert out.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_sqnr() -> None:
    assert sqnr_db([3.0, 4.0], [3.0, 4.5]) == pytest.approx(20.0)
    assert sqnr_db([1.0], [1.0]) == math.inf
    assert sqnr_db([0.0], [1.0]) == -math.inf


@pytest.mark.parametrize("bits", [1, 3, 7])
def test_codes_decoded_in_the_output_are_read_before_they_are_written_over(bits: int) -> None:
    """More than one piece, each size of entry."""
    codes = np.random.default_rng(bits).integers(0, 2**bits, 800_008).astype(np.uint8)
    codebook = np.arange(2**bits, dtype=np.float32)
    tensor = PalettizedTensor(encode_codes(codes, bits), codebook, codes.shape)
    for dtype in (np.float16, np.float32, np.float64):
        assert np.array_equal(look_up(tensor, codebook.astype(dtype), np.empty(codes.shape, dtype)), codes)
