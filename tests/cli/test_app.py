from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.cli.conftest import on_a_terminal
from tests.conftest import POSIX, run
from vggquant.cli.app import COMMANDS, cli


def test_version() -> None:
    assert run("--version").stdout.startswith("vggquant, version 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["info", "missing"], 1, "Error: missing: expected a readable file, got No such file or directory"),
        (["verify", __file__], 1, "expected a safetensors file"),
        (["pack", "vgg19", "/no/such/folder/x"], 1, "create it first"),
        (["pack", "vgg19", "x", "--bits", "9"], 2, "Error: --bits: expected 1 to 8"),
        (["pack", "vgg19", "x", "--coding", "zip"], 2, "expected one of planes, huffman, got zip; choose one of these"),
        (["pack", "vgg19", "x", "--layout", "torch"], 2, "got torch; did you mean torchvision?"),
        (["pack", "vgg19", "x", "--bits", "conv9_*=1,*=2"], 2, "got conv9_*; did you mean conv5_*?"),
        (["unpack", "vgg19", "x.saftensors"], 2, "got .saftensors; did you mean .safetensors?"),
        (["unpack", "vgg19", "x.pth", "--layuot", "keras"], 2, "--layout"),
        (["stylize", "a.png", "b.png", "-o", "x.jpge"], 1, "got .jpge; did you mean .jpg?"),
        (["pack", "vgg19", "x", "--upto", "relu7_1"], 2, "conv1_1 … pool5, got relu7_1; did you mean relu5_1?"),
        (["pack", "vgg19", "x", "--preprocessing", "torch"], 1, "preprocessing caffe, which these weights are known"),
        (["pack", "vgg19", "x", "--arch", "vgg16"], 1, "architecture vgg19"),
        (["unpack", "vgg19", "x.npz"], 2, "expected an ending"),
        (["unpack", "vgg19", "x.bin", "--preprocessing", "torch"], 1, "Error: vgg19: expected preprocessing caffe"),
        (["unpack", "vgg19", "x.h5", "--layout", "caffe"], 2, "layout keras for .h5"),
        (["stylize", "missing.png", "missing.png", "-o", "x.gif"], 1, "rename the output"),
        (["stylize", "missing.png", "missing.png", "-o", "x.png"], 1, "missing.png: expected a readable file"),
        (["nothing"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == code
    assert text in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    if code == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_names_with_terminal_escapes_are_shown_harmless(tmp_path: Path) -> None:
    result = run("info", tmp_path / "\x1b[31mred\nline")
    assert result.exit_code == 1
    assert "\\x1b[31mred\\nline" in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "vggquant", "info", "vgg19"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 1
    assert (
        result.stderr
        == "Error: standard output: expected to take text, got No space left on device; check where it goes\n"
    )


@POSIX
def test_a_closed_standard_output_is_an_error() -> None:
    command = f"{sys.executable} -m vggquant info vgg19 >&-"
    result = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: standard output: expected to take text, got ")
    assert result.stderr.count("\n") == 1


@POSIX
def test_a_closed_pipe_ends_quietly() -> None:
    result = subprocess.run(
        f"{sys.executable} -m vggquant info vgg19 | head -1", shell=True, capture_output=True, text=True
    )
    assert result.stdout.startswith("layer")
    assert "Traceback" not in result.stderr


def test_a_poor_terminal_gets_its_table() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "koi8-r"}
    command = [sys.executable, "-m", "vggquant", "info", "vgg19"]
    result = subprocess.run(command, capture_output=True, env=environment)
    assert result.returncode == 0
    assert b"conv1_1" in result.stdout


def test_running_out_of_memory_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("vggquant.style.painting.optimise", exhaust)
    content, style, out = (pictures / f"{name}.png" for name in ("content", "style", "out"))
    result = run("stylize", content, style, "-o", out)
    assert result.exit_code == 1
    assert result.stderr == "Error: expected enough memory, got none left; choose a smaller picture or file\n"


def test_a_file_that_nobody_foresaw_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/library.so")

    monkeypatch.setattr("vggquant.packing.inspection.info", fail)
    result = run("info", "vgg19")
    assert result.exit_code == 1
    assert result.stderr == "Error: /some/library.so: expected a usable file, got Permission denied; check the path\n"


def test_names_of_files_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("`bits`").write_bytes(b"")
    result = run("pack", "vgg19", "`bits`")
    assert result.stderr == (
        "Error: `bits`: expected a new file, got one that exists; choose another name or pass --force\n"
    )


def help_of(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_examples(command: str) -> None:
    shown = help_of(command, "-h")
    assert shown == help_of(command, "--help")
    assert all(len(line) <= 80 for line in shown.splitlines())
    lines = [line.strip() for line in shown.partition("Examples:")[2].splitlines()]
    examples = [line.removeprefix("vggquant ") for line in lines if line.startswith("vggquant ")]
    assert len(examples) >= 3
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    for example in examples:
        name, *arguments = shlex.split(example.partition(" | ")[0])
        assert name == command
        found.make_context(name, arguments)  # refuses what the command does not know


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_whole_explains_itself() -> None:
    shown = help_of("-h")
    assert shown == help_of("--help")
    assert all(text in shown for text in ("vgg19", "Exit codes", "Examples:", *COMMANDS))
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_nothing_is_coloured_whether_colours_are_wanted_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("NO_COLOR", "1"), ("FORCE_COLOR", "1")):
        monkeypatch.setenv(name, value)
        code, stdout, shown = on_a_terminal("pack", "vgg19", tmp_path / name, "--bits", "1", "--upto", "relu1_2")
        assert code == 0
        assert not re.search(rb"\x1b\[[0-9;]*m", stdout + shown)
        assert b"packing" in shown


def test_quiet_shows_neither_progress_nor_notes(tmp_path: Path) -> None:
    given = ("pack", "vgg19", "--bits", "1", "--upto", "relu1_2")
    assert "left out" in run(*given, tmp_path / "a").stderr
    code, stdout, shown = on_a_terminal(*given, tmp_path / "b", "--quiet")
    assert (code, shown) == (0, b"")
    assert b"vgg19, 2 layers" in stdout
    code, _, shown = on_a_terminal(*given, tmp_path / "b", "-q")
    assert code == 1
    assert shown.startswith(b"Error: ")


def test_without_a_command_the_commands_are_listed() -> None:
    result = run()
    assert result.exit_code == 2
    assert "compare" in result.output
    assert "Traceback" not in result.output
