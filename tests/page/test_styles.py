"""Networks of any style in the page: numbers and paintings beside torch's, style pictures, strength and blends."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.browser import CHROMIUM, SOFTWARE_GRAPHICS, Browser, browser
from tests.page.javascript import NEEDS_NODE, run_node
from tests.page.test_browser import CAMERA, DONE, Pixels, is_error, made, saved, shown, words
from vggquant.files.container import write
from vggquant.files.sources import embedded_path
from vggquant.files.weights import Provenance, Weights
from vggquant.models.arbitrary import Arbitrary
from vggquant.models.johnson import Johnson
from vggquant.models.painters import load_stylizer
from vggquant.networks.arbitrary import ArbitraryNetwork, steered_names
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.page.page import PAINTER, page_of, source

NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")

NARROW = (8, 8, 8, 16, 8, 8, 16, 8, 24)
# of other shapes than the shipped one
NETWORKS = [
    ArbitraryNetwork((4, 6, 9), (), "zeros", NARROW),
    ArbitraryNetwork((5, 8, 12), ("block1_2", "block5_1", "up2"), "reflect", NARROW),
    ArbitraryNetwork((8, 7, 6), steered_names(), "zeros", (3, 5, 5, 9, 9, 6, 7, 1, 30)),
]
PREDICT = """
let network;
function judge({ file, data, height, width }) {
  if (file) network = readNetwork(Uint8Array.from(Buffer.from(file, "base64")));
  const picture = { data: Uint8ClampedArray.from(data), height, width };
  return [...predict(network.network, network.tensors, colorsOf(picture, network.network.enters))];
}
"""
FIRST, SECOND = ".slot:nth-child(1) input", ".slot:nth-child(2) input"


def written(network: ArbitraryNetwork | JohnsonNetwork, path: Path) -> Path:
    """A file of a network with random weights."""
    torch.manual_seed(5)
    painter = Arbitrary(network) if isinstance(network, ArbitraryNetwork) else Johnson(network)
    arrays = {name: tensor.numpy() for name, tensor in painter.state_dict().items()}
    write(path, Weights(network, {}, arrays, Provenance("0" * 64, "vggquant")))
    return path


def as_images(pixels: Pixels) -> Tensor:
    return torch.tensor(pixels).permute(2, 0, 1)[None] / 255


def by_torch(network: str | Path, content: Pixels, styles: list[Pixels], **options: Any) -> Pixels:
    painter = load_stylizer(network)
    assert isinstance(painter, Arbitrary)
    with torch.no_grad():
        painted = painter(as_images(content), [as_images(style) for style in styles], **options)
    found: Pixels = (255 * painted[0]).round().byte().permute(1, 2, 0).numpy()
    return found


@NEEDS_NODE
@pytest.mark.parametrize("number", [None, *range(len(NETWORKS))])
def test_the_numbers_of_a_style_are_torchs(number: int | None, tmp_path: Path) -> None:
    file = embedded_path("arbitrary") if number is None else written(NETWORKS[number], tmp_path / "mine.safetensors")
    painter = load_stylizer(file)
    assert isinstance(painter, Arbitrary)
    pictures = [made(300, 417), made(256, 256), made(16, 600)]
    cases = []
    for i, pixels in enumerate(pictures):
        rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        data = "" if i else base64.b64encode(file.read_bytes()).decode()
        height, width = pixels.shape[:2]
        cases.append({"file": data, "data": rgba.ravel().tolist(), "height": height, "width": width})
    names = [name for name in PAINTER if name != "painter.js"]
    codes = run_node(names, "globalThis.self = {};" + source("painter.js") + PREDICT, cases)
    with torch.no_grad():
        expected = [painter.predict(as_images(pixels))[0] for pixels in pictures]
    for code, right in zip(codes, expected, strict=True):
        assert len(code) == 100
        assert code == pytest.approx(right.tolist(), abs=1e-5 * float(right.abs().max()))
    assert float((expected[0] - expected[2]).abs().max()) > 1e-3  # or all pictures would be one style


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of small networks of both kinds."""
    folder = tmp_path_factory.mktemp("page")
    networks = [written(NETWORKS[1], folder / "any"), written(JohnsonNetwork((2, 2, 2), 0), folder / "one")]
    (folder / "page.html").write_bytes(page_of(networks))
    return folder / "page.html"


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "shipped.html"
    path.write_bytes(page_of(["arbitrary"]))
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile"), *SOFTWARE_GRAPHICS, *CAMERA) as found:
        yield found


@pytest.fixture
def opened(tab: Browser, page: Path) -> Browser:
    tab.look(1280, 900)
    tab.open("about:blank")
    tab.open(page)
    return tab


def put(tab: Browser, slider: str, percent: int) -> None:
    tab.run(f"{{ element('{slider}').value = {percent}; element('{slider}').dispatchEvent(new Event('input')); }}")


def put_style(tab: Browser, selector: str, path: Path) -> None:
    tab.choose(selector, path)
    tab.wait(f"element('status').textContent.startsWith('{path.name} is ')")


@NEEDS_CHROMIUM
@pytest.mark.parametrize(("road", "strength", "blend"), [("plain", 100, None), ("plain", 60, 30), ("webgl", 60, 30)])
def test_paintings_are_torchs(
    road: str, strength: int, blend: int | None, tab: Browser, shipped: Path, tmp_path: Path
) -> None:
    content, first, second = made(61, 83), made(90, 70), made(40, 300)[:, ::-1].copy()
    tab.open("about:blank")
    tab.open(f"{shipped.as_uri()}#{road}")
    put_style(tab, FIRST, saved(first, tmp_path / "one.png"))
    if blend is not None:
        put_style(tab, SECOND, saved(second, tmp_path / "two.png"))
        put(tab, "blend", blend)
    put(tab, "strength", strength)
    tab.choose("#file", saved(content, tmp_path / "picture.png"))
    tab.wait(DONE)
    assert words(tab, "status").endswith({"plain": "with plain JavaScript.", "webgl": "with WebGL."}[road])
    styles, weights = ([first], None) if blend is None else ([first, second], [100.0 - blend, blend])
    expected = by_torch("arbitrary", content, styles, strength=strength / 100, weights=weights)
    differences = np.abs(shown(tab)[..., :3].astype(int) - expected)
    assert differences.max() <= 2
    assert differences.mean() <= 0.3
    assert not [event for event in tab.events if is_error(event)]


@NEEDS_CHROMIUM
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_of_other_shapes_paint_too(network: ArbitraryNetwork, tab: Browser, tmp_path: Path) -> None:
    file, content, style = written(network, tmp_path / "mine.safetensors"), made(18, 37), made(30, 20)
    page = tmp_path / "page.html"
    page.write_bytes(page_of([file]))
    expected = by_torch(file, content, [style]).astype(int)
    assert expected.std() > 10  # or nothing would be shown
    for road in ("plain", "webgl"):
        tab.open("about:blank")
        tab.open(f"{page.as_uri()}#{road}")
        put_style(tab, FIRST, saved(style, tmp_path / "style.png"))
        tab.choose("#file", saved(content, tmp_path / "picture.png"))
        tab.wait(DONE)
        assert np.abs(shown(tab)[..., :3] - expected).max() <= 2


COUNTED = """{
  globalThis.asked = [];
  const before = painter.work.bind(painter);
  painter.work = (message, report) => {
    asked.push(message.style ? "style" : "painting");
    return before(message, report);
  };
}"""


@NEEDS_CHROMIUM
def test_a_slider_that_rests_paints_again(opened: Browser, tmp_path: Path) -> None:
    """By keyboard alone, and each picture is looked at once."""
    opened.run(COUNTED)
    opened.choose("#file", saved(made(40, 50), tmp_path / "picture.png"))
    opened.wait(DONE)
    assert opened.run("asked") == ["style", "painting"]
    before = shown(opened)
    opened.run("document.querySelector('.slot:nth-child(2) input').focus()")
    opened.press("Tab")  # to the first slider, since there is nothing to remove
    assert opened.run("document.activeElement.id") == "strength"
    for _ in range(3):
        opened.press("ArrowLeft")
    assert opened.run("element('strength').getAttribute('aria-valuetext')") == "97 % of the style"
    assert opened.run("document.querySelector('output').textContent") == "97 % of the style"
    assert opened.run("asked.length") == 2
    opened.wait("asked.length === 4")
    opened.wait(DONE)
    assert opened.run("asked.slice(2)") == ["style", "painting"]  # the picture's own numbers
    assert not np.array_equal(shown(opened), before)
    opened.press("Home")
    opened.wait("asked.length === 5")
    opened.wait(DONE)
    assert opened.run("asked[4]") == "painting"


@NEEDS_CHROMIUM
def test_style_pictures_are_dropped_pasted_and_removed(opened: Browser, tmp_path: Path) -> None:
    assert opened.run("styles[0].name") == "swirl"
    opened.choose("#file", saved(made(24, 32), tmp_path / "lake.png"))
    opened.wait(DONE)
    data = base64.b64encode(saved(made(32, 40), tmp_path / "x.png").read_bytes()).decode()
    transfer = f"""
      const bytes = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], name, {{ type: "image/png" }}));"""
    drop = 'DragEvent("drop", { dataTransfer: given, cancelable: true, bubbles: true })'
    paste = 'ClipboardEvent("paste", { clipboardData: given, cancelable: true, bubbles: true })'
    opened.run(f"{{ const name = 'a.png'; {transfer} slots[0].dispatchEvent(new {drop}); }}")
    opened.wait("styles[0].name === 'a.png'")
    assert opened.run("element('blending').hidden")
    opened.wait(DONE)
    focused = "slots[1].querySelector('input').focus(); document.activeElement"
    opened.run(f"{{ const name = 'b.png'; {transfer} {focused}.dispatchEvent(new {paste}); }}")
    opened.wait("styles[1]?.name === 'b.png'")
    opened.wait(DONE)
    assert not opened.run("element('blending').hidden || element('remove').hidden")
    assert opened.run("element('blend').getAttribute('aria-valuetext')") == "50 % first, 50 % second"
    names = "slots.map((slot) => slot.querySelector('canvas').getAttribute('aria-label'))"
    assert opened.run(names) == ["Style picture a.png", "Style picture b.png"]
    assert opened.run("canvases.painting.getAttribute('aria-label')") == "The painting, in the style a-b"
    opened.run("element('remove').click()")
    opened.wait("element('save').disabled")
    opened.wait(DONE)
    assert opened.run("canvases.painting.getAttribute('aria-label')") == "The painting, in the style a"
    assert opened.run("element('blending').hidden && document.activeElement === slots[1].querySelector('input')")
    assert opened.run("picture.name") == "lake.png"


@NEEDS_CHROMIUM
def test_what_is_no_style_is_told(opened: Browser, tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear all")
    opened.choose(FIRST, tmp_path / "letter.png")
    assert words(opened) == "letter.png is not a picture that this browser can read."
    opened.choose(SECOND, saved(made(16, 30)[:15], tmp_path / "low.png"))
    opened.wait("element('problem').textContent.startsWith('low')")
    assert words(opened) == "low.png is too small: a side needs 16 pixels."
    assert opened.run("styles.length") == 1


@NEEDS_CHROMIUM
def test_a_page_has_networks_of_both_kinds(opened: Browser, tmp_path: Path) -> None:
    facts = "painter.ready.then(({ networks }) => networks.map(({ smallest, most }) => [smallest, most]))"
    assert opened.run(facts) == [[16, 2**20], [8, 2**22]]
    opened.run("painter.ready.then(({ networks }) => { networks[0].most = 1e5; })")  # so that it is quick
    assert not opened.run("element('mixture').hidden")
    opened.run("document.querySelectorAll('#styles input')[1].click()")
    assert opened.run("element('mixture').hidden")
    opened.choose("#file", saved(made(330, 330), tmp_path / "large.png"))
    opened.wait(DONE)
    assert words(opened, "status").startswith("Painted 330 × 330 pixels")
    opened.run("document.querySelectorAll('#styles input')[0].click()")
    opened.wait("canvases.painting.width === 316")
    opened.wait(DONE)
    assert words(opened, "status").startswith("The picture has 0.1 million pixels and was made smaller. Painted 316 × ")
    opened.choose("#file", saved(made(15, 30), tmp_path / "low.png"))
    assert words(opened) == "low.png is too small: a side needs 16 pixels."
    assert opened.run("picture.name") == "large.png"
    opened.run("document.querySelectorAll('#styles input')[1].click()")
    opened.wait("canvases.painting.width === 330")
    opened.wait(DONE)
    assert words(opened, "status").startswith("Painted 330 × 330 pixels")


@NEEDS_CHROMIUM
def test_a_picture_too_small_for_another_network_has_no_painting_left(opened: Browser, tmp_path: Path) -> None:
    opened.run("document.querySelectorAll('#styles input')[1].click()")
    opened.choose("#file", saved(made(15, 30), tmp_path / "low.png"))
    opened.wait(DONE)
    opened.run("document.querySelectorAll('#styles input')[0].click()")
    assert words(opened) == "low.png is too small: a side needs 16 pixels."
    assert opened.run("element('save').disabled && element('working').hidden")
    assert not shown(opened).any()


@NEEDS_CHROMIUM
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(opened: Browser, dark: bool, tmp_path: Path) -> None:
    opened.look(390, 844, dark=dark)
    put_style(opened, SECOND, saved(made(32, 500), tmp_path / "broad.png"))
    wide = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert opened.run(wide) == opened.run(wide)[::-1]
    assert opened.run("Math.min(element('strength').offsetWidth, element('blend').offsetWidth)") >= 190
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    roles = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    buttons = {name for role, name in roles if role == "button"}
    assert {"Choose a style picture", "Remove the second style"} <= buttons
    assert ("group", "Style pictures") in roles
    assert {name for role, name in roles if role == "slider"} == {"Strength", "Blend"}


@NEEDS_CHROMIUM
def test_the_camera_is_painted_in_any_style(opened: Browser) -> None:
    opened.call("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    opened.run(COUNTED)
    put(opened, "strength", 50)
    opened.run("element('camera').click()")
    opened.wait("asked.length > 2")
    assert opened.run("asked.slice(0, 3)") == ["style", "style", "painting"]
    opened.run("element('take').click()")
    opened.wait(DONE)
    assert opened.run("canvases.painting.getAttribute('aria-label')") == "The painting, in the style swirl"
