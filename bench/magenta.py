"""Magenta's published networks that paint in any style, as modules of ours: teachers to learn from, and yardsticks.

The files lie in no package: `magenta_transformer_separable.json` and `.bin` are the weights of the separable network
for browsers in float32, and the two `.tflite` files the int8 pair for phones, which needs `pip install ai-edge-litert`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vggquant.models.arbitrary import Predictor, Transfer
from vggquant.networks.arbitrary import ArbitraryNetwork, steered_names

Module = TypeVar("Module", bound=torch.nn.Module)
Array = npt.NDArray[Any]
PREDICTOR, TRANSFER = "style_predict_quantized_256.tflite", "style_transfer_quantized_dynamic.tflite"
BROWSER = "magenta_transformer_separable.json"
NORMALISED = 1e-3  # what the contracting convolutions' normalisation added to variances


def browser_transfer(folder: Path) -> Transfer:
    """The separable transfer network for browsers, which has zeros beyond the borders."""
    manifest = json.loads((folder / BROWSER).read_text())
    stored = _stored(manifest, (folder / BROWSER).with_suffix(".bin").read_bytes())
    names = steered_names()
    found: dict[str, Array] = {}
    for number in (1, 2, 3):
        source, name = f"transformer/contract/conv{number}", f"down{number}.convolution"
        variance, mean = stored[f"{source}/BatchNorm/moving_variance"], stored[f"{source}/BatchNorm/moving_mean"]
        scale = stored[f"{source}/BatchNorm/Const"] / np.sqrt(variance + NORMALISED)
        found[f"{name}.weight"] = _outputs_first(stored[f"{source}/weights"] * scale)
        found[f"{name}.bias"] = stored[f"{source}/BatchNorm/beta"] - mean * scale
    for name in names:
        source = _source(name)
        convolution = source.replace("conv", "dilate_conv", 1) if "residual" in source else f"{source}/dilate_conv"
        steering = f"style_params/{source}" if "residual" in source else f"style_params/{source}/conv"
        found[f"{name}.depthwise.weight"] = stored[f"{convolution}/depthwise_weights"].transpose(2, 3, 0, 1)
        found[f"{name}.pointwise.weight"] = _outputs_first(stored[f"{convolution}/pointwise_weights"])
        for part, kind in (("gain", "Conv_1"), ("shift", "Conv")):
            found[f"{name}.{part}.weight"] = stored[f"{steering}/StyleNorm/{kind}/weights"][0, 0].T
            found[f"{name}.{part}.bias"] = stored[f"{steering}/StyleNorm/{kind}/biases"]
    return _filled(Transfer(ArbitraryNetwork(separable=names, border="zeros")), found)


def phone_transfer(folder: Path) -> Transfer:
    """The transfer network for phones, a quarter as wide and not separable, its weights as float32."""
    stored = _constants(folder / TRANSFER)
    found: dict[str, Array] = {}
    for number in (1, 2, 3):
        source, name = f"transformer/contract/conv{number}", f"down{number}.convolution"
        found[f"{name}.weight"] = stored[f"{source}/weights/read"].transpose(0, 3, 1, 2)
        found[f"{name}.bias"] = stored[f"{source}/Conv2D_bias"]
    for name in steered_names():
        source = _source(name) if "block" in name else f"{_source(name)}/conv"
        found[f"{name}.convolution.weight"] = stored[f"{source}/weights/read"].transpose(0, 3, 1, 2)
        for part, kind in (("gain", "Conv_1"), ("shift", "Conv")):
            steering = f"style_params/{source}/StyleNorm/{kind}"
            found[f"{name}.{part}.weight"] = stored[f"{steering}/weights/read"][:, 0, 0]
            found[f"{name}.{part}.bias"] = stored[f"{steering}/Conv2D_bias"]
    first, second, third = (len(found[f"down{number}.convolution.bias"]) for number in (1, 2, 3))
    return _filled(Transfer(ArbitraryNetwork((first, second, third))), found)


def phone_predictor(folder: Path) -> Predictor:
    """The predictor for phones, a whole MobileNetV2, its weights as float32 and its activations not rounded."""
    stored = _constants(folder / PREDICTOR)
    network = ArbitraryNetwork()
    sources = {"first": "Conv", "last": "Conv_1"}
    found: dict[str, Array] = {}
    for layer in network.predictor_layers:
        if layer.name == "code":
            source = "mobilenet_conv/Conv"
        elif layer.name in sources:
            source = f"MobilenetV2/{sources[layer.name]}"
        else:
            unit, part = layer.name.split(".")
            number = int(unit.removeprefix("unit")) - 1
            source = f"MobilenetV2/expanded_conv{f'_{number}' if number else ''}/{part}"
        kind = "depthwise_" if layer.depthwise else ""
        order = (3, 0, 1, 2) if layer.depthwise else (0, 3, 1, 2)
        found[f"{layer.name}.weight"] = stored[f"{source}/{kind}weights"].transpose(order)
        found[f"{layer.name}.bias"] = stored[f"{source}/{kind or 'Conv2D_'}bias"]
    return _filled(TensorFlowPredictor(network), found)


class TensorFlowPredictor(Predictor):
    """A predictor with borders as TensorFlow has them: with a stride of 2, the extra row and column are the last."""

    def _layer(self, name: str, x: Tensor) -> Tensor:
        module: Any = self.get_submodule(name)
        if module.stride != (2, 2):
            return super()._layer(name, x)
        x = torch.nn.functional.pad(x, [side for size in reversed(x.shape[2:]) for side in _same(size)])
        return torch.nn.functional.conv2d(x, module.weight, module.bias, 2, groups=module.groups)


def interpreters(
    folder: Path, threads: int = 2
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """The int8 pair itself: from a style (1, 3, 256, 256) to (1, 100), and from a content and that to a painting."""
    from ai_edge_litert.interpreter import Interpreter

    predictor, transfer = (
        Interpreter(model_path=str(folder / name), num_threads=threads) for name in (PREDICTOR, TRANSFER)
    )
    predictor.allocate_tensors()

    def predict(style: Tensor) -> Tensor:
        predictor.set_tensor(predictor.get_input_details()[0]["index"], style.permute(0, 2, 3, 1).numpy())
        predictor.invoke()
        return torch.from_numpy(predictor.get_tensor(predictor.get_output_details()[0]["index"]).reshape(1, -1))

    def paint(content: Tensor, code: Tensor) -> Tensor:
        inputs = {details["name"]: details["index"] for details in transfer.get_input_details()}
        pixels = np.ascontiguousarray(content.permute(0, 2, 3, 1).numpy())
        transfer.resize_tensor_input(inputs["content_image"], pixels.shape)
        transfer.allocate_tensors()
        transfer.set_tensor(inputs["content_image"], pixels)
        transfer.set_tensor(inputs["mobilenet_conv/Conv/BiasAdd"], code.numpy().reshape(1, 1, 1, -1))
        transfer.invoke()
        found = transfer.get_tensor(transfer.get_output_details()[0]["index"])
        return torch.from_numpy(found).permute(0, 3, 1, 2)

    return predict, paint


def _stored(manifest: Any, data: bytes) -> dict[str, Array]:
    """The tensors of a TensorFlow.js manifest, which lie in `data` in its order."""
    found: dict[str, Array] = {}
    groups = manifest["weightsManifest"] if isinstance(manifest, dict) else manifest
    offset = 0
    for entry in (entry for group in groups for entry in group["weights"]):
        kind = np.dtype("<i4" if entry["dtype"] == "int32" else "<f4")
        count = int(np.prod(entry["shape"], dtype=int))
        found[entry["name"]] = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
        offset += count * kind.itemsize
    assert offset == len(data), f"{offset} bytes are named, {len(data)} are there"
    return found


def _constants(path: Path) -> dict[str, Array]:
    """The constant tensors of a .tflite file by name, quantized ones restored to float32."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    found: dict[str, Array] = {}
    for details in interpreter.get_tensor_details():
        quantized = details["quantization_parameters"]
        try:
            values = interpreter.get_tensor(details["index"])
        except ValueError:  # no constant
            continue
        if len(quantized["scales"]):
            shape = [1] * values.ndim
            if len(quantized["scales"]) > 1:
                shape[quantized["quantized_dimension"]] = -1
            centered = values.astype(np.float32) - quantized["zero_points"].reshape(shape)
            values = (centered * quantized["scales"].reshape(shape)).astype(np.float32)
        found[details["name"]] = values
    return found


def _source(name: str) -> str:
    """What TensorFlow's graph calls a convolution."""
    if name.startswith("block"):
        block, half = name.removeprefix("block").split("_")
        return f"transformer/residual/residual{block}/conv{half}"
    return f"transformer/expand/conv{('up1', 'up2', 'out').index(name) + 1}"


def _outputs_first(array: Array) -> Array:
    """A kernel of TensorFlow's, (H, W, I, O), as (O, I, H, W)."""
    kernel: Array = array.transpose(3, 2, 0, 1)
    return kernel


def _same(size: int) -> tuple[int, int]:
    """Before and behind, for a kernel of 3 with a stride of 2."""
    return ((size % 2), 1)


def _filled(module: Module, arrays: Mapping[str, Array]) -> Module:
    """A module with these tensors, for use only."""
    module.load_state_dict({name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items()})
    return module.eval().requires_grad_(False)
