"""That docs/hostile.md and the tests beside this one agree: each case has a number, a row and a test."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from tests.hostile.cases import number_of

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DOCUMENT = (ROOT / "docs" / "hostile.md").read_text()


def numbers_of_tests() -> set[int]:
    """Numbers of the cases of all sections, and of tests that have one in their names."""
    found = set()
    for path in HERE.glob("test_*.py"):
        module = importlib.import_module(f"tests.hostile.{path.stem}")
        found |= {number_of(name) for name in (module.CASES.names if hasattr(module, "CASES") else ())}
        found |= {int(match[1]) for name in vars(module) if (match := re.match(r"test_(\d+)_", name))}
    return found


def test_every_case_is_documented_and_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (?:`(tests/[\w/]+\.py)`)? *\|$", DOCUMENT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert f"lists {len(rows)} things" in " ".join((ROOT / "README.md").read_text().split())
    elsewhere = {int(number): file for number, file in rows if file}
    assert set(range(1, len(rows) + 1)) == numbers_of_tests() | set(elsewhere)
    assert {file for file in elsewhere.values() if not (ROOT / file).exists()} == set()
