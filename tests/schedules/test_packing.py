"""Packed quantised matrices: inverses, golden bytes, and the places that kernels rely on."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.packing import (
    UNIT_DEPTH,
    pack_codes,
    pack_groups,
    pack_stream,
    packed_shape,
    pair_tiles,
    unpack_codes,
    unpack_groups,
    unpack_stream,
)


def random_codes(bits: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 2**bits, shape).astype(np.uint8)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (16, 256), (37, 515)], ids=str)
def test_unpacking_is_the_inverse_of_packing(bits: int, shape: tuple[int, int]) -> None:
    codes = random_codes(bits, *shape)
    packed = pack_codes(codes, bits)
    assert packed.shape == packed_shape(*shape, bits)
    assert packed.dtype == np.uint32
    np.testing.assert_array_equal(
        unpack_codes(packed, bits, n_columns=shape[0], depth=shape[1]), codes
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packing_fills_every_bit(bits: int) -> None:
    full = np.full((16, UNIT_DEPTH[bits]), 2**bits - 1, np.uint8)
    assert (pack_codes(full, bits) == 0xFFFFFFFF).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_paired_matrices_share_every_tile(bits: int) -> None:
    first, second = random_codes(bits, 32, 300), random_codes(bits, 64, 300)[32:]
    paired = pair_tiles(pack_codes(first, bits), pack_codes(second, bits))
    both = unpack_codes(paired, bits, n_columns=64, depth=300).reshape(4, 2, 8, 300)
    np.testing.assert_array_equal(both[:, 0].reshape(32, 300), first)
    np.testing.assert_array_equal(both[:, 1].reshape(32, 300), second)
    groups = pair_tiles(pack_groups(first[:, :5]), pack_groups(second[:, :5]))
    spread = unpack_groups(groups, n_columns=64).reshape(4, 2, 8, 5)
    np.testing.assert_array_equal(spread[:, 1].reshape(32, 5), second[:, :5])


def test_the_first_column_of_four_bits_in_order() -> None:
    codes = np.zeros((16, 64), np.uint8)
    codes[0] = np.arange(64) % 16
    (unit,) = pack_codes(codes, 4)[0]
    # Lane 0 holds depth 0..7 in words 0 and 2, lane 1 depth 8..15; in the upper halves of the
    # bytes the same 32 further on, where codes repeat.
    assert [hex(word) for word in unit[0, 0]] == ["0x33221100", "0x0", "0x77665544", "0x0"]
    assert [hex(word) for word in unit[0, 1]] == ["0xbbaa9988", "0x0", "0xffeeddcc", "0x0"]


def test_the_last_fragment_of_three_bits_takes_the_last_bits() -> None:
    codes = np.zeros((16, 256), np.uint8)
    codes[0, 7 * 32 + 4] = 0b101
    (unit,) = pack_codes(codes, 3)[0]
    assert [int(word) for word in unit[:, 0, 2]] == [0, 0b10 << 6, 1 << 6]
    assert np.count_nonzero(unit) == 2


def test_golden_bytes_of_the_stream_of_three_bits() -> None:
    assert pack_stream(np.arange(8, dtype=np.uint8), 3).tobytes() == bytes.fromhex("88c6fa")
    codes = np.array([0, 1, 3, 4, 4, 5, 7, 7], np.uint8)
    assert pack_stream(codes, 3).tobytes() == bytes.fromhex("c8c8fe")
    np.testing.assert_array_equal(unpack_stream(pack_stream(codes, 3), 3, 8), codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_streams_of_any_length_come_back(bits: int) -> None:
    codes = random_codes(bits, 3, 13)
    np.testing.assert_array_equal(unpack_stream(pack_stream(codes, bits), bits, 13), codes)


def test_scales_of_columns_eight_apart_are_neighbours() -> None:
    values = np.arange(32 * 3).reshape(32, 3)
    packed = pack_groups(values)
    assert packed.shape == (2, 3, 16)
    assert packed[1, 2, :4].tolist() == [values[c, 2] for c in (16, 24, 17, 25)]
    np.testing.assert_array_equal(unpack_groups(packed[:, :, :], n_columns=32), values)
    np.testing.assert_array_equal(
        unpack_groups(pack_groups(values[:21]), n_columns=21), values[:21]
    )
