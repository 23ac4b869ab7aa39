"""docs/command-line.md, held to what the commands say and print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import GOLDEN, random_arrays, run
from vggquant.cli.app import COMMANDS, cli
from vggquant.cli.failures import REFUSED, STOPPED, USAGE
from vggquant.files.disk import write_file
from vggquant.files.tensors import write_safetensors
from vggquant.networks.vgg import ARCHITECTURES

PAGE = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text()
SMALL = GOLDEN / "planes-4.safetensors"

# how each command that can prints JSON, with everything in it that there may be
PRINTING = {
    "pack": (SMALL, "OUT"),
    "unpack": (SMALL, "OUT.pth"),
    "info": (SMALL, "--wheel"),
    "verify": (SMALL, "--against", SMALL),
    "compare": (SMALL, SMALL),
}


def section(command: str) -> str:
    found = re.search(rf"^## vggquant {command}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, command
    return found[1]


def test_every_command_has_a_section() -> None:
    assert sorted(re.findall(r"^## vggquant (\w+)$", PAGE, re.MULTILINE)) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_are_those_of_the_help(command: str) -> None:
    """Names, values, words and defaults; and the help itself has them all."""
    shown = "".join(run(command, "--help").stdout.split())  # which breaks lines at hyphens too
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    rows = []
    for option in found.params:
        if isinstance(option, click.Option):
            values = f"{', '.join(option.type.choices)} " if isinstance(option.type, click.Choice) else ""
            meaning = " ".join(str(option.help).split())
            default = f" [default: {option.default}]" if option.show_default else ""
            rows.append(f"| `{', '.join(option.opts)}` | {values}| {meaning}{default} |")
            assert meaning.replace(" ", "") in shown
    documented = [line for line in section(command).splitlines() if line.startswith("| `-")]
    assert documented == rows
    (usage,) = re.findall(rf"^vggquant {command} \[OPTIONS\] ([^\n]*?)(?: -o OUT)?$", section(command), re.MULTILINE)
    assert f"Usage: vggquant {command} [OPTIONS] {usage}".replace(" ", "") in shown


@pytest.mark.parametrize("command", PRINTING)
def test_the_keys_are_those_that_are_printed(command: str, tmp_path: Path) -> None:
    arguments = [tmp_path / each if str(each).startswith("OUT") else each for each in PRINTING[command]]
    printed: dict[str, Any] = json.loads(run(command, "--json", *arguments).stdout)
    keys = set(printed)
    for key, value in printed.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            keys |= {f"{key}[].{inner}" for inner in value[0]}
    assert set(re.findall(r"^\| `([\w\[\].]+)` \|", section(command), re.MULTILINE)) == keys


def test_all_that_print_json_are_documented() -> None:
    assert {command for command in COMMANDS if "--json" in run(command, "--help").stdout} == PRINTING.keys()


def test_the_exit_codes_are_the_commands() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [0, REFUSED, USAGE, STOPPED]


def test_the_error_that_is_shown_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.search(r"`vggquant (pack vgg13\.safetensors [^`]*)` says\n`(Error: [^`]*)`", PAGE)
    assert found
    arrays = random_arrays(ARCHITECTURES["vgg13"])
    write_file("vgg13.safetensors", write_safetensors(arrays, {"architecture": "vgg13", "preprocessing": "torch"}))
    assert run(*found[1].split()).stderr == f"{found[2]}\n"
