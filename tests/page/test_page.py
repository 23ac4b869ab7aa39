"""The page as a file: what it holds, how large it is, what it may do, and that the committed one is made as now."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggquant
from tests.conftest import GOLDEN, POSIX
from tests.sealing import reseal, unseal
from vggquant.errors import NetworkError, OptionError, VggQuantError
from vggquant.files.sources import ONE_STYLE, embedded_path
from vggquant.page import page
from vggquant.page.page import page_of, source

ROOT = Path(__file__).parent.parent.parent
HERE = Path(vggquant.__file__).parent / "page"
PAGE = page_of(ONE_STYLE).decode()
SCRIPTS = sorted(path.name for path in HERE.glob("*.js"))


class Elements(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts by identifier."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.style = ""
        self.inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[self.tags[-1][1].get("id") or "page"] = data
        elif self.inside == "style":
            self.style = data


def test_the_committed_page_is_what_the_command_makes() -> None:
    assert (ROOT / "docs" / "page.html").read_text() == PAGE


def test_four_networks_take_a_quarter_of_a_megabyte_at_most() -> None:
    assert len(PAGE.encode()) <= 250_000


def test_any_style_takes_two_megabytes_and_a_half_at_most() -> None:
    made = page_of(["arbitrary"]).decode()
    assert len(made.encode()) <= 2_500_000
    (style,) = [each["src"] for tag, each in Elements(made).tags if each.get("id") == "example-style"]
    assert base64.b64decode(str(style).partition(",")[2]) == (HERE / "style.jpg").read_bytes()
    (nothing,) = [each["src"] for tag, each in Elements(PAGE).tags if each.get("id") == "example-style"]
    assert nothing == "data:,"


def test_it_holds_the_files_and_the_scripts_as_they_are() -> None:
    found = Elements(PAGE).scripts
    files = {each["name"]: base64.b64decode(each["file"]) for each in json.loads(found["networks"])}
    assert files == {name: embedded_path(name).read_bytes() for name in ONE_STYLE}
    for name in SCRIPTS:
        assert source(name) in found["page" if name in page.PAGE else "painter"]


def test_it_may_do_nothing_but_what_it_needs() -> None:
    elements = Elements(PAGE)
    (policy,) = [each["content"] for tag, each in elements.tags if each.get("http-equiv") == "Content-Security-Policy"]
    allowed = dict(part.split(" ", 1) for part in str(policy).split("; "))
    for kind, text in (("script-src", elements.scripts["page"]), ("style-src", elements.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed.pop(kind) == f"'sha256-{digest}'"
    assert allowed == {
        "default-src": "'none'",
        "img-src": "blob: data:",
        "worker-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_it_names_no_other_place() -> None:
    for tag, attributes in Elements(PAGE).tags:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    readable = "".join(source(name) for name in (*SCRIPTS, "page.css", "page.html"))
    assert "//" not in re.sub(r"^\s*//.*$|[;,{)}] //.*$", "", readable, flags=re.MULTILINE)
    for word in ("import(", "fetch(", "XMLHttpRequest", "WebSocket", "eval(", "new Function", "innerHTML"):
        assert word not in readable


@pytest.mark.parametrize("name", [*SCRIPTS, "page.css", "page.html"])
def test_parts_are_short_and_say_what_they_do(name: str) -> None:
    lines = source(name).splitlines()
    assert len(lines) <= 400
    assert max(map(len, lines)) <= 120
    if name == "page.html":
        assert "page.js" in next(line for line in lines if line.startswith("<!--"))
    else:
        assert re.match(r"(// |/\* )[A-Z].*", lines[0])
        assert re.search(r"(is|are) left to|stands in", "\n".join(lines[:4]))


@POSIX  # elsewhere files have no such names
@pytest.mark.parametrize("name", ["<script>alert(1)<", "</script><script>", '"><b>&amp;', "'`${1}\\", "$title", "é 画"])
def test_names_are_text(name: str, tmp_path: Path) -> None:
    network = tmp_path / f"{name.replace('/', '∕')}.safetensors"
    network.write_bytes(embedded_path("wave").read_bytes())
    elements = Elements(page_of([network]).decode())
    assert [tag for tag, _ in elements.tags] == [tag for tag, _ in Elements(PAGE).tags]
    assert json.loads(elements.scripts["networks"])[0]["name"] == network.stem
    assert elements.scripts["painter"] == Elements(PAGE).scripts["painter"]


def test_two_networks_need_two_names(tmp_path: Path) -> None:
    (tmp_path / "starry.safetensors").write_bytes(embedded_path("wave").read_bytes())
    expected = "networks: expected networks of different names, got starry; name each network once, or rename a file"
    with pytest.raises(OptionError, match=f"^{expected}$"):
        page_of(["starry", tmp_path / "starry.safetensors"])


def test_adain_is_refused() -> None:
    expected = "expected a network small and quick enough for a page, got one of the family adain; name arbitrary, "
    with pytest.raises(NetworkError, match=rf"adain\.safetensors: {expected}which takes any style picture too$"):
        page_of(["starry", "adain"])


@pytest.mark.parametrize("name", ["planes-4.safetensors", "version2/shared.safetensors", "golden.json", "none"])
def test_other_files_are_refused(name: str) -> None:
    with pytest.raises(VggQuantError, match=r"expected .*, got .*; "):
        page_of([GOLDEN / name])


def test_a_code_that_lies_is_refused(tmp_path: Path) -> None:
    """The checksum of the data is right there, but a centroid is used by no weight."""
    header, metadata, body = unseal(embedded_path("wave").read_bytes())
    begin, end = header["codes"]["data_offsets"]
    forged = body[:begin] + bytes(end - begin) + body[end:]
    (tmp_path / "forged").write_bytes(reseal(header, metadata, forged))
    with pytest.raises(VggQuantError):
        page_of([tmp_path / "forged"])


EXAMPLES = runpy.run_path(str(ROOT / "examples" / "make_pictures.py"))


def check_example(name: str, made: Image.Image, most: float) -> None:
    """It is the same but for the rounding of JPEG and of libraries."""
    with Image.open(HERE / name) as committed:
        assert committed.size == made.size
        difference = np.asarray(committed, dtype=float) - np.asarray(made, dtype=float)
    assert np.abs(difference).mean() < most


def test_the_examples_are_drawn_by_the_script() -> None:
    check_example("example.jpg", EXAMPLES["page_example"](), 4)
    with Image.open(ROOT / "examples" / "swirl.jpg") as swirls:
        check_example("style.jpg", EXAMPLES["page_style"](swirls), 20)
