"""What a release needs beside its code: versions, citation, workflows, the gate, and builds that come out the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import vggquant

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
TESTS, RELEASE = ((ROOT / ".github" / "workflows" / f"{name}.yml").read_text() for name in ("tests", "release"))


def test_every_declared_python_is_tested_on_three_systems() -> None:
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    assert f'requires-python = ">={declared[0]}"' in PYPROJECT
    matrix = dict(re.findall(r"^ +(system|python): \[(.*)\]$", TESTS, re.MULTILINE))
    assert json.loads(f"[{matrix['python']}]") == declared
    assert matrix["system"] == "ubuntu-latest, macos-latest, windows-latest"
    assert "--resolution lowest-direct" in TESTS


def test_there_is_one_gate() -> None:
    calls = [(ROOT / ".ci" / "run").read_text(), TESTS, (ROOT / "CONTRIBUTING.md").read_text()]
    assert all("scripts/check" in text for text in calls)
    assert all("mypy" not in text for text in calls[:2])
    assert "scripts/build" in (ROOT / "scripts" / "check").read_text()


def test_publishing_needs_no_secret_and_one_permission() -> None:
    _, publish = RELEASE.split("\n  publish:\n")
    assert "id-token: write" in publish
    assert "environment: pypi" in publish
    assert "secrets." not in RELEASE
    assert RELEASE.count(": write") == 1
    assert "scripts/build dist" in RELEASE


def test_the_citation_is_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {vggquant.__version__}\n" in citation
    for key in ("cff-version: 1.2.0", "message: ", "title: ", "authors:"):
        assert re.search(f"^{re.escape(key)}", citation, re.MULTILINE)


@pytest.mark.slow
def test_a_release_comes_out_the_same_twice(tmp_path: Path) -> None:
    """`scripts/build` builds again from the sdist, and compares."""
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", os.fspath(ROOT / "scripts" / "build"), os.fspath(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("built twice") == 2
    name = f"vggquant-{vggquant.__version__}"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl") as wheel:
        assert "vggquant/py.typed" in wheel.namelist()
        page = {f"vggquant/page/{path.name}" for path in (ROOT / "vggquant" / "page").glob("*.*")}
        assert page <= set(wheel.namelist())
        assert f"{name}.dist-info/licenses/LICENSE-WEIGHTS" in wheel.namelist()
    with tarfile.open(tmp_path / f"{name}.tar.gz") as sdist:
        assert {f"{name}/LICENSE-WEIGHTS", f"{name}/vggquant/py.typed", f"{name}/CITATION.cff"} <= set(sdist.getnames())
