"""Entropy-constrained codebooks: what they promise, against k-means and against an exhaustive search."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant.codec.entropy import MAX_CENTROIDS, constrain
from vggquant.codec.palette import dequantize, palettize, palettize_at

Floats = npt.NDArray[np.float32]


def drawn(kind: str, size: int = 100_000) -> Floats:
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.normal(0.3, 0.1, size),
        "laplace": rng.laplace(0, 2e-3, size),
        "heavy": rng.standard_t(3, size),
        "few": rng.choice(rng.normal(0, 1, 200), size),
        "far": np.append(rng.normal(0, 1, size - 1), 1e6),
    }
    return values[kind].astype(np.float32)


def entropy(codes: npt.NDArray[np.uint8]) -> float:
    counts = np.bincount(codes)
    shares = counts[counts > 0] / codes.size
    return float(-(shares * np.log2(shares)).sum())


@pytest.mark.parametrize("kind", ["normal", "laplace", "heavy", "few", "far"])
def test_noise_and_bits_are_what_the_codes_give(kind: str) -> None:
    values = drawn(kind)
    spread = float(np.std(values if kind != "far" else values[:-1]))
    steps = [spread * 2.0**power for power in (-6, -3, -1, 0, 1, 3)]
    found = constrain(values, steps)
    for one in found:
        codes = one.codes(values)
        assert one.codebook.dtype == np.float32
        assert (np.diff(one.codebook) > 0).all()
        assert set(codes.tolist()) == set(range(one.codebook.size))
        assert one.codebook.size <= MAX_CENTROIDS
        noise = float(np.square(values.astype(np.float64) - one.codebook[codes]).sum())
        assert one.noise == pytest.approx(noise, rel=1e-3, abs=1e-9 * float(np.square(values.astype(np.float64)).sum()))
        assert one.bits == pytest.approx(entropy(codes) * values.size, abs=1e-3)
    bits = [one.bits for one in found]
    assert bits == sorted(bits, reverse=True)


@pytest.mark.parametrize(("bits", "less"), [(1, 0.25), (2, 0.5), (3, 0.7), (4, 0.8), (5, 0.85)])
def test_at_the_noise_of_k_means_it_needs_fewer_bits(bits: int, less: float) -> None:
    """On values with the tails of weights; a fine grid saves log2(27 / e²) / 2 = 0.93 bits on Laplace's."""
    values = drawn("laplace")
    noise = float(np.square(values - dequantize(palettize(values, bits)), dtype=np.float64).sum())
    found = constrain(values, [float(values.std()) * 2.0**power for power in np.arange(-5, 3, 0.125)])
    needed = np.interp(math.log(noise), [math.log(one.noise) for one in found], [one.bits for one in found])
    assert needed / values.size < bits - less


def test_a_few_values_are_kept_as_they_are() -> None:
    values = drawn("few")
    (one,) = constrain(values, [1e-6])
    assert one.noise == 0
    assert np.array_equal(one.codebook, np.unique(values))
    assert np.array_equal(dequantize(palettize_at(values, 1e-6)), values)


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=9), st.floats(0.05, 4))
@settings(max_examples=200, deadline=None)
def test_it_is_no_worse_than_the_grid_it_begins_with(numbers: list[float], step: float) -> None:
    values = np.array(numbers, np.float32) + np.float32(0)
    (settled,), (grid,) = constrain(values, [step]), constrain(values, [step], settle=False)
    slope = math.log(2) / 6 * step**2
    assert settled.noise + slope * settled.bits <= (grid.noise + slope * grid.bits) * (1 + 1e-6) + 1e-9
    assert set(settled.codes(values).tolist()) == set(range(settled.codebook.size))


def test_everything_far_below_a_step_becomes_one_centroid() -> None:
    values = drawn("normal")
    (one,) = constrain(values, [100.0])
    assert one.codebook.size == 1
    assert one.bits == 0
    tensor = palettize_at(values, 100.0)
    assert tensor.codes.bits == 1
    assert np.array_equal(dequantize(tensor), np.full_like(values, one.codebook[0]))
