from __future__ import annotations

import itertools
import math
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from vggquant.codec.bitstream import Coding, EncodedCodes, decode_codes, encode_codes, planes_size, require_bits
from vggquant.codec.huffman import nest
from vggquant.errors import ContainerError, OptionError

WIDTHS = st.integers(1, 8)


def deflated(data: bytes) -> npt.NDArray[np.uint8]:
    """A raw deflate stream."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    return np.frombuffer(compressor.compress(data) + compressor.flush(), np.uint8)


@st.composite
def coded(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(WIDTHS)
    return draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=120)), bits


@given(coded(), st.sampled_from(("planes", "huffman")))
@settings(max_examples=400, deadline=None)
def test_codes_come_back_and_equal_the_slow_decoder(case: tuple[list[int], int], coding: Coding) -> None:
    codes, bits = case
    encoded = encode_codes(np.array(codes, np.uint8), bits, coding)
    assert decode_codes(encoded).tolist() == codes
    assert reference.decode(encoded.stream.tobytes(), len(codes), bits, encoded.codes_per_byte, encoded.centre) == codes


@given(WIDTHS, st.data())
@settings(max_examples=200, deadline=None)
def test_huffman_makes_skewed_codes_smaller_and_gives_them_back(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(300, 600))
    codes = np.zeros(count, np.uint8)
    codes[:: data.draw(st.integers(17, 60))] = data.draw(st.integers(0, 2**bits - 1))
    encoded = encode_codes(codes, bits, "huffman")
    assert encoded.coding == "huffman"
    assert encoded.stream.size < encode_codes(codes, bits, "planes").stream.size
    assert np.array_equal(decode_codes(encoded), codes)
    assert (
        reference.decode(encoded.stream.tobytes(), count, bits, encoded.codes_per_byte, encoded.centre)
        == codes.tolist()
    )


GROUPINGS = [(bits, together) for bits in range(1, 9) for together in (1, 2, 4, 8) if together * bits <= 8]


@pytest.mark.parametrize(("bits", "together"), GROUPINGS)
def test_every_grouping_of_huffman_is_read(bits: int, together: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, 37).tolist()
    size = math.ceil(len(codes) / together)
    data = bytearray(size)
    for index, code in enumerate(codes):
        data[index % size] |= code << (index // size * bits)
    encoded = EncodedCodes(deflated(bytes(data)), len(codes), bits, "huffman", together)
    assert decode_codes(encoded).tolist() == codes


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_rare_codes_let_the_common_ones_share_bytes(bits: int) -> None:
    codes = (np.random.default_rng(0).random(100_000) < 0.02).astype(np.uint8)
    codes[::10_000] = (1 << bits) - 1
    assert encode_codes(codes, bits, "huffman").stream.size < 100_000 / 8 * 0.21  # the entropy is 0.14 bits


@pytest.mark.parametrize("scale", [0.2, 0.5, 1, 2, 4, 10])
def test_huffman_is_near_to_the_entropy_though_a_few_codes_are_far_away(scale: float) -> None:
    rng = np.random.default_rng(0)
    codes = np.clip(np.rint(rng.laplace(128, scale, 200_003)), 0, 255).astype(np.uint8)
    codes[:4] = (0, 1, 254, 255)
    shares = np.bincount(codes)[np.bincount(codes) > 0] / codes.size
    encoded = encode_codes(codes, 8, "huffman")
    assert np.array_equal(decode_codes(encoded), codes)
    assert encoded.stream.size * 8 < (1.02 if scale > 0.2 else 1.06) * codes.size * -(shares * np.log2(shares)).sum()
    if scale < 4:
        assert isinstance(encoded.codes_per_byte, tuple)
        assert encoded.centre == 128


def nested(
    levels: list[list[int]], sharings: tuple[int, ...], count: int, centre: int = 0, bits: int = 8
) -> EncodedCodes:
    """Ranks as a file might hold them, sound or not."""
    streams = []
    for fields, m in zip(levels, sharings, strict=True):
        size = math.ceil(len(fields) / m)
        data = bytearray(size)
        for index, value in enumerate(fields):
            data[index % size] |= value << (index // size * 8 // m)
        streams.append(deflated(bytes(data)))
    return EncodedCodes(np.concatenate(streams), count, bits, "huffman", sharings, centre)


LEVELS = [(*levels, 1) for depth in range(4) for levels in itertools.product((2, 4, 8), repeat=depth)]


@pytest.mark.parametrize("levels", LEVELS)
def test_all_levels_are_read(levels: tuple[int, ...]) -> None:
    codes = np.random.default_rng(0).integers(0, 256, 1_003).astype(np.uint8)
    encoded = EncodedCodes(nest(codes, levels, 77), codes.size, 8, "huffman", levels, 77)
    assert np.array_equal(decode_codes(encoded), codes)
    assert reference.decode(encoded.stream.tobytes(), codes.size, 8, levels, 77) == codes.tolist()


def test_ranks_lie_around_the_centre() -> None:
    encoded = nested([[0, 1, 2, 3, 3, 3], [0, 1, 15], [240]], (4, 2, 1), 6, 5)
    with pytest.raises(ContainerError, match="ranks of at most 255, got 258"):
        decode_codes(encoded)
    encoded = nested([[0, 1, 2, 3, 3, 3], [0, 1, 15], [2]], (4, 2, 1), 6, 100)
    assert decode_codes(encoded).tolist() == [100, 99, 101, 98, 102, 110]
    assert reference.decode(encoded.stream.tobytes(), 6, 8, (4, 2, 1), 100) == [100, 99, 101, 98, 102, 110]


def test_damaged_nested_streams_are_refused() -> None:
    def refuse(encoded: EncodedCodes, match: str) -> None:
        with pytest.raises(ContainerError, match=match):
            decode_codes(encoded)

    refuse(nested([[0, 1, 2], [0]], (4, 1), 3), "no level without codes, got none on level 2 of 2")
    refuse(nested([[0, 3, 3], [0]], (4, 1), 3), "ends early")
    refuse(nested([[0, 3, 3], [0, 1, 2]], (4, 1), 3), "runs on")
    refuse(nested([[0, 3, 3]], (4,), 2), "padding")
    refuse(nested([[0, 3, 3], [0, 9]], (4, 1), 3, bits=2), "codes below 4, got")
    sound = nested([[0, 3, 3], [0, 1]], (4, 1), 3)
    refuse(
        replace(sound, stream=np.append(sound.stream, np.uint8(0))),
        "as many deflate streams as levels, got 1 bytes behind",
    )
    refuse(replace(sound, stream=sound.stream[:-1]), "ends early|deflate stream")
    refuse(replace(sound, codes_per_byte=(4,)), "as many deflate streams as levels, got")


@pytest.mark.parametrize(
    ("bits", "codes", "stream"),
    [
        (1, [1, 0, 1, 1, 0, 1, 0, 0, 1, 1], "13 16"),
        (2, [1, 0, 3, 2, 0, 1, 2, 3, 1, 3], "e9 30 17"),
        (3, [5, 0, 7, 2, 1, 6, 3, 4, 5, 1], "16 20 2f 1f 10"),
    ],
)
def test_golden_bytes_worked_out_by_hand(bits: int, codes: list[int], stream: str) -> None:
    """Ten codes, so that no plane fills its last bytes."""
    assert encode_codes(np.array(codes, np.uint8), bits).stream.tobytes().hex(" ") == stream


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_stream_of_another_length_is_refused(bits: int) -> None:
    encoded = encode_codes(np.zeros(37, np.uint8), bits)
    for stream in (encoded.stream[:-1], np.append(encoded.stream, np.uint8(0))):
        with pytest.raises(ContainerError, match="bytes for 37 codes"):
            decode_codes(EncodedCodes(stream, 37, bits, "planes"))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
def test_padding_that_is_not_zero_is_refused(bits: int) -> None:
    encoded = encode_codes(np.zeros(9, np.uint8), bits)
    stream = encoded.stream.copy()
    stream[-1] |= 0x80
    with pytest.raises(ContainerError, match="padding"):
        decode_codes(EncodedCodes(stream, 9, bits, "planes"))


def test_damaged_deflate_is_refused() -> None:
    codes = np.zeros(1000, np.uint8)
    codes[::50] = 3
    encoded = encode_codes(codes, 3, "huffman")

    def refuse(stream: npt.NDArray[np.uint8], count: int, match: str) -> None:
        with pytest.raises(ContainerError, match=match):
            decode_codes(EncodedCodes(stream, count, 3, "huffman", encoded.codes_per_byte))

    refuse(encoded.stream[:-1], 1000, "ends early")
    refuse(np.append(encoded.stream, np.uint8(0)), 1000, "runs on")
    refuse(encoded.stream, 900, "runs on")
    refuse(encoded.stream, 1100, "ends early")
    refuse(np.full(50, 0xFF, np.uint8), 1000, "deflate stream")


def test_unused_bits_of_a_deflated_byte_must_be_zero() -> None:
    with pytest.raises(ContainerError, match="unused bits"):
        decode_codes(EncodedCodes(deflated(b"\x80" * 40), 80, 3, "huffman", 2))


def test_levels_that_all_ranks_go_through_take_a_few_bytes_for_each() -> None:
    count, levels = 1 << 21, (8, 8, 8, 1)
    codes = np.full(count, 200, np.uint8)  # rank 111, around 0
    encoded = EncodedCodes(nest(codes, levels, 0), count, 8, "huffman", levels, 0)
    assert encoded.stream.size < count / 4
    tracemalloc.start()
    assert np.array_equal(decode_codes(encoded), codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * count


def test_no_level_of_a_bomb_takes_more_memory_than_its_codes() -> None:
    bomb = deflated(bytes(50_000_000))
    first = deflated(b"\xff" * 2_500)  # 10,000 ranks that all go on
    for stream in (bomb, np.concatenate([first, bomb])):
        tracemalloc.start()
        with pytest.raises(ContainerError, match="runs on"):
            decode_codes(EncodedCodes(stream, 10_000, 8, "huffman", (4, 1), 0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


def test_a_bomb_takes_no_more_memory_than_its_codes() -> None:
    stream = deflated(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(ContainerError, match="runs on"):
        decode_codes(EncodedCodes(stream, 10_000, 8, "huffman", 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("bits", "coding", "match"), [(0, "planes", "width"), (9, "planes", "width"), (4, "zip", "one of planes, huffman")]
)
def test_unknown_options_are_refused(bits: int, coding: Coding, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        encode_codes(np.zeros(8, np.uint8), bits, coding)


@pytest.mark.parametrize("bits", [0, 9, -1, 2.5, "4", None])
def test_widths_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(OptionError) as caught:
        require_bits(bits)
    assert str(caught.value) == f"bits: expected a width from 1 to 8, got {bits}; choose one of these"


@given(WIDTHS, st.integers(1, 500))
@settings(deadline=None)
def test_the_size_of_planes_is_known_beforehand(bits: int, count: int) -> None:
    require_bits(bits)
    assert encode_codes(np.zeros(count, np.uint8), bits).stream.size == planes_size(count, bits)


def test_a_code_beyond_its_width_is_refused() -> None:
    with pytest.raises(OptionError, match="codes below 8"):
        encode_codes(np.array([8], np.uint8), 3)
