from __future__ import annotations

import itertools

import kmeans1d
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vggquant.codec.kmeans import fit_codebook
from vggquant.files.container import read
from vggquant.files.sources import embedded_path

Floats = npt.NDArray[np.float32]


def squared_error(values: Floats, codebook: npt.NDArray[np.float64] | Floats) -> float:
    """Sum of squared distances to the nearest centroid."""
    flat = values.ravel().astype(np.float64)
    centroids = np.sort(np.asarray(codebook, np.float64))
    nearest = centroids[np.searchsorted((centroids[1:] + centroids[:-1]) / 2, flat)]
    return float(((flat - nearest) ** 2).sum())


def brute_force(values: Floats, k: int) -> float:
    """The least squared error over every way to cut the sorted values into k runs."""
    ordered = np.sort(values.astype(np.float64))

    def spread(run: npt.NDArray[np.float64]) -> float:
        return float(((run - run.mean()) ** 2).sum())

    return min(
        sum(spread(run) for run in np.split(ordered, cuts))
        for cuts in itertools.combinations(range(1, ordered.size), k - 1)
    )


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=11), st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_tiny_problems_reach_the_optimum(numbers: list[int], k: int) -> None:
    values = np.array(numbers, np.float32)
    codebook = fit_codebook(values, k)
    k = min(k, np.unique(values).size)
    assert codebook.size == k
    assert squared_error(values, codebook) == pytest.approx(brute_force(values, k), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("layer", "bits"),
    [("conv1_1", b) for b in range(1, 9)] + [("conv1_2", b) for b in range(1, 9)] + [("conv2_2", b) for b in (1, 3, 5)],
)
def test_repacking_a_layer_is_optimal(layer: str, bits: int) -> None:
    """The small layers, for which kmeans1d takes seconds: 256 values at most, with unequal counts."""
    weight = read(embedded_path()).array(f"{layer}.weight")
    ours = fit_codebook(weight, 2**bits)
    if bits == 8:
        assert np.array_equal(ours, np.unique(weight))
        return
    theirs = kmeans1d.cluster(weight.ravel(), 2**bits).centroids
    assert squared_error(weight, ours) == pytest.approx(squared_error(weight, np.array(theirs)), rel=1e-7)


@pytest.mark.parametrize("bits", range(1, 9))
def test_continuous_weights_are_optimal(bits: int) -> None:
    values = np.random.default_rng(bits).laplace(0, 0.03, 3000).astype(np.float32)
    theirs = kmeans1d.cluster(values, 2**bits).centroids
    assert squared_error(values, fit_codebook(values, 2**bits)) == pytest.approx(
        squared_error(values, np.array(theirs)), rel=1e-7
    )


def shapes(n: int) -> dict[str, Floats]:
    """Distributions much like those of trained layers, and some that are quite unlike them."""
    rng = np.random.default_rng(0)
    return {
        "laplace": rng.laplace(0, 0.03, n).astype(np.float32),
        "heavy tails": (rng.standard_t(2.5, n) * 0.02).astype(np.float32),
        "uniform": rng.uniform(-1, 1, n).astype(np.float32),
        "three humps": (rng.normal(0, 0.05, n) + rng.integers(-1, 2, n)).astype(np.float32),
        "a far outlier": np.append(rng.normal(0, 1, n - 1), 1e3).astype(np.float32),
        "many ties": (np.rint(rng.normal(0, 3000, n)) / 512).astype(np.float32),
        "one side": rng.exponential(0.1, n).astype(np.float32),
        "a very far outlier": np.append(rng.normal(0, 0.02, n - 1), 1e7).astype(np.float32),
        "lognormal": np.exp(rng.normal(0, 3, n)).astype(np.float32),
        "tight clusters": (rng.normal(0, 1, 40)[np.arange(n) % 40] + rng.normal(0, 1e-5, n)).astype(np.float32),
    }


# Rounding allows no more here, because the clusters' squared error is 10⁻¹⁰ or less of what they span.
ROUNDING = {"a very far outlier": 1e-3, "lognormal": 1e-4, "tight clusters": 1e-3}


@pytest.mark.parametrize("k", [2, 8, 64, 256])
@pytest.mark.parametrize("shape", shapes(10))
def test_many_distinct_values_come_near_the_optimum(k: int, shape: str) -> None:
    values = shapes(max(12_000, 1_100_000 // k))[shape]  # more than are left to kmeans1d
    theirs = np.array(kmeans1d.cluster(values, k).centroids)
    ours = fit_codebook(values, k)
    assert ours.size == k
    assert squared_error(values, ours) <= squared_error(values, theirs) * (1 + ROUNDING.get(shape, 2e-5))


@pytest.mark.parametrize("k", [2, 16, 128, 256])
@pytest.mark.parametrize("shape", shapes(10))
def test_few_values_of_any_shape_reach_the_optimum(k: int, shape: str) -> None:
    values = shapes(3000)[shape]
    theirs = np.array(kmeans1d.cluster(values, k).centroids)
    ours = fit_codebook(values, k)
    assert squared_error(values, ours) <= squared_error(values, theirs) * (1 + ROUNDING.get(shape, 1e-6))


@pytest.mark.parametrize(("n", "k"), [(9000, 16), (60_000, 16), (200_000, 5)])
def test_some_thousand_values_at_a_few_bits_reach_the_optimum(n: int, k: int) -> None:
    values = shapes(n)["laplace"]
    theirs = np.array(kmeans1d.cluster(values, k).centroids)
    assert squared_error(values, fit_codebook(values, k)) <= squared_error(values, theirs) * (1 + 1e-10)


def test_few_values_are_their_own_codebook() -> None:
    values = np.array([3, 1, 3, -2, 1, 1], np.float32)
    assert fit_codebook(values, 4).tolist() == [-2, 1, 3]
    assert fit_codebook(values, 3).tolist() == [-2, 1, 3]
    assert fit_codebook(np.full(9, 0.25, np.float32), 256).tolist() == [0.25]


@pytest.mark.parametrize("k", [1, 2, 5, 16, 100])
def test_a_codebook_ascends_and_every_entry_is_used(k: int) -> None:
    rng = np.random.default_rng(k)
    for values in (
        rng.normal(0, 1e-6, 4000),
        rng.normal(1e8, 1.0, 4000),  # float32 leaves few values here
        np.concatenate([rng.normal(-1, 1e-9, 2000), rng.normal(1, 1e-9, 2000), [1e30]]),
        rng.normal(0, 1e-41, 2000),  # subnormal
    ):
        codebook = fit_codebook(values.astype(np.float32), k)
        assert np.all(np.diff(codebook) > 0)
        nearest = np.abs(values.astype(np.float32)[:, None].astype(float) - codebook).argmin(1)
        assert np.unique(nearest).size == codebook.size


def test_the_order_of_the_values_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 2000).astype(np.float32)
    assert np.array_equal(fit_codebook(values, 16), fit_codebook(rng.permutation(values), 16))
