"""Generated pictures: the same bytes everywhere, and with the statistics of photographs."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from vggquant.errors import OptionError
from vggquant.pictures.generated import MIN_SIDE, generated_pictures

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def pictures() -> Picture:
    return generated_pictures(12)


def brightness(picture: Picture) -> npt.NDArray[np.float64]:
    grey: npt.NDArray[np.float64] = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey


def spectrum_slope(picture: Picture) -> float:
    """Exponent of radially averaged power over frequency; about −2 to −3 for photographs."""
    grey = brightness(picture)
    side = min(grey.shape)
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = np.abs(np.fft.fft2((grey - grey.mean())[:side, :side] * window)) ** 2
    frequency = np.fft.fftfreq(side) * side
    ring = np.hypot(frequency[:, None], frequency).astype(int).ravel()
    mean_power = np.bincount(ring, power.ravel()) / np.bincount(ring)
    rings = np.arange(3, int(0.4 * side))
    return float(np.polyfit(np.log(rings), np.log(mean_power[rings]), 1)[0])


def test_bytes_are_pinned(pictures: Picture) -> None:
    digest = hashlib.sha256(generated_pictures(2).tobytes()).hexdigest()
    assert digest == "a5514cb8c87a19e5357907e299043f70a4fd39b591a7ff714abd4e16738757a7"
    assert np.array_equal(generated_pictures(2), pictures[:2])


def test_small_bytes_of_every_kind_are_pinned() -> None:
    digest = hashlib.sha256(generated_pictures(7, 40, 57, seed=3).tobytes()).hexdigest()
    assert digest == "d441872ddbc710cac7bd8b6beaed8316abb8e7c8ea86c5a6148ae8c9a8fce4ab"


def test_first_pictures_do_not_depend_on_how_many() -> None:
    assert np.array_equal(generated_pictures(7, 48, 64)[:3], generated_pictures(3, 48, 64))


@pytest.mark.parametrize(("height", "width"), [(16, 24), (MIN_SIDE, MIN_SIDE), (64, 200), (130, 33), (8, 300)])
def test_any_size(height: int, width: int) -> None:
    pictures = generated_pictures(6, height, width)
    assert pictures.shape == (6, height, width, 3)
    assert pictures.dtype == np.uint8
    assert (pictures.std(axis=(1, 2, 3)) > 3).all()


def test_pictures_differ(pictures: Picture) -> None:
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    other = generated_pictures(1, seed=1)[0]
    assert np.abs(other.astype(int) - pictures[0]).mean() > 10


def test_brightness_is_natural(pictures: Picture) -> None:
    means = [brightness(picture).mean() for picture in pictures]
    spreads = [brightness(picture).std() for picture in pictures]
    assert min(means) > 50
    assert max(means) < 200
    assert 100 < np.mean(means) < 150
    assert min(spreads) > 20
    assert 35 < np.mean(spreads) < 65


def test_spectra_are_natural(pictures: Picture) -> None:
    slopes = [spectrum_slope(picture) for picture in pictures]
    assert min(slopes) > -3.4
    assert max(slopes) < -1.6
    assert -2.9 < np.mean(slopes) < -2.1


def test_channels_go_together(pictures: Picture) -> None:
    correlations = [np.corrcoef(picture.reshape(-1, 3).T)[0, 1] for picture in pictures]
    assert np.median(correlations) > 0.8


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("count", {"count": 0}),
        ("height", {"count": 1, "height": MIN_SIDE - 1}),
        ("width", {"count": 1, "width": MIN_SIDE - 1}),
        ("seed", {"count": 1, "seed": -1}),
    ],
)
def test_senseless_arguments(name: str, arguments: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=f"^{name}: expected"):
        generated_pictures(**arguments)
