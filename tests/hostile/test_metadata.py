"""The metadata: what a packed file must say of itself, cases 24 to 35."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import safetensors.numpy

from tests.hostile.cases import Cases, Prepared, inner, state
from tests.packed import LAYER, SMALL, changed, set_field, set_layer
from tests.sealing import reseal, unseal

CASES = Cases()

CASES.packed(24, "key missing", changed(lambda h, m: h.update(__metadata__={"format": "pt"})), "vggquant pack")
CASES.packed(25, "bad JSON", inner('{\\"architecture', "{architecture"), "vggquant: expected JSON")
CASES.packed(
    25,
    "metadata that is no object",
    safetensors.numpy.save({}, {"vggquant": "[]"}),
    "vggquant: expected a JSON object, got list",
)
CASES.packed(
    26,
    "duplicate keys",
    inner('{\\"architecture', '{\\"coding\\":1,\\"coding\\":1,\\"architecture'),
    "a name given twice",
)
CASES.packed(27, "NaN", changed(set_layer(sqnr_db=float("nan"))), "got NaN, which JSON has not")
CASES.packed(27, "Infinity", changed(set_layer(sqnr_db=float("inf"))), "Infinity, which JSON has not")
CASES.packed(28, "an integer of 4,301 digits", inner('\\"bits\\":3', f'\\"bits\\":{"9" * 4301}'), "beyond 64 bits")
for no_integer in (True, 3.0, "3"):
    CASES.packed(29, f"bits {no_integer!r}", changed(set_layer(bits=no_integer)), "bits")
CASES.packed(30, "format version missing", changed(lambda h, m: m.pop("format_version")), "format_version")
CASES.packed(30, "format version newer", changed(set_field(format_version=3)), "upgrade vggquant")
CASES.packed(31, "unknown architecture", changed(set_field(architecture="vgg12")), "vgg11")
CASES.packed(
    32,
    "layers not the architecture's",
    changed(lambda h, m: m["layers"].update(conv9_9={})),
    "first layers of vgg11, got conv1_1, conv9_9",
)
CASES.packed(
    33,
    "entry without tensor",
    changed(lambda h, m: m["layers"].update(conv2_1={**m["layers"][LAYER], "shape": [128, 64, 3, 3]})),
    "conv2_1.weight.codes: expected a tensor of that name, got none",
)
CASES.packed(34, "no entry at all", changed(set_field(layers={})), "first layers of vgg11, got none")
CASES.packed(
    34,
    "tensor without entry",
    changed(lambda h, m: h.update({"conv2_1.bias": {"dtype": "F32", "shape": [0], "data_offsets": [936, 936]}})),
    "conv2_1.bias: expected only tensors of its layers",
)
CASES.packed(35, "checksum missing", changed(lambda h, m: m["layers"][LAYER].pop("crc32")), "crc32")
CASES.packed(35, "checksum wrong", SMALL[:-1] + bytes([SMALL[-1] ^ 1]), "checksum")


def upper_case() -> bytes:
    """The small file with a checksum in upper case, and a seal that is right."""
    found = re.search(rb'(?<=\\"crc32\\":\\")[0-9a-f]{8}', SMALL)
    assert found
    assert found[0] != found[0].upper()
    header, metadata, body = unseal(SMALL)
    crc = metadata["layers"][LAYER]["crc32"]
    return reseal(header, metadata, body, lambda t: t.replace(crc.encode(), crc.upper().encode(), 1))


CASES.packed(35, "checksum in another letter case", upper_case(), "lower-case")
CASES.packed(35, "a flipped bit of the header", SMALL.replace(b'layout\\":\\"v', b'layout\\":\\"w'), "header checksum")


@CASES.case(31)
def a_source_of_an_unknown_architecture(folder: Path) -> Prepared:
    safetensors.numpy.save_file(state(), folder / "x.safetensors", {"architecture": "vgg99"})
    command = ("pack", folder / "x.safetensors", folder / "o", "--preprocessing", "torch")
    return command, "architecture vgg11, vgg13, vgg16, vgg19, got vgg99"


@pytest.mark.parametrize("name", CASES.names)
def test_case(name: str, tmp_path: Path) -> None:
    CASES.check(name, tmp_path)
