from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from vggquant import compare
from vggquant.comparison.report import report_page
from vggquant.comparison.study import Comparison


class Page(HTMLParser):
    """The elements of a page, and its tables by name: for each row, the style and the text of its cells."""

    def __init__(self, study: Comparison) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[tuple[str, str]]]] = {}
        self.rows: list[list[tuple[str, str]]] = []
        self.text = report_page(study).decode()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if attributes.get("role") == "region":
            self.rows = self.tables[attributes["aria-label"] or ""] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append((attributes.get("style") or "", ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "td":
            style, text = self.rows[-1][-1]
            self.rows[-1][-1] = (style, text + data.strip())

    def texts(self, table: str) -> list[list[str]]:
        """The cells' texts, but for the head."""
        return [[text for _, text in row] for row in self.tables[table][1:]]


def darkness(style: str) -> int:
    """Percent of colour behind a cell."""
    found = re.search(r"background: color-mix\(in srgb, var\(--mark\) (\d+)%, transparent\)", style)
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def page(painted: Comparison) -> Page:
    return Page(painted)


def test_the_page_fetches_nothing(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
        assert tag not in {"link", "iframe", "object", "embed", "base"}
    assert "@import" not in page.text
    assert not re.search(r"url\((?!#)", page.text)
    policies = [a.get("content") or "" for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_the_page_says_how_it_was_made(painted: Comparison, page: Page) -> None:
    text = html.unescape(page.text)
    assert text.count(painted.files[0].sha256) == 1
    assert "itself of 8 bits" in text
    assert "reference (8-bit)" in text
    assert painted.made["command"] in text
    assert painted.made["transfer"] in text


def test_names_are_text_and_never_markup(painted: Comparison, page: Page) -> None:
    assert painted.files[1].label.startswith("<b>")
    assert '<b>&"' not in page.text
    assert html.escape(painted.files[1].label) in page.text


def test_the_tables_hold_the_figures(painted: Comparison, page: Page) -> None:
    for file, row in zip((painted.reference, *painted.files), page.texts("figures"), strict=True):
        assert f"{file.bytes / 1e6:.2f} MB" in row
        assert f"{file.transfer_regret:.3f}" in row
    for file, row in zip(painted.files[:2], page.texts("figures")[1:3], strict=True):
        assert f"{file.content_error:.4f}" in row
        assert f"{file.style_error:.4f}" in row
    for index, file in enumerate(painted.files[:2]):
        for name, errors in (("feature error", file.feature_error), ("gram error", file.gram_error)):
            assert page.texts(name)[index] == [f"{error:.4f}" for error in errors.values()]
        assert page.texts("SQNR")[index] == [f"{ratio:.1f} dB" for ratio in file.layer_sqnr_db.values()]
    assert set(page.texts("SQNR")[2]) == {"lossless"}
    assert set(page.texts("feature error")[2]) == {"0"}


def test_larger_errors_have_darker_cells(painted: Comparison) -> None:
    errors = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 40.0, None]
    layers = list(painted.reference.feature_error)[: len(errors)]
    reference = replace(painted.reference, feature_error=dict.fromkeys(layers, 0.0))
    file = replace(painted.files[0], feature_error=dict(zip(layers, errors, strict=True)))
    (cells,) = Page(replace(painted, reference=reference, files=(file,))).tables["feature error"][1:]
    assert [text for _, text in cells] == [
        *("0", "0.0010", "0.0100", "0.0500", "0.2000", "0.5000", "1.0000", "40.0000", "-")
    ]
    *known, unknown = [darkness(style) for style, _ in cells]
    assert known[0] == unknown == 0
    up_to_one = known[:-1]
    assert up_to_one == sorted(set(up_to_one))  # darker with each
    assert known[-1] == known[-2] < 100  # all is lost already, and the text can still be read


def test_a_shorter_file_leaves_cells_open(painted: Comparison) -> None:
    whole = painted.files[0]
    kept = list(whole.layer_sqnr_db)[:2]
    cut = replace(
        whole,
        layer_sqnr_db={name: whole.layer_sqnr_db[name] for name in kept},
        feature_error={"relu1_1": 0.5},
    )
    page = Page(replace(painted, files=(cut,)))
    assert set(page.texts("SQNR")[0][2:]) == {"-"}
    assert page.texts("feature error")[0][0] == "0.5000"
    assert set(page.texts("feature error")[0][1:]) == {"-"}


def test_the_plot_shows_files_with_an_error_and_names_the_others(page: Page) -> None:
    assert "Without an error to draw: reference (8-bit), 8-bit." in page.text
    assert [tag for tag, _ in page.elements].count("svg") == 1
    drawing = page.text[page.text.index("<svg") : page.text.index("</svg>")]
    assert "vgg19-4.safetensors" in drawing
    assert len(re.findall(r"<use ", drawing[drawing.index('id="line2d_') :])) >= 4


def test_paintings_can_be_chosen_and_wiped(page: Page) -> None:
    assert [tag for tag, _ in page.elements].count("select") == 2
    assert [a.get("type") for tag, a in page.elements if tag == "input"] == ["range"]
    images = [a for tag, a in page.elements if tag == "img" and a.get("src")]
    assert len([a for a in images if a["alt"]]) == 6  # content, style, reference and three files
    assert len([a for a in images if not a["alt"]]) == 2  # which the script fills
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert {a["value"] for tag, a in page.elements if tag == "option"} <= set(identifiers)


def test_a_page_is_the_same_twice(painted: Comparison) -> None:
    assert report_page(painted) == report_page(painted)


def test_a_page_without_transfers_has_no_script_and_no_pictures(small: None) -> None:
    text = report_page(compare("vgg19", ["vgg19"])).decode()
    assert "<script" not in text
    assert "<img" not in text
