from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import run
from vggquant import compare
from vggquant import comparison as comparison_module
from vggquant.comparison import Comparison
from vggquant.errors import OptionError
from vggquant.options import StyleOptions
from vggquant.report import contact_sheet, report_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, packed_at: dict[int, Path]) -> Comparison:
    odd = tmp_path_factory.mktemp("odd") / "<b>&\"'.safetensors"
    shutil.copy(packed_at[2], odd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_module, "PIXELS", 64 * 64)
        patch.setattr(comparison_module, "GENERATED", 2)
        patch.setattr(comparison_module, "TRANSFER", StyleOptions(steps=2))
        return compare("vgg19", [packed_at[4], odd], transfer=True)


class Page(HTMLParser):
    """What a page would fetch, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_page_fetches_nothing(study: Comparison) -> None:
    text = report_page(study).decode()
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    policies = [a.get("content") or "" for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_the_page_shows_the_study(study: Comparison) -> None:
    text = report_page(study).decode()
    assert '<b>&"' not in text
    assert html.escape(study.files[1].label) in text
    assert html.unescape(text).count(study.files[0].sha256) == 1
    assert "itself of 8 bits" in text
    assert "reference (8-bit)" in text
    assert study.made["command"] in html.unescape(text)
    for file in study.files:
        assert f"{file.content_error:.4f}" in text
        assert f"{file.transfer_regret:.3f}" in text
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("svg") == 1
    assert tags.count("select") == 2
    assert [a.get("type") for tag, a in page.elements if tag == "input"] == ["range"]
    images = [a for tag, a in page.elements if tag == "img" and a.get("src")]
    assert len(images) == 5  # content, style, reference and two files
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert {a["value"] for tag, a in page.elements if tag == "option"} <= set(identifiers)


def test_a_page_is_the_same_twice(study: Comparison) -> None:
    assert report_page(study) == report_page(study)
    assert contact_sheet(study) == contact_sheet(study)


def test_a_page_without_transfers(study: Comparison, packed_at: dict[int, Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_module, "PIXELS", 64 * 64)
        patch.setattr(comparison_module, "GENERATED", 1)
        plain = compare("vgg19", ["vgg19"])
    text = report_page(plain).decode()
    assert "<script" not in text
    assert "<img" not in text
    with pytest.raises(OptionError, match="add --transfer"):
        contact_sheet(plain)


def test_the_contact_sheet(study: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    path.write_bytes(contact_sheet(study))
    with Image.open(path) as image:
        assert image.width > image.height > 100
        assert np.asarray(image.convert("RGB")).std() > 20


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
@pytest.mark.parametrize(("name", "size"), [("desk", "1280,1600"), ("phone", "390,1600")])
def test_a_browser_shows_the_page(study: Comparison, tmp_path: Path, name: str, size: str) -> None:
    assert CHROMIUM is not None
    page, picture = tmp_path / "report.html", tmp_path / f"{name}.png"
    # what the script did is told in the title, which --dump-dom prints
    probe = "<script>at.value=20; at.dispatchEvent(new Event('input')); document.title = [left.naturalWidth > 0, "
    probe += "left.parentElement.style.getPropertyValue('--at'), "
    probe += "document.documentElement.scrollWidth <= innerWidth]</script>"
    page.write_bytes(report_page(study).replace(b"</body>", probe.encode() + b"</body>"))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    options += ["--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}"]
    for wanted in ("--dump-dom", f"--screenshot={picture}"):
        command = [CHROMIUM, *options, "--virtual-time-budget=2000", wanted, page.as_uri()]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        if wanted == "--dump-dom":
            assert "<title>true,20%,true</title>" in found.stdout
    with Image.open(picture) as image:
        assert np.asarray(image.convert("L")).std() > 20


def test_the_command_writes_all(packed_at: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_module, "PIXELS", 64 * 64)
    monkeypatch.setattr(comparison_module, "GENERATED", 2)
    monkeypatch.setattr(comparison_module, "TRANSFER", StyleOptions(steps=1))
    page, sheet = tmp_path / "report.html", tmp_path / "grid.png"
    given = ("compare", "vgg19", packed_at[4], "--widths", "1", "--transfer", "--report", page, "--figure", sheet)
    result = run(*given)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["reference", "vgg19-4.safetensors", "1-bit"]
    assert "itself of 8 bits" in result.stderr
    assert page.read_bytes().startswith(b"<!doctype html>")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    again = run(*given)
    assert again.exit_code == 1
    assert "--force" in again.stderr
    found = run("compare", "vgg19", "vgg19", "--json")
    assert json.loads(found.stdout)["files"][0]["content_error"] == 0


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (("vgg19",), 2, "a file or a width to compare"),
        (("vgg19", "--widths", "9"), 2, "expected widths of 1 to 8 bits, got 9"),
        (("vgg19", "--widths", "a-b"), 2, "expected widths like 8-1 or 8,4,2"),
        (("vgg19", "--widths", "8", "--figure", "x.png"), 2, "add --transfer"),
        (("vgg19", "--widths", "8", "--transfer", "--figure", "x", "--report", "x"), 2, "expected two files"),
        (("vgg19", "missing.safetensors"), 1, "missing.safetensors"),
        (("missing.safetensors", "vgg19"), 1, "missing.safetensors"),
        (("vgg19", "vgg19", "--images", "missing"), 1, "a folder of pictures"),
        (("vgg19", "vgg19", "--style", "x.png"), 2, "add --transfer"),
    ],
)
def test_wrong_commands_are_refused(given: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    result = run("compare", *given)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
