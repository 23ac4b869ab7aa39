"""The example of a package with weights of its own: built without network, installed beside ours, and used."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import run
from vggquant import info, verify

EXAMPLE = Path(__file__).parent.parent / "examples" / "weights-package"
PACKED = EXAMPLE / "tinyvgg" / "vgg19-relu2_1.safetensors"

USED = r"""
import sys, tinyvgg
assert "torch" not in sys.modules  # an import that waits for nothing
import torch
print(tinyvgg.__file__, *tinyvgg.load_vgg()(torch.rand(1, 3, 16, 16)), sep="\n")
"""


def pip(command: str, *arguments: object) -> None:
    """Run pip on files alone: no index, no dependencies."""
    alone = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", command, *alone, *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder / "dist", folder / "source")
    (found,) = (folder / "dist").iterdir()
    return found


def test_the_wheel_says_what_licences_it_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read("tinyvgg-1.0.0.dist-info/METADATA").decode()
        licence = archive.read("tinyvgg-1.0.0.dist-info/licenses/LICENSE-WEIGHTS")
        assert archive.read("tinyvgg/vgg19-relu2_1.safetensors") == PACKED.read_bytes()
        assert "tinyvgg/py.typed" in archive.namelist()
    assert "License-Expression: MIT AND CC-BY-4.0" in metadata
    assert licence == (EXAMPLE / "LICENSE-WEIGHTS").read_bytes()


def test_the_gate_lets_it_pass_and_nothing_larger_or_unlicensed(wheel: Path, tmp_path: Path) -> None:
    problems = runpy.run_path(str(EXAMPLE / "check_wheel.py"))["problems"]
    assert problems(wheel) == []
    other = tmp_path / wheel.name
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("tinyvgg/vgg19-relu2_1.safetensors", bytes(80_001))
    licence, size = problems(other)
    assert "LICENSE-WEIGHTS, got none" in licence
    assert "80,000 bytes at most" in size
    for wheels, refusal in (
        ([wheel], ""),
        ([wheel, other], f"{licence}\n{size}\n"),
        ([], "expected the names of wheels, got none\n"),
    ):
        command = [sys.executable, os.fspath(EXAMPLE / "check_wheel.py"), *map(os.fspath, wheels)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stderr) == (bool(refusal), refusal)


def test_it_is_installed_beside_and_loads(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--target", tmp_path, wheel)
    places = [os.fspath(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-c", USED]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    module = tmp_path / "tinyvgg" / "__init__.py"
    assert found.stdout.splitlines() == [os.fspath(module), "relu1_1", "relu1_2", "relu2_1"], found.stderr


def test_the_documented_command_makes_its_file(tmp_path: Path) -> None:
    found = re.search(r"^vggquant (pack .*)$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    assert found
    arguments = shlex.split(found[1])
    assert arguments[2] == PACKED.relative_to(EXAMPLE).as_posix()
    result = run(*arguments[:2], tmp_path / "x.safetensors", *arguments[3:])
    assert result.exit_code == 0, result.output
    made, committed = info(tmp_path / "x.safetensors"), info(PACKED)
    assert [layer.bits for layer in made.layers] == [layer.bits for layer in committed.layers]
    assert (made.bytes, made.source_sha256) == (committed.bytes, committed.source_sha256)
    checked = verify(PACKED, against="vgg19").against
    assert [layer.name for layer in checked] == ["conv1_1", "conv1_2", "conv2_1"]
    assert all(layer.bias_equal for layer in checked)


def test_authors_and_licence_are_passed_on() -> None:
    licence, attribution = (EXAMPLE / "LICENSE-WEIGHTS").read_text(), info(PACKED).attribution
    assert attribution is not None
    for part in ("Simonyan", "Zisserman", "CC BY 4.0"):
        assert part in attribution
        assert part in licence
    assert "creativecommons.org/licenses/by/4.0" in licence
    assert "Changes made" in licence
