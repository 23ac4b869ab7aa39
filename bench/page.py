"""How long does the page paint? `python -m bench.page [--graphics OPTION...]`.

Headless Chromium (Debian's package of that name) opens the page of the embedded networks and paints a picture of
512 × 384 pixels: in plain JavaScript on one core, and with WebGL where there is a graphics processor. Before it is
timed, each painting must be that of torch, within 2 levels of 255 at every pixel and 0.3 in the mean.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from bench.browser import NO_GRAPHICS, Browser, browser
from bench.machine import describe, save
from vggquant.files.sources import ONE_STYLE
from vggquant.models.painters import load_stylizer
from vggquant.page.page import page_of
from vggquant.pictures.generated import generated_pictures

HEIGHT, WIDTH = 384, 512
NETWORK = 0  # of `ONE_STYLE`
ROUNDS = 7
GRAPHICS = ("--use-angle=vulkan", "--enable-features=Vulkan", "--disable-vulkan-surface", "--ignore-gpu-blocklist")
AGAIN = "painter.paint(chosen(), picture.pixels).then(({ seconds }) => seconds)"
DONE = "!element('save').disabled || element('problem').textContent !== ''"
RENDERER = """(() => {
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  const known = gl?.getExtension("WEBGL_debug_renderer_info");
  return known ? gl.getParameter(known.UNMASKED_RENDERER_WEBGL) : null;
})()"""


def check_equal(tab: Browser, pixels: npt.NDArray[np.uint8]) -> None:
    """Refuse a painting that is not torch's."""
    address: str = tab.run("canvases.painting.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        painted = np.asarray(image.convert("RGB"), dtype=float)
    with torch.no_grad():
        expected = load_stylizer(ONE_STYLE[NETWORK])(torch.tensor(pixels).permute(2, 0, 1)[None] / 255)
    difference = np.abs(painted - (255 * expected[0]).round().permute(1, 2, 0).numpy())
    assert difference.max() <= 2, difference.max()
    assert difference.mean() <= 0.3, difference.mean()


def measure(road: str, options: Sequence[str]) -> dict[str, Any]:
    """Paint on one road, and time it after one round for warming up.

    Args:
        road: ``plain`` or ``webgl``.
        options: Of the browser.
    """
    pixels = generated_pictures(1, HEIGHT, WIDTH)[0]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page, picture = Path(folder) / "page.html", Path(folder) / "picture.png"
        page.write_bytes(page_of(ONE_STYLE))
        Image.fromarray(pixels).save(picture)
        with browser(Path(folder) / "profile", *options) as tab:
            tab.open(f"{page.as_uri()}#{road}")
            version = str(tab.call("Browser.getVersion")["product"])
            renderer = tab.run(RENDERER)
            tab.choose("#file", picture)
            tab.wait(DONE, 300)
            said = tab.run("element('status').textContent")
            assert said.endswith({"plain": "with plain JavaScript.", "webgl": "with WebGL."}[road]), said
            check_equal(tab, pixels)
            seconds = [tab.run(AGAIN) for _ in range(ROUNDS)]
    return {"road": road, "browser": version, "renderer": renderer, "seconds": statistics.median(seconds)}


def main() -> None:
    """Print the times and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphics", nargs="*", help="options of Chromium for WebGL; without, it is left out")
    wanted = parser.parse_args().graphics
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # which the browser inherits
    rows = [measure("plain", NO_GRAPHICS)]
    os.sched_setaffinity(0, cores)
    if wanted is not None:
        rows.append(measure("webgl", [f"--{option}" for option in wanted] or GRAPHICS))
    for row in rows:
        print(f"{row['road']:6} {row['seconds']:.3f} s, {row['browser']}, {row['renderer'] or 'no graphics'}")
    result = {"machine": describe(), "network": ONE_STYLE[NETWORK], "height": HEIGHT, "width": WIDTH, "rows": rows}
    save("page", result)


if __name__ == "__main__":
    main()
