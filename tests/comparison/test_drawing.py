from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vggquant.comparison.drawing import contact_sheet, require_matplotlib, to_uint8
from vggquant.comparison.study import Comparison
from vggquant.errors import OptionError, PictureError


def test_the_contact_sheet_shows_each_picture_in_its_place(painted: Comparison) -> None:
    with Image.open(io.BytesIO(contact_sheet(painted))) as image:
        assert image.width > image.height > 100
        sheet = np.asarray(image.convert("RGB"), np.float64)
    columns = 6
    for index, picture in enumerate((*painted.sources.values(), *painted.painted.values())):
        tile = sheet[:, index * sheet.shape[1] // columns : (index + 1) * sheet.shape[1] // columns]
        colours = tile[(tile < 250).any(axis=2)].mean(axis=0)  # but for the paper
        expected = 255 * picture[0].clamp(0, 1).mean(dim=(1, 2)).numpy()
        assert np.abs(colours - expected).max() < 12, index


def test_a_contact_sheet_is_the_same_twice(painted: Comparison) -> None:
    assert contact_sheet(painted) == contact_sheet(painted)


def test_a_contact_sheet_needs_paintings(painted: Comparison) -> None:
    with pytest.raises(OptionError, match="add `transfer=True`"):
        contact_sheet(replace(painted, painted={}, sources={}))


def test_without_matplotlib_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *_: Any) -> None:
        assert name == "matplotlib"

    require_matplotlib()
    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(PictureError, match=r"pip install 'vggquant\[report\]'"):
        require_matplotlib()


def test_pixels_are_rounded_and_kept_in_range() -> None:
    picture = torch.tensor([-0.5, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0]).reshape(1, 3, 1, 2)
    assert to_uint8(picture).tolist() == [[[0, 0, 255], [0, 1, 255]]]


WITH_SETTINGS = """
import os, sys
from vggquant.comparison.drawing import require_matplotlib
from vggquant.errors import PictureError
try:
    require_matplotlib()
except PictureError as error:
    raise SystemExit(str(error))
import matplotlib
from vggquant.comparison import drawing
with drawing._settings():
    assert matplotlib.rcParams["savefig.dpi"] == "figure"
assert matplotlib.rcParams["savefig.dpi"] == 5000
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (b"backend: nosuch\nfoo: bar\nsavefig.dpi: 5000\n", ""),
        (
            b"\xff\xfe",
            "expected matplotlib with sound settings, got 'utf-8' codec .*; remove or mend the file matplotlibrc",
        ),
    ],
)
def test_settings_in_the_working_folder_change_nothing(settings: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(settings)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", WITH_SETTINGS]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert re.fullmatch(said, found.stderr.strip()), found.stderr
