"""What shells are told when a command is completed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tests.conftest import GOLDEN, POSIX
from vggquant.cli import cli
from vggquant.files.sources import WORDS
from vggquant.networks.vgg import LAYERS


def completions(*words: object) -> list[tuple[str, str]]:
    """Kind and value of what may stand in the place of the last word."""
    complete = ShellComplete(cli, {}, "vggquant", "_VGGQUANT_COMPLETE")
    found = complete.get_completions([str(word) for word in words[:-1]], str(words[-1]))
    return [(item.type, item.value) for item in found]


def plain(*words: object) -> list[str]:
    found = completions(*words)
    assert {kind for kind, _ in found} <= {"plain"}
    return [value for _, value in found]


def test_commands_and_options() -> None:
    assert plain("") == ["compare", "distil", "info", "pack", "page", "prune", "stylize", "train", "unpack", "verify"]
    assert plain("unpack", "--d") == ["--dtype"]
    assert plain("unpack", "vgg19", "x.pth", "--dtype", "") == ["float32", "float16", "bfloat16"]
    assert plain("pack", "vgg19", "x", "--layout", "t") == ["torchvision"]


@pytest.mark.parametrize(
    "words",
    [
        ("pack", "vgg19", "x", "--upto"),
        ("compare", "vgg19", "--upto"),
        ("stylize", "a", "b", "--content-layer"),
        ("stylize", "a", "b", "--style-layer", "relu1_1", "--style-layer"),
    ],
)
def test_layers(words: tuple[str, ...]) -> None:
    assert plain(*words, "") == list(LAYERS)
    assert plain(*words, "relu4_") == ["relu4_1", "relu4_2", "relu4_3", "relu4_4"]


@pytest.mark.parametrize(
    "words",
    [
        ("info",),
        ("info", "x"),
        ("verify", "x", "--against"),
        ("pack",),
        ("unpack",),
        ("compare",),
        ("compare", "x"),
        ("stylize", "a", "b", "--weights"),
    ],
)
def test_the_embedded_network_and_files_beside_it(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plain(*words, "") == [*WORDS]
    (tmp_path / "vgg19-4.safetensors").touch()
    (tmp_path / "other.safetensors").touch()
    (tmp_path / "vgg").mkdir()
    assert plain(*words, "") == [
        *WORDS,
        os.path.join("vgg", ""),
        "other.safetensors",
        "vgg19-4.safetensors",
    ]
    assert plain(*words, "vgg19") == ["vgg19", "vgg19-small", "vgg19-4.safetensors"]
    assert completions(*words, "vgg19-4") == [("file", "vgg19-4")]
    assert completions(*words, "[") == [("file", "[")]


def test_networks_that_paint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plain("stylize", "a", "--network", "s") == ["starry", "scream"]
    assert plain("train", "a", "--start", "m") == ["mosaic"]


def test_files_and_folders() -> None:
    assert completions("pack", "vgg19", "") == [("file", "")]
    assert completions("stylize", "con") == [("file", "con")]
    assert completions("stylize", "a", "b", "-o", "out") == [("file", "out")]
    assert completions("pack", "vgg19", "x", "--images", "ph") == [("dir", "ph")]
    assert completions("stylize", "a", "b", "--save-to", "") == [("dir", "")]


def test_words_that_stand_instead_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nowhere.png").touch()
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scene.png").touch()
    assert plain("stylize", "a", "b", "--mask", "n") == ["none", "nowhere.png"]
    assert plain("stylize", "a", "b", "--start", "g") == ["grey"]
    assert plain("compare", "vgg19", "--images", "sc") == ["scikit-image", os.path.join("scenes", "")]


def test_completing_prints_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    small = GOLDEN / "planes-4.safetensors"
    assert plain("stylize", "--list-layers", "--weights", small, "--upt") == []
    assert plain("stylize", "--list-layers", "--weights", small, "--pool") == ["--pooling"]
    assert capfd.readouterr() == ("", "")


def test_the_command_itself_completes() -> None:
    environment = {**os.environ, "_VGGQUANT_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    environment["COMP_WORDS"] = "vggquant verify vgg19"
    command = [sys.executable, "-m", "vggquant"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=GOLDEN, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "plain,vgg19\nplain,vgg19-small\n", "")


@POSIX  # elsewhere bash may be that of a Linux which is not installed
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_script() -> None:
    environment = {**os.environ, "_VGGQUANT_COMPLETE": "bash_source"}
    found = subprocess.run([sys.executable, "-m", "vggquant"], env=environment, capture_output=True, check=True)
    assert b"vggquant" in found.stdout
    subprocess.run(["bash", "-n"], input=found.stdout, check=True)
