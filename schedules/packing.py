"""Quantised matrices as the tensor-core product reads them: packer and unpacker.

A matrix (n_columns, depth) of codes is cut into tiles of 16 columns and *units* of depth.
One unit of a tile is what a warp takes with one 16-byte load per lane (three for 3 bits)::

    bits   2    3    4    8        a unit holds depth / 16 fragments of 16 columns x 16 codes
    depth  128  256  64   32

Lane ``l`` holds columns ``l / 4`` and ``l / 4 + 8`` of a tile, as the left operand of
``mma.m16n8k16`` wants them. Of 32 consecutive codes, lane ``l`` holds eight neighbours from
``8 * (l % 4)`` on, which two fragments share: the matching activations are then one 16-byte
load. The four registers of a fragment lie in the four words of a load, at one bit offset, and
each of them holds two codes, one per half word: a mask makes a pair of numbers.

Three bits: fifteen fragments take five places of 3 bits in the half words of three loads;
the sixteenth takes the bits left over, one from each load.
"""

from __future__ import annotations

import numpy as np

TILE_COLUMNS = 16
LANES = 32
WORDS_PER_LOAD = 4
UNIT_DEPTH = {2: 128, 3: 256, 4: 64, 8: 32}
LOADS_PER_UNIT = {2: 1, 3: 3, 4: 1, 8: 1}
FRAGMENT_DEPTH = 16
# Of three-bit codes in a half word; its last bit belongs to the sixteenth fragment.
PLACES_OF_THREE = 5


def packed_shape(n_columns: int, depth: int, bits: int) -> tuple[int, ...]:
    """(tiles, units, loads, lanes, words) of a packed matrix."""
    n_units = -(-depth // UNIT_DEPTH[bits])
    n_tiles = -(-n_columns // TILE_COLUMNS)
    return n_tiles, n_units, LOADS_PER_UNIT[bits], LANES, WORDS_PER_LOAD


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes into tiles.

    Args:
        codes: Unsigned, below ``2**bits``, shape (n_columns, depth).
        bits: 2, 3, 4 or 8.

    Returns:
        uint32, shape :func:`packed_shape`; what lies beyond the matrix is zero.
    """
    n_columns, depth = codes.shape
    shape = packed_shape(n_columns, depth, bits)
    n_tiles, n_units = shape[:2]
    padded = np.zeros((n_tiles * TILE_COLUMNS, n_units * UNIT_DEPTH[bits]), dtype=np.uint32)
    padded[:n_columns, :depth] = codes
    pairs = _fragments(padded, n_tiles, n_units)
    pairs = pairs[..., 0] | pairs[..., 1] << np.uint32(16)
    return _words(pairs, bits).reshape(shape)


def unpack_codes(packed: np.ndarray, bits: int, *, n_columns: int, depth: int) -> np.ndarray:
    """The inverse of :func:`pack_codes`: uint8, shape (n_columns, depth)."""
    n_tiles, n_units = packed.shape[:2]
    pairs = _pairs(packed, bits)
    halves = np.stack([pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)], axis=-1)
    # (tile, unit, fragment, lane / 4, lane % 4, j / 2, column / 8, j % 2)
    split = halves.reshape(n_tiles, n_units, -1, 2, 8, 4, 2, 2, 2)
    codes = split.transpose(0, 7, 4, 1, 2, 5, 3, 6, 8)
    full = codes.reshape(n_tiles * TILE_COLUMNS, n_units * UNIT_DEPTH[bits])
    return np.ascontiguousarray(full[:n_columns, :depth]).astype(np.uint8)


def _fragments(codes: np.ndarray, n_tiles: int, n_units: int) -> np.ndarray:
    """Codes as (tile, unit, fragment, lane, register, half)."""
    # Columns are (tile, column / 8, column % 8); depth is (unit, 32 codes, lane % 4,
    # fragment % 2, j / 2, j % 2).
    split = codes.reshape(n_tiles, 2, 8, n_units, -1, 4, 2, 2, 2)
    ordered = split.transpose(0, 3, 4, 6, 2, 5, 7, 1, 8)
    return ordered.reshape(n_tiles, n_units, -1, LANES, WORDS_PER_LOAD, 2)


def _words(pairs: np.ndarray, bits: int) -> np.ndarray:
    """Registers (tile, unit, fragment, lane, 4) into words (tile, unit, load, lane, 4)."""
    n_loads = LOADS_PER_UNIT[bits]
    words = np.zeros((*pairs.shape[:2], n_loads, *pairs.shape[3:]), dtype=np.uint32)
    for fragment in range(pairs.shape[2]):
        for load, offset, taken, first in _places(fragment, bits):
            part = pairs[:, :, fragment] >> np.uint32(first) & _pair_mask(taken)
            words[:, :, load] |= part << np.uint32(offset)
    return words


def _pairs(words: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`_words`."""
    n_fragments = UNIT_DEPTH[bits] // FRAGMENT_DEPTH
    pairs = np.zeros((*words.shape[:2], n_fragments, *words.shape[3:]), dtype=np.uint32)
    for fragment in range(n_fragments):
        for load, offset, taken, first in _places(fragment, bits):
            part = words[:, :, load] >> np.uint32(offset) & _pair_mask(taken)
            pairs[:, :, fragment] |= part << np.uint32(first)
    return pairs


def _places(fragment: int, bits: int) -> list[tuple[int, int, int, int]]:
    """Where a fragment's codes lie: (load, offset in half words, bits there, first bit)."""
    if bits != 3:
        return [(0, bits * fragment, bits, 0)]
    if fragment < 3 * PLACES_OF_THREE:
        return [(fragment // PLACES_OF_THREE, 3 * (fragment % PLACES_OF_THREE), 3, 0)]
    return [(load, 15, 1, load) for load in range(3)]


def _pair_mask(bits: int) -> np.uint32:
    return np.uint32((2**bits - 1) * 0x10001)


def pack_groups(values: np.ndarray) -> np.ndarray:
    """Scales or zero points (n_columns, groups) as (tiles, groups, 16).

    Columns ``c`` and ``c + 8`` of a tile become neighbours, since one lane needs both.
    What lies beyond the matrix is zero.
    """
    n_columns, n_groups = values.shape
    n_tiles = -(-n_columns // TILE_COLUMNS)
    padded = np.zeros((n_tiles * TILE_COLUMNS, n_groups), dtype=values.dtype)
    padded[:n_columns] = values
    ordered = padded.reshape(n_tiles, 2, 8, n_groups).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(ordered).reshape(n_tiles, n_groups, TILE_COLUMNS)


def unpack_groups(packed: np.ndarray, *, n_columns: int) -> np.ndarray:
    """The inverse of :func:`pack_groups`."""
    n_tiles, n_groups, _ = packed.shape
    split = packed.reshape(n_tiles, n_groups, 8, 2).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(split.reshape(n_tiles * TILE_COLUMNS, n_groups)[:n_columns])


def unpack_stream(stream: np.ndarray, bits: int, depth: int) -> np.ndarray:
    """Codes from bytes that hold them one after the other, lowest bits first.

    Args:
        stream: uint8, shape (..., bytes).
        bits: 1 to 8 per code.
        depth: Codes wanted of each stream.
    """
    if 8 % bits == 0:
        spread = stream[..., None] >> np.arange(0, 8, bits, dtype=np.uint8)
        return (spread & np.uint8(2**bits - 1)).reshape(*stream.shape[:-1], -1)[..., :depth]
    unpacked = np.unpackbits(stream, axis=-1, bitorder="little")[..., : depth * bits]
    weights = (1 << np.arange(bits)).astype(np.uint8)
    codes = unpacked.reshape(*stream.shape[:-1], depth, bits) * weights
    return np.asarray(codes.sum(axis=-1, dtype=np.uint8))


def pack_stream(codes: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`unpack_stream`; the last byte is filled with zeros."""
    spread = codes[..., None] >> np.arange(bits, dtype=np.uint8) & np.uint8(1)
    flat = spread.reshape(*codes.shape[:-1], -1).astype(np.uint8)
    return np.packbits(flat, axis=-1, bitorder="little")
