"""Styles as files of numbers: written, read and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vggquant.errors import OptionError, VggQuantError
from vggquant.style.style_files import read_style, write_style

NETWORK = "ab" * 32


@pytest.fixture
def style(tmp_path: Path) -> Path:
    write_style(tmp_path / "style.json", torch.linspace(-3, 3, 100)[None], NETWORK)
    return tmp_path / "style.json"


def test_numbers_are_read_as_they_were_written(style: Path) -> None:
    assert torch.equal(read_style(style, NETWORK), torch.linspace(-3, 3, 100)[None])
    assert json.loads(style.read_text())["version"] == 1


def test_a_style_has_a_name_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"save_style: expected a name that ends in \.json, got x\.png; rename it"):
        write_style(tmp_path / "x.png", torch.zeros(1, 100), NETWORK)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"version": 2}, "version: expected a style of version 1, got 2; upgrade vggquant"),
        ({"version": True}, "version: expected a style of version 1, got True; upgrade vggquant"),
        ({"version": None}, "version: expected a style of version 1, got None; upgrade vggquant"),
        ({"more": 1}, "style: expected network, numbers, version, got network, numbers, version, more; save"),
        ({"network": "cd" * 32}, "network: expected numbers of the network abababababababab…, got cdcd"),
        ({"numbers": [0.5] * 99}, "numbers: expected 100 numbers, got 99; save the style anew"),
        ({"numbers": {"0": 1}}, "numbers: expected 100 numbers, got dict; save the style anew"),
        (
            {"numbers": [0.5] * 99 + ["1"]},
            "numbers[99]: expected a number from -10000 to 10000, got 1; save the style anew",
        ),
        ({"numbers": [True] + [0.5] * 99}, "numbers[0]: expected a number from -10000 to 10000, got True; save"),
        ({"numbers": [1e30] + [0.5] * 99}, "numbers[0]: expected a number from -10000 to 10000, got 1e+30; save"),
    ],
)
def test_what_is_no_style_is_refused_in_one_line(style: Path, changes: dict[str, Any], refusal: str) -> None:
    style.write_text(json.dumps(json.loads(style.read_text()) | changes))
    with pytest.raises(VggQuantError) as refused:
        read_style(style, NETWORK)
    assert str(refused.value).startswith(f"{style}: {refusal}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"\xff", b'{"version": 1, "version": 1}', b'{"version": NaN}', b"[" * 9000, b" " * 17000],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(VggQuantError) as refused:
        read_style(tmp_path / "x.json", NETWORK)
    assert str(refused.value).startswith(f"{tmp_path / 'x.json'}: ")
    assert "\n" not in str(refused.value)
