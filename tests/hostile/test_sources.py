"""Other programs' weights, whatever their file: what is in them and what is missing, cases 53 to 78, 120 and 123."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.conftest import random_arrays, run
from tests.hostile.cases import UPTO, VGG11, Array, Cases, Prepared, packing, state
from tests.packed import joined, split
from vggquant.files.layouts import tensor_names, write_layout

CASES = Cases()


def poked(value: float) -> Callable[[Array], Array]:
    """What puts a value into the midst of an array."""

    def made(array: Array) -> Array:
        array = array.copy()
        array.flat[5] = value
        return array

    return made


WEIGHT = "features_0_weight"
CASES.source(53, "NaN", r"conv1_1|features\.0\.weight", **{WEIGHT: poked(np.nan)})
CASES.source(54, "infinity", r"conv1_1|features\.0\.weight", **{WEIGHT: poked(-np.inf)})
CASES.source(
    55,
    "minus zero and subnormals",
    None,
    **{WEIGHT: lambda a: np.where(np.arange(a.size).reshape(a.shape) % 2, -0.0, 1e-40).astype(np.float32)},
)
CASES.source(56, "empty", "shape", **{WEIGHT: np.zeros((0, 3, 3, 3), np.float32)})
CASES.source(57, "scalar", "shape", **{WEIGHT: np.array(3, np.float32)})
CASES.source(58, "constant layer", None, **{WEIGHT: lambda a: np.full_like(a, 0.25)})
CASES.source(59, "fewer values than 2^bits", None, **{WEIGHT: lambda a: np.sign(a)})
CASES.source(60, "float16", None, **{WEIGHT: lambda a: a.astype(np.float16)})
CASES.source(60, "float64", None, **{WEIGHT: lambda a: a.astype(np.float64)})
CASES.source(60, "float64 beyond float32", "float32|finite", **{WEIGHT: lambda a: a.astype(np.float64) * 1e300})
CASES.source(61, "integers", "int|float", **{WEIGHT: lambda a: a.astype(np.int32)})
CASES.source(61, "bool", "bool|float|BOOL", **{WEIGHT: lambda a: a > 0})
CASES.source(66, "missing layer", r"features\.3", features_3_weight=None)
CASES.source(68, "HWIO for OIHW", "OIHW", **{WEIGHT: lambda a: np.ascontiguousarray(a.transpose(2, 3, 1, 0))})


@CASES.case(67)
def an_extra_layer_ignored(folder: Path) -> Prepared:
    safetensors.numpy.save_file({**state(), "extra.weight": np.zeros(3, np.float32)}, folder / "x.safetensors")
    return packing(folder / "x.safetensors", "--ignore-extra"), None


@CASES.case(68)
def vgg11_given_as_13(folder: Path) -> Prepared:
    arrays = write_layout(random_arrays(VGG11), "torchvision", VGG11)
    safetensors.numpy.save_file(dict(arrays), folder / "x.safetensors")
    command = ("pack", folder / "x.safetensors", folder / "o", "--arch", "vgg13", "--preprocessing", "torch")
    return command, "features.2.weight: .* pass --arch"


@CASES.case(68)
def vgg11_bn_given_as_13(folder: Path) -> Prepared:
    plain = random_arrays(VGG11)
    arrays: dict[str, Array] = {}
    for name, (weight, bias) in tensor_names("torchvision", VGG11, batch_norm=True).items():
        arrays |= {weight: plain[f"{name}.weight"], bias: plain[f"{name}.bias"]}
        normalisation = f"features.{int(weight.split('.')[1]) + 1}"
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{normalisation}.{part}"] = np.ones_like(plain[f"{name}.bias"])
    safetensors.numpy.save_file(arrays, folder / "x.safetensors")
    command = ("pack", folder / "x.safetensors", folder / "o", "--preprocessing", "torch")
    assert run(*command, "--bits", "1").exit_code == 0
    (folder / "o").unlink()
    return (*command, "--arch", "vgg13"), r"features\.3\.weight: .* pass --arch"


@CASES.case(78)
def a_shard_index(folder: Path) -> Prepared:
    index = {"metadata": {}, "weight_map": {"features.0.weight": "../../etc/passwd"}}
    (folder / "x.safetensors.index.json").write_text(json.dumps(index))
    return packing(folder / "x.safetensors.index.json"), 'beginning b.{"metadata'


CASES.source(
    123,
    "weights at both ends of float32",
    None,
    **{WEIGHT: lambda a: np.where(np.arange(a.size).reshape(a.shape) % 2, -3e38, 3e38).astype(np.float32)},
)


@CASES.case(123)
def a_batch_normalisation_that_overflows(folder: Path) -> Prepared:
    arrays = write_layout(random_arrays(VGG11, upto=UPTO), "torchvision", VGG11)
    made: dict[str, Array] = {}
    for index, place in enumerate((0, 4)):
        names = [name for name in arrays if name.startswith(("features.0.", "features.3.")[index])]
        made |= {f"features.{place}.{name.rpartition('.')[2]}": arrays[name] for name in names}
        size = made[f"features.{place}.bias"].size
        for part, value in (("weight", 1e308), ("bias", 1.0), ("running_mean", -1e308), ("running_var", 0.0)):
            made[f"features.{place + 1}.{part}"] = np.full(size, value)
    safetensors.numpy.save_file(made, folder / "x.safetensors")
    return packing(folder / "x.safetensors"), "features.0.weight: expected values within float32, got up to inf"


def attributed(name: str, text: str) -> None:
    """A case of weights that name their authors in such a text."""

    def made(folder: Path) -> Prepared:
        written = safetensors.numpy.save(state(), {"attribution": "?"})
        header, body = split(written)
        (folder / "x.safetensors").write_bytes(joined(header.replace(b'"?"', json.dumps(text).encode()), body))
        return packing(folder / "x.safetensors"), "attribution: expected a text of 1 to 32768 characters|header"

    CASES.add(120, f"authors in {name}", made)


attributed("no UTF-8", "half a character: \ud800")
attributed("over 1 MiB", "x" * (2**20 + 1))
attributed("300,000 letters", "é" * 150_000)
attributed("40,000 letters", "é" * 40_000)


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
