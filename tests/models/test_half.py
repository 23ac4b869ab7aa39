from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant import VGG, load_quantized_vgg
from vggquant.models.half import FLOAT16_MAX, TARGET_PEAK, find_exponents, find_peaks


def test_powers_hold_until_a_larger_one_is_needed() -> None:
    layers = ("pool0", "conv1", "relu1", "conv2", "relu2", "pool2", "conv3")
    found = find_exponents(layers, {"conv1": 100.0, "conv2": 5 * TARGET_PEAK, "conv3": TARGET_PEAK})
    # never a smaller one: the input of conv3 would have to be multiplied, and might overflow
    assert found == {"pool0": 0, "conv1": 0, "relu1": 0, "conv2": 3, "relu2": 3, "pool2": 3, "conv3": 3}


@given(st.floats(0, 1e30))
@settings(deadline=None)
def test_divided_peaks_are_near_their_target_and_never_enlarged(peak: float) -> None:
    exponent = find_exponents(("conv",), {"conv": peak})["conv"]
    divided = math.ldexp(peak, -exponent)
    assert exponent >= 0
    assert divided <= TARGET_PEAK * (1 + 1e-12)
    assert exponent == 0 or divided >= TARGET_PEAK / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_peaks_are_those_of_the_network_in_float32(dtype: torch.dtype) -> None:
    vgg = load_quantized_vgg(upto="pool2", dtype=dtype)
    peaks = find_peaks(vgg)
    assert list(peaks) == [name for name in vgg.layers if name.startswith("conv")]
    louder = {name: 64 * tensor if name.startswith("conv1_1") else tensor for name, tensor in vgg.state_dict().items()}
    assert find_peaks(VGG(louder))["conv1_1"] == pytest.approx(64 * peaks["conv1_1"], rel=1e-3)
    assert find_peaks(vgg) == peaks


def test_peaks_beyond_float16_are_found() -> None:
    state = load_quantized_vgg(upto="conv1_2").state_dict()
    state["conv1_2.weight"] = state["conv1_2.weight"] * 1e4
    assert find_peaks(VGG(state))["conv1_2"] > FLOAT16_MAX


def test_only_float16_networks_have_peaks() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert load_quantized_vgg(upto="relu1_1", dtype=dtype).peaks == {}
    half = load_quantized_vgg(upto="relu1_2", dtype=torch.float16)
    assert half.peaks == find_peaks(half)
