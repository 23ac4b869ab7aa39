"""Files and folders that are missing, in the way or not files at all, cases 79 to 94."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import POSIX, run
from tests.hostile.cases import Cases, Prepared
from tests.packed import SMALL

CASES = Cases()


@CASES.case(79)
def missing(folder: Path) -> Prepared:
    return ("verify", folder / "x"), "No such file"


@CASES.case(81)
def a_folder(folder: Path) -> Prepared:
    (folder / "x").mkdir()
    return ("verify", folder / "x"), "a folder"


@CASES.case(81)
def a_fifo(folder: Path) -> Prepared:
    pytest.importorskip("fcntl", reason="needs POSIX")
    os.mkfifo(folder / "x")
    return ("verify", folder / "x"), "a pipe"


@CASES.case(81)
def a_device(folder: Path) -> Prepared:
    pytest.importorskip("fcntl", reason="needs POSIX")
    return ("verify", "/dev/zero"), "device"


def small(folder: Path, name: str = "x.safetensors") -> Path:
    (folder / name).write_bytes(SMALL)
    return folder / name


@CASES.case(82)
def output_exists(folder: Path) -> Prepared:
    return ("pack", small(folder), small(folder, "y")), "--force"


@CASES.case(83)
def input_is_output(folder: Path) -> Prepared:
    return ("pack", small(folder), folder / "x.safetensors", "--force"), "the same file"


@CASES.case(83)
def input_is_output_by_symlink(folder: Path) -> Prepared:
    (folder / "y").symlink_to(small(folder))
    return ("pack", folder / "x.safetensors", folder / "y", "--force"), "the same file"


@CASES.case(83)
def input_is_output_by_hard_link(folder: Path) -> Prepared:
    os.link(small(folder), folder / "y")
    return ("pack", folder / "x.safetensors", folder / "y", "--force"), "the same file"


@CASES.case(85)
def a_looping_link(folder: Path) -> Prepared:
    pytest.importorskip("fcntl", reason="needs POSIX")
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return ("verify", folder / "a"), "symbolic links"


@CASES.case(85)
def a_dangling_link(folder: Path) -> Prepared:
    (folder / "a").symlink_to(folder / "b")
    return ("verify", folder / "a"), "No such file"


@CASES.case(86)
def parent_missing(folder: Path) -> Prepared:
    return ("pack", small(folder), folder / "no" / "x"), "No such file|folder"


if os.name == "posix":  # Windows says something else

    @CASES.case(90)
    def a_name_over_255_bytes(folder: Path) -> Prepared:
        return ("verify", folder / ("x" * 256)), "name too long"


if sys.platform == "linux":  # other systems allow no such name

    @CASES.case(90)
    def a_name_not_utf8(folder: Path) -> Prepared:
        return ("verify", os.fsdecode(os.fsencode(folder) + b"/\xff")), "No such file"


@POSIX
def test_80_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(SMALL)
    assert run("verify", path).exit_code == 0  # and all is imported that another user may not read
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        result = run("verify", path)
    finally:
        os.seteuid(user)
    assert result.exit_code == 1
    cure = "check the path and its permissions"
    assert result.stderr == f"Error: {path}: expected a readable file, got Permission denied; {cure}\n"


@POSIX
@pytest.mark.parametrize("arguments", [("verify", "vgg19"), ("info", "vgg19", "--json"), ("--help",), ("--version",)])
@pytest.mark.parametrize("where", [">&-", *([">/dev/full"] if os.path.exists("/dev/full") else [])])
def test_93_standard_output_that_takes_nothing(arguments: tuple[str, ...], where: str) -> None:
    command = " ".join([sys.executable, "-m", "vggquant", *arguments, where])
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert re.fullmatch(r"Error: standard output: expected to take text, got .*; check where it goes\n", found.stderr)


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
