"""The reader in JavaScript beside the package's own: golden files, the shipped networks, and files with any damage."""

from __future__ import annotations

import base64
import json
import random
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.conftest import GOLDEN
from tests.files.test_version2 import FOLDER, SHARED, WRONG, bytes_of, put, with_blob
from tests.mutants import SEEDS_BY_VERSION, raw_mutant, resealed_mutant
from tests.page.javascript import NEEDS_NODE, TOY, run_node
from tests.sealing import reseal, unseal
from tests.toy import toy_family, toy_weights
from vggquant.codec.bitstream import EncodedCodes, decode_codes, encode_codes
from vggquant.codec.huffman import nest
from vggquant.codec.joining import join
from vggquant.codec.palette import PalettizedTensor
from vggquant.errors import ContainerError, NetworkError, VggQuantError
from vggquant.files.container import check_codes, from_bytes
from vggquant.files.sources import ONE_STYLE, embedded_path
from vggquant.networks.arbitrary import ArbitraryNetwork, steered_names
from vggquant.networks.families import network_from_record

pytestmark = NEEDS_NODE

SCRIPTS = ("codes.js", "json.js", "reader.js", "networks.js", "arbitrary.js")
JUDGE = """
function judge(data) {
  try {
    const { tensors, attribution } = readNetwork(Uint8Array.from(Buffer.from(data, "base64")));
    const sums = [...tensors].map(([name, values]) => [name, checksum(new Uint8Array(values.buffer, values.byteOffset,
      values.byteLength))]);
    return { sums: Object.fromEntries(sums), attribution };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { refused: error.message };
  }
}
"""
DECODE = """function judge([stream, count, entry]) {
  try {
    return [...decodeCodes(Uint8Array.from(Buffer.from(stream, "base64")), count, entry)];
  } catch (error) { return error instanceof Refused ? null : String(error.stack); }
}"""
MUTANTS = 3000


def read_by_script(files: list[bytes]) -> list[Any]:
    return run_node(SCRIPTS, TOY + JUDGE, [base64.b64encode(data).decode() for data in files])


def read_by_package(data: bytes) -> dict[str, str] | None:
    """CRC-32 of each tensor, or nothing if the file is refused."""
    try:
        with toy_family():
            weights = from_bytes(np.frombuffer(data, np.uint8))
            check_codes(weights)
    except VggQuantError:
        return None
    found = {spec.name: weights.array(spec.name) for spec in weights.network.tensors}
    return {name: f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}" for name, array in found.items()}


def test_golden_and_shipped_files_are_read_alike() -> None:
    paths = [*sorted((GOLDEN / "version2").glob("*.safetensors")), *map(embedded_path, (*ONE_STYLE, "arbitrary"))]
    files = [path.read_bytes() for path in paths]
    for path, data, found in zip(paths, files, read_by_script(files), strict=True):
        assert found["sums"] == read_by_package(data), path
    assert len(paths) == 9


def test_files_with_any_damage_are_refused_or_read_alike() -> None:
    rng = random.Random(21)
    seeds = [*SEEDS_BY_VERSION[1], embedded_path("wave").read_bytes()]
    files = [(resealed_mutant if i % 2 else raw_mutant)(rng, rng.choice(seeds)) for i in range(MUTANTS)]
    accepted = 0
    for data, found in zip(files, read_by_script(files), strict=True):
        expected = read_by_package(data)
        assert (None if "refused" in found else found["sums"]) == expected, found
        accepted += expected is not None
    assert accepted > MUTANTS // 40  # or the half with right checksums would prove nothing


def test_each_wrong_field_and_number_is_refused() -> None:
    files = []
    for data, change, _ in WRONG.values():
        header, metadata, body = unseal(data)
        change(header, metadata)
        files.append(reseal(header, metadata, body))
    header, metadata, body = unseal(SHARED)
    header["scales"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}  # which nothing needs
    files.append(reseal(header, metadata, body))
    mixed = (FOLDER / "mixed.safetensors").read_bytes()
    header, metadata, body = unseal(mixed)
    metadata["weights"]["depthwise.weight"]["scaled"] = 1
    files.append(reseal(header, metadata, body))
    files += [
        with_blob("codebooks", put(0, np.nan)),
        with_blob("codebooks", lambda found: found.__setitem__(1, found[0])),
        with_blob("codes", lambda found: found.fill(0)),
        with_blob("plain", put(-1, -np.inf)),
        with_blob("scales", put(0, np.nan), mixed),
        with_blob("scales", put(0, 3e38), with_blob("codebooks", put(-1, 3e38), mixed)),
    ]
    for data, found in zip(files, read_by_script(files), strict=True):
        assert "refused" in found, unseal(data)[1]
        assert read_by_package(data) is None


def test_codebooks_that_would_do_but_for_a_rule_are_refused() -> None:
    header, metadata, body = unseal(SHARED)
    metadata["weights"]["depthwise.weight"]["codebook"] = 1  # of 32 centroids, of which 3 bits reach 8
    files = [reseal(header, metadata, body)]
    header, metadata, body = unseal(SHARED)
    metadata["codebooks"].reverse()  # in another order than that of their use
    for entry in metadata["weights"].values():
        entry["codebook"] = 1 - entry["codebook"]
    files.append(reseal(header, metadata, body[32:160] + body[:32] + body[160:]))
    sayings = ["depthwise.weight: expected a codebook", "expected codebooks in the order of their use"]
    for data, found, saying in zip(files, read_by_script(files), sayings, strict=True):
        assert saying in found["refused"]
        assert read_by_package(data) is None


def with_codes(codes: EncodedCodes) -> bytes:
    """A toy network's file, of which the first weight has these 216 codes and one centroid."""
    weights = toy_weights(channels=8)
    arrays = {name: array for name, array in weights.plain.items() if name != "conv.weight"}
    tensor = PalettizedTensor(codes, np.array([0.5], np.float32), (8, 3, 3, 3))
    return bytes_of(replace(weights, palettized={"conv.weight": tensor}, plain=arrays))


def test_a_stream_that_expands_too_much_is_refused() -> None:
    """Codes of one kind, which deflate makes smaller than a Huffman code could."""
    files = []
    for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
        stream = np.frombuffer(packer.compress(bytes(216)) + packer.flush(), np.uint8)
        files.append(with_codes(EncodedCodes(stream, 216, 8, "huffman", 1)))
    usual, small = read_by_script(files)
    assert usual["sums"] == read_by_package(files[0])
    assert "conv.weight: expected the length of a stream" in small["refused"]
    assert read_by_package(files[1]) is None


def test_a_centre_that_no_code_can_be_is_refused() -> None:
    codes = np.zeros(216, np.uint8)
    files = [
        with_codes(EncodedCodes(nest(codes, (1,), centre), 216, 7, "huffman", (1,), centre)) for centre in (127, 255)
    ]
    usual, beyond = read_by_script(files)
    assert usual["sums"] == read_by_package(files[0])
    assert "conv.weight: expected a centre below 128" in beyond["refused"]
    assert read_by_package(files[1]) is None


EDITS: dict[str, tuple[bytes, bytes]] = {
    "a name twice": (b'"dtype"', b'"dtype":"U8","dtype"'),
    "an object twice": (b'{"__metadata__"', b'{"__metadata__":{},"__metadata__"'),
    "half a character": (b"Drawn", b"\\\\ud800"),
    "more behind": (b"]}}", b"]}} 0"),
    "an ending": (b"]}}", b"]}},"),
    "a NUL": (b"Drawn", b"\\\\u0000"),
    "other bytes": (b"Drawn", b"\xff"),
    "a fraction": (b'"shape":[40]', b'"shape":[40.0]'),
    "an exponent": (b'"shape":[40]', b'"shape":[4e1]'),
    "a zero before": (b'"shape":[40]', b'"shape":[040]'),
    "true": (b'"shape":[40]', b'"shape":[true]'),
    "deep": (b'"shape":[40]', b'"shape":' + b"[" * 9000 + b"]" * 9000),
}


def _replaced(old: bytes, new: bytes, text: bytes) -> bytes:
    return text.replace(old, new, 1)


def test_each_wrong_form_of_a_header_is_refused() -> None:
    header, metadata, body = unseal(SHARED)
    files = []
    for old, new in EDITS.values():
        data = reseal(*unseal(SHARED), partial(_replaced, old, new))
        assert data != reseal(header, metadata, body)
        files.append(data)
    for name, data, found in zip(EDITS, files, read_by_script(files), strict=True):
        assert "refused" in found, name
        assert read_by_package(data) is None, name


def test_data_in_any_order_and_place_are_read() -> None:
    header, metadata, body = unseal(SHARED)
    parts = {name: body[slice(*header[name]["data_offsets"])] for name in ("codes", "plain", "codebooks")}
    moved = b""
    for name, part in parts.items():
        header[name]["data_offsets"] = [len(moved), len(moved) + len(part)]
        moved += part
    assert len(parts["codes"]) % 4  # so that what follows is not aligned
    again, before = read_by_script([reseal(header, metadata, moved), SHARED])
    assert again == before


def test_no_bit_is_unguarded() -> None:
    data = bytearray((GOLDEN / "version2" / "shared.safetensors").read_bytes())
    files = []
    for place in range(len(data)):
        data[place] ^= 1 << place % 8
        files.append(bytes(data))
        data[place] ^= 1 << place % 8
    assert all("refused" in found for found in read_by_script(files))


@pytest.mark.parametrize("name", ["planes-1", "huffman-4", "nested"])
def test_a_vgg_is_refused(name: str) -> None:
    (found,) = read_by_script([(GOLDEN / f"{name}.safetensors").read_bytes()])
    assert found == {"refused": "expected format version 2, got 1, which holds a VGG"}


NUMBERS = [0.1, 1e-4, 9.99e-5, 1e-7, 123456789012345.6, 1e15, 1e16, 1.5e22, 5e-324, -0.0, 40.0, 1e300, -12.25]


def test_numbers_have_the_form_that_the_package_gives_them() -> None:
    files = []
    for number in NUMBERS:
        header, metadata, body = unseal((GOLDEN / "version2" / "shared.safetensors").read_bytes())
        metadata["weights"]["conv.weight"]["sqnr_db"] = number
        files.append(reseal(header, metadata, body))
    assert all("sums" in found for found in read_by_script(files))


def test_texts_have_the_form_that_the_package_gives_them() -> None:
    texts = ["é\U0001f3a8", 'a "quoted" \\ text', "\t\n\r\b\f\x01\x7f", "</script>", "", None]
    files = []
    for text in texts:
        header, metadata, body = unseal((GOLDEN / "version2" / "shared.safetensors").read_bytes())
        metadata["attribution"] = text
        files.append(reseal(header, metadata, body))
    assert [found["attribution"] for found in read_by_script(files)] == texts


def test_streams_of_every_form_of_deflate_are_inflated() -> None:
    judge = """function judge([stream, size]) {
      const bytes = Uint8Array.from(Buffer.from(stream, "base64"));
      try {
        const { data, end } = inflate(bytes, 1, size);
        return [Buffer.from(data).toString("base64"), end];
      } catch (error) { return error instanceof Refused ? null : String(error.stack); }
    }"""
    rng = np.random.default_rng(3)
    few = bytes(rng.integers(0, 3, 9_000).astype(np.uint8))
    cases: list[tuple[str, int]] = []
    expected: list[list[object] | None] = []
    for text in (bytes(70_000), b"", b"x", rng.bytes(70_000), few, b"ab" * 999):
        for level, strategy in ((0, 0), (1, 0), (9, 0), (9, zlib.Z_HUFFMAN_ONLY), (9, zlib.Z_FIXED), (9, zlib.Z_RLE)):
            packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
            stream = packer.compress(text) + packer.flush()
            encoded = base64.b64encode(b"\0" + stream + b"behind").decode()
            cases += [(encoded, len(text) + more) for more in (0, 1, -1)]
            expected += [[base64.b64encode(text).decode(), 1 + len(stream)], None, None]
    kept = [i for i, (_, size) in enumerate(cases) if size >= 0]
    found = run_node(SCRIPTS, judge, [cases[i] for i in kept])
    assert found == [expected[i] for i in kept]


@pytest.mark.parametrize(
    "configuration",
    [
        {"blocks": 0, "filters": [1, 1, 1]},
        {"blocks": 32, "filters": [1, 2, 3]},
        {"blocks": 33, "filters": [1, 2, 3]},
        {"blocks": 1, "filters": [1, 2, 1025]},
        {"blocks": 1, "filters": [0, 2, 3]},
        {"blocks": 1, "filters": [1, 2]},
        {"blocks": 1.5, "filters": [1, 2, 3]},
        {"blocks": True, "filters": [1, 2, 3]},
        {"blocks": 32, "filters": [1024, 1024, 1024]},
        {"blocks": 1, "filters": [1, 2, 3], "more": 1},
        {},
        [],
    ],
)
def test_the_networks_of_johnson_are_those_that_the_package_knows(configuration: object) -> None:
    check_alike("johnson", configuration)


ARBITRARY = ArbitraryNetwork().configuration


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"border": "zeros", "separable": list(steered_names())},
        {"filters": [1, 2, 1024], "predictor": [1, 2, 3, 4, 5, 6, 7, 8, 2048], "separable": ["block2_1", "up1"]},
        {"border": "zero"},
        {"border": ["reflect"]},
        {"filters": [1, 2, 1025]},
        {"filters": [1, 2]},
        {"predictor": [1, 2, 3, 4, 5, 6, 7, 8, 0]},
        {"predictor": [1, 2, 3, 4, 5, 6, 7, 2049, 8]},
        {"predictor": [1, 2, 3, 4, 5, 6, 7, 8]},
        {"predictor": 9},
        {"separable": ["up1", "block2_1"]},
        {"separable": ["up1", "up1"]},
        {"separable": ["down1"]},
        {"separable": "up1"},
        {"separable": ""},
        {"separable": None},
        {"separable": {}},
        {"more": 1},
    ],
)
def test_the_networks_of_any_style_are_those_that_the_package_knows(change: dict[str, object]) -> None:
    check_alike("arbitrary", ARBITRARY | change)


def check_alike(family: str, configuration: object) -> None:
    """The tensors of a network, or that there is none."""
    try:
        network = network_from_record({"family": family, "configuration": configuration})
        expected = [[spec.name, list(spec.shape), spec.kind == "weight"] for spec in network.tensors]
    except NetworkError:
        expected = []
    judge = """function judge(text) {
      try {
        const { tensors } = networkOf(parseJson(text));
        return tensors.map(({ name, shape, weight }) => [name, shape, weight === true]);
      } catch (error) { return error instanceof Refused ? [] : String(error.stack); }
    }"""
    record = json.dumps({"family": family, "configuration": configuration})
    assert run_node(SCRIPTS, judge, [record]) == [expected]


def damaged(rng: random.Random, stream: bytes) -> bytes:
    """A stream with a bit or two flipped, cut, longer, or as it was."""
    found = bytearray(stream)
    for _ in range(rng.choice((0, 1, 1, 2))):
        found[rng.choice((-1, 0, 1, rng.randrange(len(found)))) % len(found)] ^= 1 << rng.randrange(8)
    return bytes(found[: len(found) - rng.choice((0, 0, 0, 0, 1))] + rng.choice((b"", b"", b"", b"", b"\0")))


def coded(rng: random.Random) -> EncodedCodes:
    """A few codes in any of the forms that they can have."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    bits, count = rng.randrange(1, 9), rng.randrange(1, 90)
    codes = np.minimum(numbers.geometric(rng.choice((0.9, 0.5, 0.05)), count) - 1, (1 << bits) - 1).astype(np.uint8)
    form = rng.randrange(4)
    if form < 2:
        return encode_codes(codes, bits)
    centre = rng.randrange(1 << bits)
    levels = tuple(rng.choice((1, 2, 4, 8)) for _ in range(rng.randrange(1, 4)))
    m: int | tuple[int, ...] = levels
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, rng.choice((0, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED)))
    if form == 2:
        m = rng.choice([each for each in (1, 2, 4, 8) if each * bits <= 8])
        data = packer.compress(join(codes, bits, m).tobytes()) + packer.flush()
    else:
        data = nest(codes, levels, centre).tobytes()
    stream = np.frombuffer(data, np.uint8)
    return EncodedCodes(stream, count, bits, "huffman", m, centre if form == 3 else None)


def test_streams_with_any_damage_are_refused_or_decoded_alike() -> None:
    rng = random.Random(7)
    cases: list[tuple[str, int, dict[str, Any]]] = []
    expected: list[list[int] | None] = []
    while len(cases) < 12_000:
        codes = coded(rng)
        stream = damaged(rng, codes.stream.tobytes())
        if codes.coding == "planes" and len(stream) != codes.stream.size:
            continue  # which the reader finds by its length
        entry = {"bits": codes.bits, "sharing": codes.codes_per_byte, "centre": codes.centre}
        given = {name: value for name, value in entry.items() if value is not None}
        cases.append((base64.b64encode(stream).decode(), codes.count, given))
        try:
            expected.append(decode_codes(replace(codes, stream=np.frombuffer(stream, np.uint8))).tolist())
        except ContainerError:
            expected.append(None)
    for case, found, right in zip(cases, run_node(SCRIPTS, DECODE, cases), expected, strict=True):
        assert found == right, case
    assert 3_000 < expected.count(None) < 9_000


def test_no_rank_is_above_255() -> None:
    def deflated(byte: int) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(bytes([byte])) + packer.flush()

    cases = []
    for rest in (0, 1):
        stream = base64.b64encode(deflated(255) + deflated(rest)).decode()
        cases.append((stream, 1, {"bits": 8, "sharing": [1, 1], "centre": 0}))
    assert run_node(SCRIPTS, DECODE, cases) == [[128], None]
