"""What the documents claim, held to the code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bench import tables
from bench.fidelity import WITHIN, against_known
from tests.conftest import GOLDEN
from vggquant.codec.bitstream import PLANES, decode_codes, encode_codes
from vggquant.files.container import read
from vggquant.files.disk import read_file, sha256
from vggquant.files.sources import embedded_path
from vggquant.packing.budget import CALIBRATED, SENSITIVITY

ROOT = Path(__file__).parent.parent
FORMAT = (ROOT / "docs" / "format.md").read_text()
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("examples/*/README.md")), ROOT / "bench" / "README.md", *DOCS]


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
    for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", path.read_text()):
        if "://" not in target:
            page = path.parent / target if target else path
            assert page.exists(), target
            assert not anchor or anchor in headings(page), f"{target}#{anchor}"


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    titles = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title) for title in found]
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_index_links_every_page_and_the_readme_links_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    assert "](docs/README.md)" in README
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)[)#]", index.read_text())}
    assert {page.resolve() for page in (*DOCS, ROOT / "CONTRIBUTING.md")} - {index} <= linked


def test_each_answer_comes_before_its_reasons() -> None:
    questions = re.split(r"^## ", (ROOT / "docs" / "faq.md").read_text(), flags=re.MULTILINE)[1:]
    for question, answer in (each.split("\n\n", 1) for each in questions):
        assert question.endswith("?")
        assert re.match(r"\*\*[A-Z].*?\*\*", answer, re.DOTALL), question


def test_the_versions_are_those_of_the_metadata() -> None:
    metadata = (ROOT / "pyproject.toml").read_text()
    pythons = re.findall(r"Programming Language :: Python :: (3\.\d+)", metadata)
    torch = re.search(r"torch>=([\d.]+)", metadata)
    assert torch
    versions = f"Python {pythons[0]} to {pythons[-1]}, and torch {torch[1]} or newer"
    assert versions in (ROOT / "docs" / "networks.md").read_text()


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
