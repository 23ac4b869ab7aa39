"""The page in headless Chromium: paintings beside torch's, what it fetches, keyboard, phone, camera, and its words."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from bench.browser import CHROMIUM, SOFTWARE_GRAPHICS, Browser, browser
from vggquant.files.container import write
from vggquant.files.sources import ONE_STYLE, embedded_path
from vggquant.files.weights import Provenance, Weights
from vggquant.models.johnson import Johnson
from vggquant.models.painters import load_stylizer
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.page.page import page_of
from vggquant.pictures.generated import generated_pictures

Pixels = npt.NDArray[np.uint8]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")

CAMERA = ("--use-fake-device-for-media-stream",)
STREAM = "navigator.mediaDevices.getUserMedia"
SMALL_CAMERA = f"{{ const get = {STREAM}.bind(navigator.mediaDevices); "
SMALL_CAMERA += f"{STREAM} = () => get({{ video: {{ width: 160, height: 120 }} }}); }}"
DONE = "!element('save').disabled || element('problem').textContent !== ''"
COUNTED = "globalThis.shows = 0; { const before = showPainting; showPainting = (x) => { shows++; before(x); }; }"
HOSTILE = "<img src=x onerror=alert(1)><b>&quot;"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(page_of(ONE_STYLE))
    return path


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile"), *SOFTWARE_GRAPHICS, *CAMERA) as found:
        yield found


@pytest.fixture
def opened(tab: Browser, page: Path) -> Browser:
    """The page, freshly loaded, which paints plainly since there is no graphics processor."""
    tab.call("Browser.resetPermissions")
    tab.look(1280, 900)
    tab.open(page)
    return tab


def made(height: int, width: int) -> Pixels:
    found: Pixels = generated_pictures(1, height, width, seed=4)[0]
    return found


def saved(pixels: Pixels, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA"))


def shown(tab: Browser) -> Pixels:
    """What is on the canvas of the painting."""
    address: str = tab.run("canvases.painting.toDataURL('image/png')")
    return decoded(base64.b64decode(address.partition(",")[2]))


def by_torch(name: str | Path, pixels: Pixels) -> Pixels:
    images = torch.tensor(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        painted = load_stylizer(name)(images)
    found: Pixels = (255 * painted[0]).round().byte().permute(1, 2, 0).numpy()
    return found


def words(tab: Browser, identifier: str = "problem") -> str:
    tab.wait(f"element('{identifier}').textContent !== ''")
    found: str = tab.run(f"element('{identifier}').textContent")
    return found


@pytest.mark.parametrize("road", ["plain", "webgl"])
@pytest.mark.parametrize(("height", "width", "number"), [(72, 96, 0), (61, 83, 1), (61, 83, 2), (72, 96, 3)])
def test_paintings_are_torchs(
    road: str, height: int, width: int, number: int, tab: Browser, page: Path, tmp_path: Path
) -> None:
    pixels = made(height, width)
    tab.open("about:blank")  # or only what is behind # would change, which loads nothing
    tab.open(f"{page.as_uri()}#{road}")
    tab.run(f"document.querySelectorAll('#styles input')[{number}].checked = true")
    tab.choose("#file", saved(pixels, tmp_path / "picture.png"))
    tab.wait(DONE)
    assert words(tab, "status").endswith({"plain": "with plain JavaScript.", "webgl": "with WebGL."}[road])
    found = shown(tab)
    assert found.shape == (height, width, 4)
    assert (found[..., 3] == 255).all()
    differences = np.abs(found[..., :3].astype(int) - by_torch(ONE_STYLE[number], pixels))
    assert differences.max() <= 2
    assert differences.mean() <= 0.3
    assert not [event for event in tab.events if is_error(event)]


def is_error(event: dict[str, object]) -> bool:
    text = str(event)
    return event["method"] == "Runtime.exceptionThrown" or "'level': 'error'" in text or "'type': 'error'" in text


def test_nothing_is_fetched_and_nothing_fails(opened: Browser) -> None:
    opened.run("element('take-example').click()")
    opened.wait(DONE)
    requests = [e["params"]["request"]["url"] for e in opened.events if e["method"] == "Network.requestWillBeSent"]
    assert len(requests) >= 1
    assert all(url.startswith(("data:", "blob:")) for url in requests if not url.endswith("/page.html"))
    assert not [event for event in opened.events if is_error(event)]
    refused = "fetch('https://example.org').then(() => 'fetched', () => 'refused')"
    assert opened.run(refused) == "refused"
    assert "Content Security Policy" in str(opened.events)


def test_transparency_is_kept(opened: Browser, tmp_path: Path) -> None:
    pixels = np.dstack([made(40, 48), np.full((40, 48), 255, np.uint8)])
    pixels[:20, :, 3] = 0
    opened.choose("#file", saved(pixels, tmp_path / "picture.png"))
    opened.wait(DONE)
    over_white = np.where(pixels[..., 3:] > 0, pixels[..., :3], 255).astype(np.uint8)
    found = shown(opened)
    assert np.array_equal(found[..., 3], pixels[..., 3])
    assert np.abs(found[20:, :, :3].astype(int) - by_torch("starry", over_white)[20:]).max() <= 2


def test_it_works_by_keyboard(opened: Browser) -> None:
    focused = "document.activeElement.id || document.activeElement.name"
    order = []
    for _ in range(4):
        opened.press("Tab")
        order.append(opened.run(focused))
    assert order == ["file", "camera", "take-example", "style"]
    opened.press("ArrowRight")
    assert opened.run("chosen()") == 1
    opened.run("element('take-example').focus()")
    opened.press("Enter")
    opened.wait(DONE)
    assert "in the style scream" in opened.run("canvases.painting.getAttribute('aria-label')")
    first = shown(opened)
    for _ in range(2):
        opened.press("Tab")
    assert opened.run(focused) == "border"
    opened.press("ArrowLeft")
    assert opened.run("element('border').value") == "49"
    assert opened.run("element('border').getAttribute('aria-valuetext')") == "51 percent painting"
    assert opened.run("getComputedStyle(canvases.painting).clipPath") == "inset(0px 0px 0px 49%)"
    opened.press("Home")
    assert opened.run("getComputedStyle(canvases.painting).clipPath") in ("inset(0px)", "inset(0px 0px 0px 0%)")
    opened.run("document.querySelector('#styles input:checked').focus()")
    opened.press("ArrowRight")
    opened.wait("element('save').disabled")
    opened.wait(DONE)
    assert not np.array_equal(shown(opened), first)


def test_screen_readers_are_told(opened: Browser) -> None:
    nodes = opened.call("Accessibility.getFullAXTree")["nodes"]
    roles = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]}
    assert {("button", "Use the camera"), ("radio", "starry"), ("group", "Style")} <= roles
    assert ("heading", "Paint a picture") in roles
    assert opened.run("['status', 'problem'].map((id) => element(id).getAttribute('role'))") == ["status", "alert"]
    names = [name for role, name in roles if role in ("button", "radio", "slider", "image", "progressbar")]
    assert all(names)


def test_a_picture_is_dropped_pasted_and_saved(opened: Browser, tmp_path: Path) -> None:
    data = base64.b64encode(saved(made(32, 40), tmp_path / "x.png").read_bytes()).decode()
    transfer = f"""
      const bytes = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
      const given = new DataTransfer();
      given.items.add(new File([bytes], "dropped.png", {{ type: "image/png" }}));"""
    for event in ('DragEvent("drop", { dataTransfer: given', 'ClipboardEvent("paste", { clipboardData: given'):
        opened.run("element('save').disabled = true")
        opened.run(f"{{ {transfer} document.dispatchEvent(new {event}, cancelable: true, bubbles: true }})); }}")
        opened.wait(DONE)
        assert words(opened, "status").startswith("Painted 40 × 32 pixels in ")
    opened.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    painting = shown(opened)
    opened.run("element('save').click()")
    file = tmp_path / "dropped-starry.png"
    for _ in range(500):
        if file.exists():
            break
        opened.run("new Promise((resolve) => setTimeout(resolve, 20))")
    assert np.array_equal(decoded(file.read_bytes()), painting)


def test_what_cannot_be_painted_is_told(opened: Browser, tmp_path: Path) -> None:
    text = tmp_path / "letter.png"
    text.write_text("Dear all")
    opened.choose("#file", text)
    assert words(opened) == "letter.png is not a picture that this browser can read."
    opened.choose("#file", saved(made(8, 30)[:7], tmp_path / "low.png"))
    opened.wait("element('problem').textContent.startsWith('low')")
    assert words(opened) == "low.png is too small: a side needs 8 pixels."
    Image.new("1", (12_000, 9_000)).save(tmp_path / "wide.png")
    opened.choose("#file", tmp_path / "wide.png")
    opened.wait("element('problem').textContent.startsWith('wide')")
    assert words(opened) == "wide.png has 108.0 million pixels, and this page accepts 100 million at most."
    drop = "{{ const given = new DataTransfer(); given.items.add({}); "
    drop += "document.dispatchEvent(new DragEvent('drop', {{ dataTransfer: given }})); }}"
    opened.run(drop.format("new File([new Uint8Array(1e8 + 1)], 'heavy.png')"))
    assert words(opened) == "heavy.png has more than 100 megabytes, the most that this page accepts."
    opened.run(drop.format("'words', 'text/plain'"))
    assert words(opened) == "There is no picture in that."
    opened.choose("#file", saved(made(8, 9000), tmp_path / "strip.png"))
    opened.wait("element('problem').textContent.startsWith('strip')")
    assert words(opened) == (
        "strip.png is too long and narrow. Made smaller, its short side would have 7 pixels, and 8 are needed."
    )
    assert opened.run("element('result').hidden")
    opened.choose("#file", saved(made(24, 32), tmp_path / "good.png"))
    opened.wait(DONE)
    assert opened.run("element('problem').textContent") == ""


def test_a_large_picture_is_made_smaller_and_can_be_stopped(opened: Browser, tmp_path: Path) -> None:
    Image.new("RGB", (4_000, 3_000), (90, 120, 60)).save(tmp_path / "large.png")
    opened.choose("#file", tmp_path / "large.png")
    opened.wait("element('progress').value > 0")
    assert words(opened, "status") == "The picture has 12.0 million pixels and was made smaller. Painting …"
    assert 4_100_000 < opened.run("canvases.painting.width * canvases.painting.height") <= 2**22
    assert not opened.run("element('working').hidden")
    opened.run("element('stop').click()")
    assert words(opened, "status") == "Stopped."
    opened.wait("element('working').hidden")
    opened.choose("#file", saved(made(24, 32), tmp_path / "good.png"))
    opened.wait(DONE)
    assert words(opened, "status").startswith("Painted 32 × 24 pixels")


def test_the_camera_paints_live_and_gives_a_picture(opened: Browser) -> None:
    opened.call("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    opened.run(SMALL_CAMERA)
    opened.run("element('camera').click()")
    opened.wait("!element('take').hidden && canvases.painting.width > 0")
    opened.run(COUNTED)
    opened.wait("shows > 2")
    opaque = "canvases.painting.getContext('2d').getImageData(5, 5, 1, 1).data[3] === 255"
    frames = f"for (let i = 0; i < 20; i++) {{ await new Promise(requestAnimationFrame); painted.push({opaque}); }}"
    assert set(opened.run(f"(async () => {{ const painted = []; {frames} return painted; }})()")) == {True}
    opened.run("element('take').click()")
    opened.wait(DONE)
    assert opened.run("camera === undefined && element('take').hidden")
    assert opened.run("canvases.painting.width === element('video').videoWidth")


def test_a_camera_that_is_refused_is_told(opened: Browser) -> None:
    opened.call("Browser.setPermission", permission={"name": "camera"}, setting="denied")
    opened.run("element('camera').click()")
    assert words(opened).startswith("The camera was refused. Allow it in the browser's settings")
    opened.run("Object.defineProperty(navigator, 'mediaDevices', { value: undefined }); element('camera').click()")
    assert words(opened) == "This browser does not allow a page opened this way to use the camera."


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(opened: Browser, dark: bool, tmp_path: Path) -> None:
    opened.look(390, 844, dark=dark)
    opened.choose("#file", saved(made(32, 500), tmp_path / "broad.png"))
    opened.wait(DONE)
    wide = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert opened.run(wide) == opened.run(wide)[::-1]
    least = "Math.min(...[...document.querySelectorAll('button, .button, #styles span')].filter((x) => x.offsetWidth)"
    assert opened.run(f"{least}.map((x) => x.offsetHeight))") >= 44
    screen = np.asarray(Image.open(io.BytesIO(opened.screenshot())).convert("L"))
    assert (np.median(screen[:100]) < 100) == dark


def test_names_that_are_html_stay_names(tab: Browser, tmp_path: Path) -> None:
    network = tmp_path / f"{HOSTILE}.safetensors"
    shutil.copy(embedded_path("wave"), network)
    page = tmp_path / "page.html"
    page.write_bytes(page_of([network]))
    tab.open(page)
    tab.wait("element('credits').textContent !== ''")
    assert tab.run("document.querySelector('#styles span').textContent") == HOSTILE
    assert tab.run("document.title") == f"Paint in the style of {HOSTILE}"
    assert tab.run("document.querySelectorAll('img, b').length") == 2  # the examples alone
    assert not [event for event in tab.events if event["method"] == "Page.javascriptDialogOpening"]


def test_a_browser_that_runs_no_script_is_told_what_is_needed(tab: Browser, page: Path, tmp_path: Path) -> None:
    without = tmp_path / "page.html"
    without.write_text(page.read_text().replace('<script>"use strict";', "<script>not a script"))
    tab.open(without)
    said = tab.run("document.querySelector('[role=alert]').textContent")
    assert said == "This page needs JavaScript, and a browser of 2022 or later."


def test_a_worker_that_does_not_start_is_told(tab: Browser, page: Path, tmp_path: Path) -> None:
    without = tmp_path / "page.html"
    without.write_text(page.read_text().replace('type="text/plain">"use strict";', 'type="text/plain">not a script', 1))
    tab.open(without)
    assert words(tab) == "This browser cannot run what paints. A newer one can."


def test_a_damaged_network_is_told(tab: Browser, tmp_path: Path) -> None:
    text = page_of(["wave"]).decode()
    start = text.index('"file": "') + len('"file": "')
    at = start + 8_000
    page = tmp_path / "page.html"
    page.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    tab.open(page)
    assert words(tab).startswith("The network wave in this page is damaged: expected checksum ")


@pytest.mark.parametrize(("blocks", "filters"), [(0, (4, 6, 13)), (2, (17, 5, 8))])
def test_networks_of_other_shapes_paint_too(
    blocks: int, filters: tuple[int, int, int], tab: Browser, tmp_path: Path
) -> None:
    network, pixels = tmp_path / "mine.safetensors", made(21, 34)
    state = Johnson(JohnsonNetwork(filters, blocks)).state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    weights = Weights(JohnsonNetwork(filters, blocks), {}, arrays, Provenance("0" * 64, "vggquant"))
    write(network, weights)
    expected = by_torch(network, pixels).astype(int)
    page = tmp_path / "page.html"
    page.write_bytes(page_of([network]))
    for road in ("plain", "webgl"):
        tab.open("about:blank")
        tab.open(f"{page.as_uri()}#{road}")
        tab.choose("#file", saved(pixels, tmp_path / "picture.png"))
        tab.wait(DONE)
        assert np.abs(shown(tab)[..., :3] - expected).max() <= 2


def test_the_picture_before_the_camera_is_there_again(opened: Browser, tmp_path: Path) -> None:
    opened.call("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    opened.run(SMALL_CAMERA)
    opened.run("element('camera').click()")
    opened.wait("camera && canvases.painting.height > 0 && !element('result').hidden")
    opened.run("element('close').click()")
    assert opened.run("element('result').hidden")
    pixels = made(61, 83)
    opened.choose("#file", saved(pixels, tmp_path / "picture.png"))
    opened.wait(DONE)
    opened.run("element('camera').click(); element('camera').click()")  # the second is too many
    opened.wait("onStage === undefined")
    opened.run("element('close').click()")
    opened.run("document.querySelectorAll('#styles input')[2].click()")
    opened.wait("element('save').disabled")
    opened.wait(DONE)
    assert np.abs(shown(opened)[..., :3].astype(int) - by_torch("wave", pixels)).max() <= 2
    assert opened.run("element('problem').textContent") == ""
    opened.run("element('camera').click()")
    opened.wait("onStage === undefined")
    opened.run("element('close').click()")
    opened.wait(DONE)
    assert shown(opened).shape == (61, 83, 4)
    assert opened.run("canvases.original.width") == 83


def test_a_camera_that_does_not_play_is_closed(opened: Browser) -> None:
    opened.call("Browser.setPermission", permission={"name": "camera"}, setting="granted")
    opened.run(SMALL_CAMERA)
    opened.run("element('video').play = () => Promise.reject(new DOMException('see https://a.example', 'AbortError'))")
    opened.run("element('camera').click()")
    assert words(opened) == "The camera cannot be used. Choose a picture instead."
    assert opened.run("camera === undefined && element('close').hidden && element('video').srcObject.active === false")
    opened.run("delete element('video').play; element('camera').click(); element('camera').click()")
    opened.wait("camera && !element('close').hidden")
    assert opened.run("element('problem').textContent") == ""
    opened.run("element('close').click()")


def test_a_picture_whose_pixels_are_kept_back_is_told(opened: Browser, tmp_path: Path) -> None:
    pixels = made(24, 32)
    opened.choose("#file", saved(pixels, tmp_path / "good.png"))
    opened.wait(DONE)
    painting = shown(opened)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg" width="50" height="40"><foreignObject width="50" height="40">'
    (tmp_path / "html.svg").write_text(
        f'{drawing}<p xmlns="http://www.w3.org/1999/xhtml">words</p></foreignObject></svg>'
    )
    opened.choose("#file", tmp_path / "html.svg")
    assert words(opened) == "html.svg is not a picture that this browser can read."
    assert np.array_equal(shown(opened), painting)
    assert opened.run("canvases.original.width === 32 && !element('save').disabled")


HELD_WORKER = """{
  const post = Worker.prototype.postMessage;
  globalThis.held = [];
  Worker.prototype.postMessage = function (...given) { held.push(() => post.apply(this, given)); };
  globalThis.release = () => { Worker.prototype.postMessage = post; held.forEach((each) => each()); };
  painter.waiting.clear();
  painter.worker.terminate();
  painter.networks = undefined;
  painter.start();
}"""


def test_what_is_asked_before_the_worker_is_ready_is_painted_once(opened: Browser) -> None:
    opened.wait("painter.networks !== undefined")
    opened.run(HELD_WORKER)
    opened.run(COUNTED)
    opened.run("element('take-example').click(); element('take-example').click()")
    assert words(opened, "status") == "Painting …"
    assert not opened.run("element('working').hidden")
    opened.run("release()")
    opened.wait(DONE)
    opened.run("for (const number of [1, 3, 2]) document.querySelectorAll('#styles input')[number].click()")
    opened.wait("element('save').disabled")
    opened.wait(DONE)
    assert opened.run("shows") == 2
    assert opened.run("element('problem').textContent") == ""
    assert opened.run("element('working').hidden")
    opened.wait("canvases.painting.getAttribute('aria-label') === 'The painting, in the style wave'")
    pixels = opened.run("Array.from(picture.pixels.data)")
    width = opened.run("picture.pixels.width")
    expected = by_torch("wave", np.array(pixels, np.uint8).reshape(-1, width, 4)[..., :3])
    assert np.abs(shown(opened)[..., :3].astype(int) - expected).max() <= 2


def test_what_waits_for_the_worker_can_be_stopped(opened: Browser) -> None:
    opened.wait("painter.networks !== undefined")
    opened.run(HELD_WORKER)
    opened.run("element('take-example').click()")
    opened.run("element('stop').click()")
    opened.run("release()")
    opened.run("painter.ready.then(() => new Promise((resolve) => setTimeout(resolve, 50)))")
    assert words(opened, "status") == "Stopped."
    assert opened.run("element('working').hidden && element('save').disabled && picture === undefined")


def test_what_is_refused_leaves_the_work_alone(opened: Browser, tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear all")
    Image.new("RGB", (1_000, 800), (90, 120, 60)).save(tmp_path / "picture.png")
    opened.choose("#file", tmp_path / "picture.png")
    opened.wait("element('progress').value > 0")
    opened.choose("#file", tmp_path / "letter.png")
    assert words(opened) == "letter.png is not a picture that this browser can read."
    opened.choose("#file", saved(made(8, 9)[:7], tmp_path / "low.png"))
    opened.wait("element('problem').textContent.startsWith('low')")
    paste = "new ClipboardEvent('paste', { clipboardData: new DataTransfer() })"
    opened.run(f"document.dispatchEvent({paste})")
    assert words(opened) == "low.png is too small: a side needs 8 pixels."
    assert words(opened, "status") == "Painting …"
    opened.wait("!element('save').disabled")
    assert words(opened, "status").startswith("Painted 1000 × 800 pixels")


def test_a_style_that_is_stopped_leaves_no_painting_of_another(opened: Browser) -> None:
    opened.run("element('take-example').click()")
    opened.wait(DONE)
    opened.run("document.querySelectorAll('#styles input')[1].click(); element('stop').click()")
    assert words(opened, "status") == "Stopped."
    assert not shown(opened).any()
    assert opened.run("element('save').disabled")
    assert opened.run("canvases.painting.getAttribute('aria-label')") == "The painting"
    opened.run("document.querySelectorAll('#styles input')[0].click()")
    opened.wait(DONE)
    assert shown(opened).any()


def test_a_long_side_is_named(opened: Browser, tmp_path: Path) -> None:
    opened.choose("#file", saved(made(10, 8_500), tmp_path / "strip.png"))
    opened.wait(DONE)
    said = words(opened, "status")
    assert said.startswith("The picture has a side of 8500 pixels and was made smaller. Painted 8192 × 9 pixels in ")


def test_jobs_get_their_own_answers(opened: Browser) -> None:
    pixels = made(24, 32)
    numbers = np.dstack([pixels, np.full((24, 32), 255, np.uint8)]).ravel().tolist()
    picture = f"{{ data: Uint8ClampedArray.from({numbers}), height: 24, width: 32 }}"
    both = f"Promise.all([0, 2].map((number) => painter.paint(number, {picture})))"
    for name, painted in zip(
        ("starry", "wave"), opened.run(f"{both}.then((all) => all.map((x) => [...x.painted]))"), strict=True
    ):
        found = np.array(painted).reshape(24, 32, 4)[..., :3]
        assert np.abs(found - by_torch(name, pixels)).max() <= 2
