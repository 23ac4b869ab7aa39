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
from vggquant.comparison import study as comparison_module
from vggquant.comparison.report import contact_sheet, report_page
from vggquant.comparison.study import Comparison
from vggquant.errors import OptionError
from vggquant.style.options import StyleOptions

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, packed_at: dict[int, Path]) -> Comparison:
    odd = tmp_path_factory.mktemp("odd") / f"<b>&\"'$^$日{'x' * 40}.safetensors"
    shutil.copy(packed_at[2], odd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison_module, "PIXELS", 64 * 64)
        patch.setattr(comparison_module, "GENERATED", 2)
        patch.setattr(comparison_module, "TRANSFER", StyleOptions(steps=2))
        return compare("vgg19", [packed_at[4], odd], widths=[8], transfer=True)


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
    assert study.made["transfer"] in html.unescape(text)
    for file in study.files[:2]:
        assert f"{file.content_error:.4f}" in text
        assert f"{file.transfer_regret:.3f}" in text
        for field in ("feature_error", "gram_error"):
            for error in getattr(file, field).values():
                share = round(80 * min(1, error) ** 0.5)
                assert f'style="background: color-mix(in srgb, var(--mark) {share}%, transparent)">{error:.4f}' in text
        assert all(f"<td>{ratio:.1f}</td>" in text for ratio in file.layer_sqnr_db.values() if ratio is not None)
    assert "Without an error to draw: reference (8-bit), 8-bit." in text
    drawing = text[text.index("<svg") : text.index("</svg>")]
    assert "vgg19-4.safetensors" in drawing
    assert len(re.findall(r"<use ", drawing[drawing.index('id="line2d_') :])) >= 4
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("svg") == 1
    assert tags.count("select") == 2
    assert [a.get("type") for tag, a in page.elements if tag == "input"] == ["range"]
    images = [a for tag, a in page.elements if tag == "img" and a.get("src")]
    assert len([a for a in images if a["alt"]]) == 6  # content, style, reference and three files
    assert len([a for a in images if not a["alt"]]) == 2  # which the slider fills
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
        sheet = np.asarray(image.convert("RGB"), np.float64)
    columns = 6
    for index, picture in enumerate((*study.sources.values(), *study.painted.values())):
        tile = sheet[:, index * sheet.shape[1] // columns : (index + 1) * sheet.shape[1] // columns]
        colours = tile[(tile < 250).any(axis=2)].mean(axis=0)  # but for the paper
        expected = 255 * picture[0].clamp(0, 1).mean(dim=(1, 2)).numpy()
        assert np.abs(colours - expected).max() < 12, index


def browse(page: Path, profile: Path, *wanted: str) -> str:
    """What Chromium prints of a page."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--disable-component-update", "--no-first-run", f"--user-data-dir={profile}"]
    command = [CHROMIUM, *options, "--virtual-time-budget=2000", *wanted, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


# what the script did is told in the title, which --dump-dom prints
PROBE = """<script>
at.value = 20; at.dispatchEvent(new Event("input"));
const select = document.getElementById("left");
const before = left.src; select.selectedIndex = 1; select.dispatchEvent(new Event("change"));
const luminance = color => color.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0);
const style = getComputedStyle(document.body);
document.title = [left.naturalWidth > 0, left.src !== before, left.alt === select.selectedOptions[0].text,
  getComputedStyle(right).clipPath, luminance(style.color) > 400].join(";");
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_runs_the_page(study: Comparison, tmp_path: Path, dark: bool) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "page.png"
    page.write_bytes(report_page(study).replace(b"</body>", PROBE.encode() + b"</body>"))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    found = browse(page, tmp_path / "profile", scheme, "--dump-dom")
    assert f"<title>true;true;true;inset(0px 0px 0px 20%);{str(dark).lower()}</title>" in found
    browse(page, tmp_path / "profile", scheme, "--window-size=1280,1600", f"--screenshot={picture}")
    with Image.open(picture) as image:
        shown = np.asarray(image.convert("L"))
    assert shown.std() > 20
    assert (np.median(shown) < 100) == dark


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_page_fits_a_phone(study: Comparison, tmp_path: Path) -> None:
    """In a frame, since Chromium makes no window as narrow."""
    inside = html.escape(report_page(study).decode())
    frame = f'<iframe width=390 height=800 style="border: 0" srcdoc="{inside}"></iframe>'
    probe = "<script>onload = () => { const d = document.querySelector('iframe').contentDocument.documentElement; "
    probe += "document.title = [d.clientWidth, d.scrollWidth].join(';'); }</script>"
    page = tmp_path / "phone.html"
    page.write_text(f"<!doctype html><title>none</title>{frame}{probe}")
    assert re.search(r"<title>(\d+);\1</title>", browse(page, tmp_path / "profile", "--dump-dom"))


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
        (("vgg19", "--widths", "9" * 5000), 2, "expected widths like"),
        (("vgg19", "--widths", "８"), 2, "expected widths like"),
        (("vgg19", "--widths", "8", "--transfer", "--figure", "./x.png", "--report", "x.png"), 2, "expected two files"),
        (("vgg19", "--widths", "8", "--transfer", "--figure", "x.jpg"), 2, "a name that ends in .png"),
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


def test_a_picture_that_is_measured_on_is_not_overwritten(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    given = ("--images", tmp_path, "--transfer", "--figure", tmp_path / "a.png", "--force")
    result = run("compare", "vgg19", "--widths", "8", *given)
    assert result.exit_code == 1
    assert "an output other than the source" in result.stderr
