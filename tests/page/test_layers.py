"""Layers of every kind that networks.js describes, plainly and with WebGL, beside torch."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, instance_norm, interpolate, pad, relu, relu6

from bench.browser import CHROMIUM, SOFTWARE_GRAPHICS, Browser, browser
from tests.page.javascript import NEEDS_NODE, run_node
from vggquant.page.page import PAINTER, source

NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")

USUAL = {"kernel": 3, "stride": 1, "doubling": 1, "border": "reflect", "depthwise": False, "cropped": False}
ACTIVATIONS = {"none": lambda x: x, "relu": relu, "relu6": relu6, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
# what a layer is called, and how it differs from the usual
LAYERS: list[dict[str, Any]] = [
    {"outputs": 6, "kernel": 5, "activation": "relu6", "gain": True, "shift": True},
    {"outputs": 6, "depthwise": True, "border": "zeros", "activation": "relu", "shift": True},
    {"outputs": 19, "kernel": 1, "activation": "none", "shift": True},
    {"outputs": 19, "stride": 2, "border": "zeros", "activation": "tanh", "gain": True, "shift": True},
    {"outputs": 19, "depthwise": True, "stride": 1, "activation": "relu", "gain": True, "shift": True},
    {"outputs": 19, "kernel": 1, "activation": "none", "added": 3},
    {"outputs": 19, "kernel": 1, "activation": "relu", "added": 3},
    {"outputs": 5, "doubling": 2, "border": "zeros", "activation": "relu6", "gain": True, "shift": True},
    {"outputs": 5, "depthwise": True, "kernel": 5, "stride": 2, "activation": "none", "gain": True},
    {"outputs": 3, "doubling": 2, "cropped": True, "kernel": 9, "activation": "sigmoid", "shift": True},
]
# a gain stands with a shift in every network
for described in LAYERS:
    described["shift"] = described.get("shift", described.get("gain", False))
ALONE: list[dict[str, Any]] = [{"outputs": 3, "kernel": 1, "activation": "sigmoid", "gain": True, "shift": True}]


class Case:
    """A network of some layers with random numbers, and a picture for it."""

    def __init__(self, height: int, width: int, layers: list[dict[str, Any]] = LAYERS) -> None:
        generator = torch.Generator().manual_seed(height)
        self.picture = torch.rand(1, 3, height, width, generator=generator).mul(255).byte()
        self.layers: list[dict[str, Any]] = []
        self.tensors: dict[str, Tensor] = {}
        channels = 3
        for number, described in enumerate(layers):
            layer = {**USUAL, **described, "inputs": channels, "weight": f"{number}.weight"}
            shape = (layer["outputs"], 1 if layer["depthwise"] else channels, layer["kernel"], layer["kernel"])
            self.tensors[layer["weight"]] = torch.randn(shape, generator=generator) / np.sqrt(np.prod(shape[1:]))
            for part in ("gain", "shift"):
                name = f"{number}.{part}"
                if layer.pop(part, False):
                    layer[part] = name
                    self.tensors[name] = torch.randn(layer["outputs"], generator=generator) / 2 + (part == "gain")
            self.layers.append(layer)
            channels = layer["outputs"]

    def by_torch(self) -> Tensor:
        x = self.picture / 127.5 - 1
        results: list[Tensor] = []
        for layer in self.layers:
            x = interpolate(x, scale_factor=float(layer["doubling"]), mode="nearest")
            if layer["cropped"]:
                x = x[..., : self.picture.shape[2], : self.picture.shape[3]]
            border = layer["kernel"] // 2
            x = pad(x, (border,) * 4, mode="reflect" if layer["border"] == "reflect" else "constant")
            groups = layer["inputs"] if layer["depthwise"] else 1
            x = conv2d(x, self.tensors[layer["weight"]], stride=layer["stride"], groups=groups)
            shift = self.tensors.get(layer.get("shift", ""))
            if "gain" in layer:
                x = instance_norm(x, weight=self.tensors[layer["gain"]], bias=shift)
            elif shift is not None:
                x = x + shift[:, None, None]
            x = ACTIVATIONS[layer["activation"]](x)
            x = x + results[layer["added"]] if "added" in layer else x
            results.append(x)
        return 255 * (0.8 * x + 0.1)

    def as_json(self) -> dict[str, Any]:
        pixels = torch.cat([self.picture, torch.full_like(self.picture[:, :1], 255)], 1)[0].permute(1, 2, 0)
        network = {"layers": self.layers, "enters": [2, -1], "leaves": [0.8, 0.1]}
        tensors = {name: tensor.flatten().tolist() for name, tensor in self.tensors.items()}
        height, width = self.picture.shape[2:]
        data = pixels.flatten().tolist()
        return {"network": network, "tensors": tensors, "data": data, "height": height, "width": width}


# what is left of a worker for the scripts
TAKE = """
function taken({ network, tensors, data, height, width }) {
  const arrays = new Map(Object.entries(tensors).map(([name, values]) => [name, Float32Array.from(values)]));
  return [network, arrays, { data: Uint8ClampedArray.from(data), height, width }, () => {}];
}
"""
SIZES = [(24, 40), (45, 35)]


def check(found: list[int], case: Case) -> None:
    _, _, height, width = case.picture.shape
    expected = case.by_torch()
    assert expected.shape == (1, 3, height, width)
    assert float(expected.std()) > 20  # or nothing would be shown
    painted = np.array(found).reshape(height, width, 4)[..., :3].transpose(2, 0, 1)
    assert np.abs(painted - expected[0].numpy()).max() <= 1.01


@NEEDS_NODE
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_plain_layers_are_torchs(height: int, width: int) -> None:
    case = Case(height, width)
    judge = TAKE + "function judge(given) { return [...paintPlainly(...taken(given))]; }"
    names = [name for name in PAINTER if name != "painter.js"]
    stub = "globalThis.self = {};" + source("painter.js")
    (found,) = run_node(names, stub + judge, [case.as_json()])
    check(found, case)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile"), *SOFTWARE_GRAPHICS) as found:
        found.open("about:blank")
        found.run("\n".join([*map(source, PAINTER), TAKE, "undefined"]))
        yield found


@NEEDS_CHROMIUM
@pytest.mark.parametrize(("height", "width", "targets"), [(*SIZES[0], 4), (*SIZES[1], 1)])
def test_layers_of_webgl_are_torchs(tab: Browser, height: int, width: int, targets: int) -> None:
    """Also where a program has room for the weights of one texture layer alone."""
    case = Case(height, width)
    assert tab.run("new Graphics(false).mostTargets({ kernel: 9 }, 1)") >= 1
    graphics = f"Object.assign(new Graphics(false), {{ mostTargets: () => {targets} }})"
    check(tab.run(f"[...{graphics}.compute(...taken({json.dumps(case.as_json())}))]"), case)


@NEEDS_CHROMIUM
def test_what_is_drawn_in_bands_has_no_seams(tab: Browser) -> None:
    case = Case(400, 500, ALONE)
    assert tab.run("BAND") < 400 * 500
    check(tab.run(f"[...new Graphics(false).compute(...taken({json.dumps(case.as_json())}))]"), case)


@NEEDS_CHROMIUM
def test_a_network_too_wide_for_a_program_is_left_to_plain_arrays(tab: Browser) -> None:
    script = (
        "(() => { try { new Graphics(false).mostTargets({ kernel: 9 }, 256); } catch (e) { return e.message; } })()"
    )
    assert tab.run(script) == "a network too wide for it"


@NEEDS_CHROMIUM
def test_graphics_that_are_lost_are_left_to_plain_arrays(tab: Browser) -> None:
    case = Case(24, 40, ALONE)
    lost = f"""(() => {{
      const given = taken({json.dumps(case.as_json())});
      graphics = new Graphics(false);
      const whole = paintWithGraphics(...given) !== undefined;
      graphics.gl.getExtension("WEBGL_lose_context").loseContext();
      return [whole, paintWithGraphics(...given) === undefined, graphics, [...paintPlainly(...given)]];
    }})()"""
    *ends, painted = tab.run(lost)
    assert ends == [True, True, None]
    check(painted, case)


@NEEDS_CHROMIUM
def test_what_fails_otherwise_with_graphics_is_told(tab: Browser) -> None:
    """And the memory of the graphics is given back."""
    script = """(() => {
      const broken = graphics = new Graphics(false);
      broken.compute = () => { throw new TypeError("a mistake"); };
      try { paintWithGraphics(); } catch (error) { return [error.message, graphics, broken.gl.isContextLost()]; }
    })()"""
    assert tab.run(script) == ["a mistake", None, True]


@NEEDS_CHROMIUM
def test_a_worker_without_canvases_is_left_to_plain_arrays(tab: Browser) -> None:
    script = """(() => {
      const canvas = OffscreenCanvas;
      globalThis.OffscreenCanvas = undefined;
      graphics = undefined;
      try { return [paintWithGraphics() === undefined, graphics]; } finally { globalThis.OffscreenCanvas = canvas; }
    })()"""
    assert tab.run(script) == [True, None]


@NEEDS_NODE
def test_too_little_memory_is_told() -> None:
    judge = """
    function judge() {
      const said = [];
      globalThis.self = { postMessage: (message) => said.push(message) };
      eval(painter + "; computePlainly = () => new Float32Array(2 ** 40);"
        + "networks = [{ network: {}, tensors: {} }]; road = 'plain'; paintPlainly = computePlainly;"
        + "self.onmessage({ data: { number: 0, data: new Uint8ClampedArray(4), height: 1, width: 1 } });");
      return said;
    }"""
    names = [name for name in PAINTER if name != "painter.js"]
    driver = f"const painter = {json.dumps(source('painter.js'))};" + judge
    assert run_node(names, driver, [None]) == [[{"failed": "memory"}]]


@NEEDS_CHROMIUM
def test_statistics_are_exact_far_from_zero(tab: Browser) -> None:
    """A channel whose mean is a thousand times its deviation, over many tiles."""
    rng = np.random.default_rng(1)
    values = (1000 + rng.normal(0, 1, (150, 130, 4))).astype(np.float32)
    script = f"""(() => {{
      const graphics = new Graphics(false);
      const result = graphics.texture(150, 130, 4);
      const bytes = Uint8Array.from(atob("{base64.b64encode(values.tobytes()).decode()}"), (c) => c.charCodeAt(0));
      const {{ gl }} = graphics;
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, 0, 130, 150, 1, gl.RGBA, gl.FLOAT, new Float32Array(bytes.buffer));
      const {{ means, variances }} = graphics.statistics(result);
      return [[...means], [...variances]];
    }})()"""
    means, variances = tab.run(script)
    assert means == pytest.approx(values.astype(np.float64).mean((0, 1)), rel=1e-6)
    assert variances == pytest.approx(values.astype(np.float64).var((0, 1)), rel=1e-4)


@NEEDS_CHROMIUM
def test_an_imitated_processor_is_left_to_plain_arrays(tab: Browser) -> None:
    assert tab.run("(() => { try { new Graphics(true); } catch (error) { return error.message; } })()") == (
        "no graphics processor"
    )
