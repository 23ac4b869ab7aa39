from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggquant.comparison.report import report_page
from vggquant.comparison.study import Comparison

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")


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


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_runs_the_page(painted: Comparison, tmp_path: Path, dark: bool) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "page.png"
    page.write_bytes(report_page(painted).replace(b"</body>", PROBE.encode() + b"</body>"))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    found = browse(page, tmp_path / "profile", scheme, "--dump-dom")
    assert f"<title>true;true;true;inset(0px 0px 0px 20%);{str(dark).lower()}</title>" in found
    browse(page, tmp_path / "profile", scheme, "--window-size=1280,1600", f"--screenshot={picture}")
    with Image.open(picture) as image:
        shown = np.asarray(image.convert("L"))
    assert shown.std() > 20
    assert (np.median(shown) < 100) == dark


def test_the_page_fits_a_phone(painted: Comparison, tmp_path: Path) -> None:
    """In a frame, since Chromium makes no window as narrow."""
    inside = html.escape(report_page(painted).decode())
    frame = f'<iframe width=390 height=800 style="border: 0" srcdoc="{inside}"></iframe>'
    probe = "<script>onload = () => { const d = document.querySelector('iframe').contentDocument.documentElement; "
    probe += "document.title = [d.clientWidth, d.scrollWidth].join(';'); }</script>"
    page = tmp_path / "phone.html"
    page.write_text(f"<!doctype html><title>none</title>{frame}{probe}")
    assert re.search(r"<title>(\d+);\1</title>", browse(page, tmp_path / "profile", "--dump-dom"))
