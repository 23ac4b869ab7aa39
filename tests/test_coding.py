from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from vggquant.codec.coding import CODES_PER_BYTE, PLANES, Coding, EncodedCodes, decode_codes, encode_codes, planes_size
from vggquant.errors import ContainerError, OptionError

WIDTHS = st.integers(1, 8)


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
    assert reference.decode(encoded.stream.tobytes(), len(codes), bits, encoded.codes_per_byte) == codes


@given(st.integers(1, 8), st.data())
@settings(max_examples=200, deadline=None)
def test_every_grouping_of_huffman_comes_back(bits: int, data: st.DataObject) -> None:
    # skewed, so that deflate is always the smaller
    count = data.draw(st.integers(300, 600))
    codes = np.zeros(count, np.uint8)
    codes[:: data.draw(st.integers(17, 60))] = data.draw(st.integers(0, 2**bits - 1))
    encoded = encode_codes(codes, bits, "huffman")
    assert encoded.coding == "huffman"
    assert encoded.codes_per_byte in CODES_PER_BYTE[bits]
    assert encoded.stream.size < planes_size(count, bits)
    assert np.array_equal(decode_codes(encoded), codes)
    assert reference.decode(encoded.stream.tobytes(), count, bits, encoded.codes_per_byte) == codes.tolist()


def test_low_entropy_puts_more_codes_to_a_byte() -> None:
    rng = np.random.default_rng(0)
    for bits, most in ((1, 8), (2, 4), (4, 2)):
        codes = (rng.random(100_000) < 0.02).astype(np.uint8)
        assert encode_codes(codes, bits, "huffman").codes_per_byte == most


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


@pytest.mark.parametrize("bits", PLANES)
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
    import zlib

    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    stream = np.frombuffer(compressor.compress(b"\x80" * 40) + compressor.flush(), np.uint8)
    with pytest.raises(ContainerError, match="unused bits"):
        decode_codes(EncodedCodes(stream, 80, 3, "huffman", 2))


def test_a_bomb_takes_no_more_memory_than_its_codes() -> None:
    import tracemalloc
    import zlib

    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = np.frombuffer(compressor.compress(bytes(50_000_000)) + compressor.flush(), np.uint8)
    tracemalloc.start()
    with pytest.raises(ContainerError, match="runs on"):
        decode_codes(EncodedCodes(stream, 10_000, 8, "huffman", 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("bits", "coding", "match"), [(0, "planes", "width"), (9, "planes", "width"), (4, "zip", "planes or huffman")]
)
def test_unknown_options_are_refused(bits: int, coding: Coding, match: str) -> None:
    with pytest.raises(OptionError, match=match):
        encode_codes(np.zeros(8, np.uint8), bits, coding)


def test_a_code_beyond_its_width_is_refused() -> None:
    with pytest.raises(OptionError, match="codes below 8"):
        encode_codes(np.array([8], np.uint8), 3)
