"""Studies small enough for tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vggquant.comparison import measuring, sample_pictures, study
from vggquant.comparison.study import Comparison, compare
from vggquant.style.options import StyleOptions


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Measure on two small pictures, and paint for two steps."""
    patch.setattr(sample_pictures, "PIXELS_PER_PICTURE", 64 * 64)
    patch.setattr(sample_pictures, "GENERATED", 2)
    patch.setattr(study, "TRANSFER", StyleOptions(steps=2))
    patch.setattr(measuring, "LOADS", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies of two small pictures and short transfers."""
    shrink(monkeypatch)


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory, packed_at: dict[int, Path]) -> Comparison:
    """A study with transfers, of a file at 4 bits, one at 2 bits with an odd name, and the reference packed again."""
    odd = tmp_path_factory.mktemp("odd") / f"<b>&\"'$^$日{'x' * 40}.safetensors"
    shutil.copy(packed_at[2], odd)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        return compare("vgg19", [packed_at[4], odd], widths=[8], transfer=True)
