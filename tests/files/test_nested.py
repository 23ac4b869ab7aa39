"""Nested huffman in files of either version: what their entries must say, and what of it is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.conftest import GOLDEN
from tests.packed import changed, parse, set_layer
from tests.sealing import reseal, unseal
from tests.toy import toy_family
from vggquant.errors import ContainerError

FIRST = (GOLDEN / "nested.safetensors").read_bytes()
SECOND = (GOLDEN / "version2" / "nested.safetensors").read_bytes()

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "a centre that no code is": ({"centre": 64}, "centre: expected an integer below"),
    "a centre that is no number": ({"centre": "3"}, "centre: expected an integer below"),
    "a centre true": ({"centre": True}, "centre: expected an integer below"),
    "no levels": ({"codes_per_byte": []}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
    "five levels": ({"codes_per_byte": [4, 4, 4, 4, 1]}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
    "three codes in a byte": ({"codes_per_byte": [4, 3]}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
    "levels in levels": ({"codes_per_byte": [[4], 1]}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
    "true codes in a byte": ({"codes_per_byte": [4, True]}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
    "one number with a centre": ({"codes_per_byte": 1}, r"codes_per_byte: expected 1 to 4 of \(1, 2, 4, 8\)"),
}


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with toy_family():
        yield


def second(change: Callable[[dict[str, Any]], object]) -> bytes:
    header, metadata, body = unseal(SECOND)
    change(metadata["weights"]["conv.weight"])
    return reseal(header, metadata, body)


@pytest.mark.parametrize("case", FIELDS)
def test_entries_that_cannot_be_are_refused(case: str) -> None:
    fields, match = FIELDS[case]
    for data in (changed(set_layer(**fields), FIRST), second(lambda entry: entry.update(fields))):
        with pytest.raises(ContainerError, match=match):
            parse(data)


def test_levels_without_a_centre_are_refused() -> None:
    without = (
        changed(lambda header, metadata: metadata["layers"]["conv1_1"].pop("centre"), FIRST),
        second(lambda entry: entry.pop("centre")),
    )
    for data in without:
        with pytest.raises(ContainerError, match=r"codes_per_byte: expected one of"):
            parse(data)


def test_planes_have_no_centre() -> None:
    planes = (GOLDEN / "planes-3.safetensors").read_bytes()
    with pytest.raises(ContainerError, match="expected the fields of version 1, got centre"):
        parse(changed(set_layer(centre=1), planes))


def test_other_levels_than_the_stream_has_are_refused() -> None:
    _, metadata, _ = unseal(FIRST)
    levels = metadata["layers"]["conv1_1"]["codes_per_byte"]
    for wrong in (levels[:-1], [*levels, 1][:4], levels[::-1]):
        if wrong == levels:
            continue
        weights = parse(changed(set_layer(codes_per_byte=wrong), FIRST))
        with pytest.raises(ContainerError, match=r"^expected .*; the file is damaged, get it again$"):
            weights.array("conv1_1.weight")


def test_a_short_stream_promises_little() -> None:
    """What a file of version 2 can expand to is bounded by its own size before anything is decoded."""

    def shorten(entry: dict[str, Any]) -> None:
        entry["bytes"] = 3

    with pytest.raises(ContainerError, match=r"conv\.weight\.bytes: expected an integer from"):
        parse(second(shorten))


@pytest.mark.parametrize("seed", range(40))
def test_damage_behind_the_checksums_is_refused_or_gives_codes_of_the_codebook(seed: int) -> None:
    rng = np.random.default_rng(seed)
    header, metadata, body = unseal(FIRST)
    begin, end = header["conv1_1.weight.codes"]["data_offsets"]
    data = bytearray(body)
    data[int(rng.integers(begin, end))] ^= 1 << int(rng.integers(8))
    weights = parse(reseal(header, metadata, bytes(data)))
    try:
        weight = weights.array("conv1_1.weight")
    except ContainerError:
        return
    assert np.isin(weight, weights.palettized["conv1_1.weight"].codebook).all()
