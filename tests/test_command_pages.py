"""The pages of docs/commands, held to what the commands say and print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import GOLDEN, run
from vggquant.cli.app import COMMANDS, cli
from vggquant.cli.failures import REFUSED, STOPPED, USAGE

PAGES = Path(__file__).parent.parent / "docs" / "commands"
SMALL = GOLDEN / "planes-4.safetensors"

# how each command that can prints JSON, with everything in it that there may be
PRINTING = {
    "pack": (SMALL, "OUT"),
    "unpack": (SMALL, "OUT.pth"),
    "info": (SMALL, "--wheel"),
    "verify": (SMALL, "--against", SMALL, "--half"),
    "compare": (SMALL, SMALL),
}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text()


def test_every_command_has_a_page_and_a_row_in_the_table() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*COMMANDS, "README"])
    rows = re.findall(r"^\| \[`vggquant (\w+)`\]\((\w+)\.md\) \|", page("README"), re.MULTILINE)
    assert sorted(rows) == sorted((command, command) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_a_question_and_examples(command: str) -> None:
    title, question = page(command).split("\n\n")[:2]
    assert title == f"# vggquant {command}"
    assert "?" in question
    examples = re.findall(rf"^vggquant {command} (?!\[)", page(command), re.MULTILINE)
    assert 2 <= len(examples) <= 7
    assert "```text" in page(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_are_those_of_the_help(command: str) -> None:
    """Names, values, words and defaults; and the help itself has them all."""
    shown = "".join(run(command, "--help").stdout.split())  # which breaks lines at hyphens too
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    rows = []
    for option in found.params:
        if isinstance(option, click.Option):
            values = f"{_values(option)} ".lstrip()
            meaning = " ".join(str(option.help).split())
            default = f" [default: {option.default}]" if option.show_default else ""
            rows.append(f"| `{', '.join(option.opts)}` | {values}| {meaning}{default} |")
            assert meaning.replace(" ", "") in shown
    documented = [line for line in page(command).splitlines() if line.startswith("| `-")]
    assert documented == rows
    (usage,) = re.findall(rf"^vggquant {command} \[OPTIONS\] ([^\n]*?)(?: -o OUT)?$", page(command), re.MULTILINE)
    assert f"Usage: vggquant {command} [OPTIONS] {usage}".replace(" ", "") in shown


def _values(option: click.Option) -> str:
    """What may follow an option, as its help has it, or nothing for a flag."""
    if isinstance(option.type, click.Choice):
        return ", ".join(option.type.choices)
    return "" if option.is_flag else option.make_metavar(click.Context(cli)).replace("|", ", ")


@pytest.mark.parametrize("command", PRINTING)
def test_the_keys_are_those_that_are_printed(command: str, tmp_path: Path) -> None:
    arguments = [tmp_path / each if str(each).startswith("OUT") else each for each in PRINTING[command]]
    printed: dict[str, Any] = json.loads(run(command, "--json", *arguments).stdout)
    keys = set(printed)
    for key, value in printed.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            keys |= {f"{key}[].{inner}" for inner in value[0]}
    assert set(re.findall(r"^\| `([\w\[\].]+)` \|", page(command), re.MULTILINE)) == keys


def test_all_that_print_json_are_documented() -> None:
    assert {command for command in COMMANDS if "--json" in run(command, "--help").stdout} == PRINTING.keys()


def test_the_exit_codes_are_the_commands() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page("README"), re.MULTILINE)] == [
        0,
        REFUSED,
        USAGE,
        STOPPED,
    ]
