"""The picture of the page for README.md: `python -m bench.page_picture`. It shows our own example and its painting."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.browser import NO_GRAPHICS, browser

DOCS = Path(__file__).parent.parent / "docs"
WIDTH, HEIGHT = 800, 760
MOST_BYTES = 150_000


def main() -> None:
    """Paint the example in the third style, and take a picture of the window."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        browser(Path(folder), *NO_GRAPHICS) as tab,
    ):
        tab.look(WIDTH, HEIGHT)
        tab.open(DOCS / "page.html")
        tab.run("document.querySelectorAll('#styles input')[2].checked = true")
        tab.run("element('take-example').click()")
        tab.wait("!element('save').disabled")
        tab.run("moveBorder(45)")
        tab.run("element('status').textContent = 'Painted 512 × 358 pixels.'")  # a time would be another every time
        picture = tab.screenshot("jpeg", quality=85)
    assert len(picture) <= MOST_BYTES, len(picture)
    (DOCS / "page.jpg").write_bytes(picture)
    print(f"wrote {DOCS / 'page.jpg'}, {len(picture):,} bytes")


if __name__ == "__main__":
    main()
