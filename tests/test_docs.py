"""What the documents claim, held to the code."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import pytest

from bench import tables
from bench.fidelity import WITHIN, against_known
from tests.conftest import GOLDEN
from vggquant.cli import app as cli
from vggquant.codec.bitstream import PLANES, decode_codes, encode_codes
from vggquant.files.container import read
from vggquant.files.disk import read_file, sha256
from vggquant.files.sources import embedded_path
from vggquant.packing.budget import CALIBRATED, SENSITIVITY

ROOT = Path(__file__).parent.parent
FORMAT = (ROOT / "docs" / "format.md").read_text()
README = (ROOT / "README.md").read_text()
DOCS = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md")), *DOCS]


def test_the_rows_of_plain_k_means_come_out() -> None:
    files = json.loads((ROOT / "bench" / "results" / "fidelity.json").read_text())["files"]
    off = against_known(files)
    assert max(off.values()) <= WITHIN
    files[1]["gram_error"]["relu3_1"] *= 1.1
    assert max(against_known(files).values()) > WITHIN


def block(text: str, kind: str) -> str:
    """The first fenced block of a kind."""
    found = re.search(rf"```{re.escape(kind)}\n(.*?)```", text, re.DOTALL)
    assert found, kind
    return found[1]


def test_the_example_stream() -> None:
    found = re.search(r"ten 3-bit codes `([\d ]+)`", FORMAT)
    assert found
    codes = np.array([int(code) for code in found[1].split()], np.uint8)
    assert encode_codes(codes, 3).stream.tobytes() == bytes.fromhex(block(FORMAT, "stream"))


def test_the_table_of_planes() -> None:
    found = re.search(r"\| widths of the planes \|(.*)\|", FORMAT)
    assert found
    documented = [tuple(int(width) for width in cell.split(",")) for cell in found[1].split("|")]
    assert documented == [PLANES[bits] for bits in range(1, 9)]


def test_the_worked_example() -> None:
    data = (GOLDEN / "planes-1.safetensors").read_bytes()
    for line in block(FORMAT, "hexdump planes-1.safetensors").splitlines():
        place, rest = int(line[:8], 16), line[8:].partition("|")[0]
        assert data[place : place + 16] == bytes.fromhex(rest)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    lines = [f"{name} {e['dtype']} {e['shape']} {e['data_offsets']}" for name, e in header.items()]
    assert block(FORMAT, "tensors planes-1.safetensors").splitlines() == lines
    assert f"The header ends at byte {8 + length};" in FORMAT
    first = data[8 + length + header["conv1_1.weight.codes"]["data_offsets"][0]]
    assert f"is `{first:02x}`" in FORMAT
    codes = decode_codes(read(GOLDEN / "planes-1.safetensors").palettized["conv1_1.weight"].codes)
    assert [int(code) for code in codes[0:1513:216]] == [first >> bit & 1 for bit in range(8)]


def test_the_worked_example_of_version_2() -> None:
    data = (GOLDEN / "version2" / "shared.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert block(FORMAT, "metadata version2/shared.safetensors").replace("\n", "") == header["__metadata__"]["vggquant"]
    del header["__metadata__"]
    lines = [f"{name} {e['dtype']} {e['shape']} {e['data_offsets']}" for name, e in header.items()]
    assert block(FORMAT, "tensors version2/shared.safetensors").splitlines() == lines


def test_the_documented_fields_are_the_written_ones() -> None:
    data = (GOLDEN / "huffman-2.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["vggquant"])
    second = json.loads(block(FORMAT, "metadata version2/shared.safetensors"))
    for key in [*metadata, *metadata["layers"]["conv1_1"], *second, *second["weights"]["conv.weight"]]:
        assert re.search(rf"^\| .*`{key}`.* \|", FORMAT, re.MULTILINE), key


def test_the_embedded_files_hash_is_documented() -> None:
    assert sha256(read_file(embedded_path())) in (ROOT / "docs" / "weights.md").read_text()


PYTHON = re.findall(r"```py(?:thon)?\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_the_readmes_python_is_valid_and_its_names_exist(code: str) -> None:
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        for alias in node.names:
            assert node.module
            assert hasattr(importlib.import_module(node.module), alias.name)


def test_the_readmes_training_loop_runs() -> None:
    (code,) = (code for code in PYTHON if "PerceptualLoss" in code)
    exec(compile(code, "README.md", "exec"), {})


def test_the_readmes_commands_exist() -> None:
    lines = re.findall(r"^vggquant [a-z]+ (?:[A-Z]{4}|vgg19).*", README, re.MULTILINE)
    assert {line.split()[1] for line in lines} == set(cli.COMMANDS)
    for line in lines:
        command = cli.cli.get_command(click.Context(cli.cli), line.split()[1])
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"(?<=\s)-{1,2}[a-z-]+", line.partition("#")[0]):
            assert option in options, line


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.parent.name)
def test_tables_are_the_benchs(page: Path) -> None:
    text = page.read_text()
    assert "<!-- end -->" in text
    assert tables.filled(text) == text


@pytest.mark.parametrize(("name", "table"), [("sensitivity", SENSITIVITY), ("sensitivity_calibrated", CALIBRATED)])
def test_the_tables_of_sensitivities_are_the_benchs(name: str, table: Mapping[str, tuple[float, ...]]) -> None:
    result = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text())
    measured = {(row["layer"], row["bits"]): row["sensitivity"] for row in result["rows"]}
    assert len(measured) == 16 * 7
    for (layer, bits), value in measured.items():
        assert table[layer][bits - 1] == pytest.approx(value, rel=0.051), (layer, bits)  # two digits


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_links_every_page() -> None:
    for page in DOCS:
        assert f"]({page.relative_to(ROOT).as_posix()}" in README, page


def test_the_licence_of_the_weights_is_complete() -> None:
    text = (ROOT / "LICENSE-WEIGHTS").read_text()
    for part in ("Simonyan", "Zisserman", "CC BY 4.0", "creativecommons.org/licenses/by/4.0", "Changes made"):
        assert part in text
    assert read(embedded_path()).provenance.changes


def test_examples_are_drawn_the_same(tmp_path: Path) -> None:
    """The committed pictures are what the script draws, but for JPEG's and libraries' rounding."""
    import runpy

    from vggquant.pictures.files import read_picture

    made = runpy.run_path(str(ROOT / "examples" / "make_pictures.py"))
    for name in ("landscape", "swirl"):
        made[name]().save(tmp_path / f"{name}.jpg", quality=90)
        difference = (
            read_picture(tmp_path / f"{name}.jpg").pixels - read_picture(ROOT / "examples" / f"{name}.jpg").pixels
        )
        assert float(difference.abs().mean()) < 0.01
