"""Quantised matrices as the tensor-core product reads them: packer and unpacker.

A matrix (n_columns, depth) of codes is cut into tiles of 16 columns and *units* of depth.
One unit of a tile is what a warp takes with one 16-byte load per lane (three for 3 bits)::

    bits   2    3    4    8        a unit holds depth / 32 fragments of 16 columns x 32 codes
    depth  128  256  64   32

Lane ``l`` holds columns ``l / 4`` and ``l / 4 + 8`` of a tile, as the left operand of
``mma.m16n8k32`` wants them; of a fragment's 32 codes, eight neighbours from ``8 * (l % 4)``
on. The four registers of a fragment lie in the four words of a load, and each of them holds
four neighbours, one per byte, at the fragment's place in the bytes: a mask makes numbers.

Three bits: six fragments take two places of 3 bits in the bytes of three loads. The last two
take the bits left over: of each code the upper two from the first (second) load, the lowest
one from the third.
"""

from __future__ import annotations

import numpy as np

TILE_COLUMNS = 16
LANES = 32
WORDS_PER_LOAD = 4
UNIT_DEPTH = {2: 128, 3: 256, 4: 64, 8: 32}
LOADS_PER_UNIT = {2: 1, 3: 3, 4: 1, 8: 1}
FRAGMENT_DEPTH = 32
# Of three-bit codes in a byte, whose last two bits belong to the last two fragments.
PLACES_OF_THREE = 2


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
    padded = np.zeros((n_tiles * TILE_COLUMNS, n_units * UNIT_DEPTH[bits]), dtype=np.uint8)
    padded[:n_columns, :depth] = codes
    return _words(_fragments(padded, n_tiles, n_units), bits).reshape(shape)


def unpack_codes(packed: np.ndarray, bits: int, *, n_columns: int, depth: int) -> np.ndarray:
    """The inverse of :func:`pack_codes`: uint8, shape (n_columns, depth)."""
    n_tiles, n_units = packed.shape[:2]
    registers = np.ascontiguousarray(_registers(packed, bits), dtype="<u4")
    # (tile, unit, fragment, lane / 4, lane % 4, j / 4, column / 8), four neighbours of each
    split = registers.reshape(n_tiles, n_units, -1, 8, 4, 2, 2)
    codes = np.ascontiguousarray(split.transpose(0, 6, 3, 1, 2, 4, 5)).view(np.uint8)
    full = codes.reshape(n_tiles * TILE_COLUMNS, n_units * UNIT_DEPTH[bits])
    return np.ascontiguousarray(full[:n_columns, :depth])


def _fragments(codes: np.ndarray, n_tiles: int, n_units: int) -> np.ndarray:
    """Codes as registers (tile, unit, fragment, lane, 4), four of them in the bytes of each."""
    # Columns are (tile, column / 8, column % 8); depth is (unit, fragment, lane % 4, j / 4), four
    # neighbours of each.
    split = codes.view("<u4").reshape(n_tiles, 2, 8, n_units, -1, 4, 2)
    registers = np.ascontiguousarray(split.transpose(0, 3, 4, 2, 5, 6, 1)).astype(np.uint32)
    return registers.reshape(n_tiles, n_units, -1, LANES, WORDS_PER_LOAD)


def _words(registers: np.ndarray, bits: int) -> np.ndarray:
    """Registers (tile, unit, fragment, lane, 4) into words (tile, unit, load, lane, 4)."""
    n_loads = LOADS_PER_UNIT[bits]
    words = np.zeros((*registers.shape[:2], n_loads, *registers.shape[3:]), dtype=np.uint32)
    for fragment in range(registers.shape[2]):
        for load, offset, taken, first in _places(fragment, bits):
            part = registers[:, :, fragment] >> np.uint32(first) & _byte_mask(taken)
            words[:, :, load] |= part << np.uint32(offset)
    return words


def _registers(words: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`_words`."""
    n_fragments = UNIT_DEPTH[bits] // FRAGMENT_DEPTH
    registers = np.zeros((*words.shape[:2], n_fragments, *words.shape[3:]), dtype=np.uint32)
    for fragment in range(n_fragments):
        for load, offset, taken, first in _places(fragment, bits):
            part = words[:, :, load] >> np.uint32(offset) & _byte_mask(taken)
            registers[:, :, fragment] |= part << np.uint32(first)
    return registers


def _places(fragment: int, bits: int) -> list[tuple[int, int, int, int]]:
    """Where a fragment's codes lie: (load, offset in bytes, bits there, first bit of the code)."""
    if bits != 3:
        return [(0, bits * fragment, bits, 0)]
    if fragment < 3 * PLACES_OF_THREE:
        return [(fragment // PLACES_OF_THREE, 3 * (fragment % PLACES_OF_THREE), 3, 0)]
    last = fragment - 3 * PLACES_OF_THREE
    return [(last, 6, 2, 1), (2, 7 - last, 1, 0)]


def _byte_mask(bits: int) -> np.uint32:
    return np.uint32((2**bits - 1) * 0x01010101)


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


def pair_tiles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two packed matrices of one shape as one: 8 columns of each in every tile.

    Tile ``t`` holds columns ``8 t`` to ``8 t + 7`` of the first in its first half, those of the
    second in the other. Serves codes (tiles, ..., 4 words), scales and zero points (tiles, groups,
    16), all of which keep columns ``c`` and ``c + 8`` as neighbours along the last axis.
    """
    both = np.stack([first, second], axis=-1)
    halves = both.reshape(*first.shape[:-1], first.shape[-1] // 2, 2, 2)
    ordered = np.moveaxis(halves, -2, 1)
    return np.ascontiguousarray(ordered).reshape(2 * first.shape[0], *first.shape[1:])


def unpack_stream(stream: np.ndarray, bits: int, depth: int) -> np.ndarray:
    """Codes from bytes that hold them one after the other, lowest bits first.

    Args:
        stream: uint8, shape (..., bytes).
        bits: 1 to 8 per code.
        depth: Codes wanted of each stream.
    """
    n_words = -(-stream.shape[-1] // bits)
    padded = _filled(stream, n_words * bits).reshape(*stream.shape[:-1], n_words, bits)
    words = _joined(padded, 8)
    codes = np.empty((*words.shape, 8), dtype=np.uint8)
    for i in range(8):
        codes[..., i] = words >> np.uint64(bits * i) & np.uint64(2**bits - 1)
    return codes.reshape(*stream.shape[:-1], -1)[..., :depth]


def pack_stream(codes: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of :func:`unpack_stream`; the last byte is filled with zeros."""
    n_words = -(-codes.shape[-1] // 8)
    words = _joined(_filled(codes, 8 * n_words).reshape(*codes.shape[:-1], n_words, 8), bits)
    stream = np.empty((*words.shape, bits), dtype=np.uint8)
    for j in range(bits):
        stream[..., j] = words >> np.uint64(8 * j) & np.uint64(255)
    n_bytes = -(-codes.shape[-1] * bits // 8)
    return stream.reshape(*codes.shape[:-1], -1)[..., :n_bytes]


def _filled(values: np.ndarray, length: int) -> np.ndarray:
    """Zeros behind the last axis up to a length."""
    missing = length - values.shape[-1]
    if not missing:
        return values
    return np.concatenate([values, np.zeros((*values.shape[:-1], missing), np.uint8)], axis=-1)


def _joined(parts: np.ndarray, bits: int) -> np.ndarray:
    """Parts of so many bits along the last axis as one word, the lowest first."""
    words = np.zeros(parts.shape[:-1], dtype=np.uint64)
    for i in range(parts.shape[-1]):
        words |= parts[..., i].astype(np.uint64) << np.uint64(bits * i)
    return words
