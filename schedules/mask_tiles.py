"""Masks of attention as blocks of ``GRAIN`` rows and ``GRAIN`` keys: which are empty, whole, mixed.

``index[plane b, plane h, row block, key block]`` is ``EMPTY``, ``WHOLE``, or the number of one of
``patterns``: (n, GRAIN, 2) int32, bit ``k % 32`` of half ``k // 32`` true where key ``k`` of the
block may be attended. Patterns ``EMPTY`` and ``WHOLE`` are stored too. Extents of ``index`` are 1
where one plane, or one row block, serves all. Keys past the end are never attended; rows past the
end do not matter.

Made once from a constant mask; equal blocks share a pattern, so that a mask of frames, windows or
packed sequences takes kilobytes where a dense one takes hundreds of megabytes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRAIN = 64
EMPTY, WHOLE = 0, 1
_DECLARED = np.array([[[0, 0]] * GRAIN, [[-1, -1]] * GRAIN], dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class MaskTiles:
    """A mask.

    Attributes:
        index: int32, (batch or 1, heads or 1, row blocks or 1, key blocks).
        patterns: int32, (n, GRAIN, 2).
    """

    index: np.ndarray
    patterns: np.ndarray


def blocks_of(n_tokens: int) -> int:
    """Blocks that some tokens take."""
    return -(-n_tokens // GRAIN)


def mask_tiles(mask: np.ndarray) -> MaskTiles:
    """The blocks of a mask.

    Args:
        mask: bool, (batch or 1, heads or 1, queries or 1, keys), true where a key may be attended.
    """
    *planes, n_rows, n_keys = mask.shape
    known = _declared()
    index = np.empty((*planes, blocks_of(n_rows), blocks_of(n_keys)), np.int32)
    for b, h, row in np.ndindex(*index.shape[:3]):
        words = _words(mask[b, h, row * GRAIN : (row + 1) * GRAIN])
        for block, own in enumerate(words):
            index[b, h, row, block] = known.setdefault(own.tobytes(), len(known))
    return MaskTiles(index, _patterns(known))


def _declared() -> dict[bytes, int]:
    """Numbers of patterns by their bytes."""
    return {_DECLARED[kind].tobytes(): kind for kind in (EMPTY, WHOLE)}


def _patterns(known: dict[bytes, int]) -> np.ndarray:
    return np.frombuffer(b"".join(known), np.int32).reshape(-1, GRAIN, 2)


def _words(rows: np.ndarray) -> np.ndarray:
    """A row of blocks as bits; int32 of shape (key blocks, GRAIN, 2).

    Rows past the end repeat the last one, so that the end makes no patterns of its own.
    """
    n_blocks = blocks_of(rows.shape[1])
    padded = np.pad(rows, ((0, GRAIN - len(rows)), (0, 0)), mode="edge")
    padded = np.pad(padded, ((0, 0), (0, n_blocks * GRAIN - rows.shape[1])))
    packed = np.packbits(padded, axis=1, bitorder="little").view(np.int32)
    return np.ascontiguousarray(packed.reshape(GRAIN, n_blocks, 2).swapaxes(0, 1))


def frame_tiles(frame_lengths: Sequence[int], n_queries: int) -> MaskTiles:
    """Keys of their own and earlier frames for queries that are the last of the tokens.

    Args:
        frame_lengths: Tokens of every frame, in order.
        n_queries: At most their sum.
    """
    ends = np.cumsum(frame_lengths)
    n_keys = int(ends[-1])
    return prefix_tiles(np.repeat(ends, frame_lengths)[n_keys - n_queries :], n_keys)


def prefix_tiles(ends: np.ndarray, n_keys: int) -> MaskTiles:
    """Every query sees the keys before an end of its own; only blocks that hold ends are made.

    Args:
        ends: int, (queries,).
        n_keys: At least the largest end.
    """
    known = _declared()
    index = np.full((blocks_of(len(ends)), blocks_of(n_keys)), EMPTY, np.int32)
    for row in range(len(index)):
        own = ends[row * GRAIN : (row + 1) * GRAIN]
        first, last = int(own.min()) // GRAIN, blocks_of(int(own.max()))
        index[row, :first] = WHOLE
        key = np.arange(first * GRAIN, last * GRAIN)
        for block, words in enumerate(_words(key < own[:, None]), start=first):
            index[row, block] = known.setdefault(words.tobytes(), len(known))
    return MaskTiles(index[None, None], _patterns(known))


def coarse_tiles(live: np.ndarray, n_queries: int, n_keys: int, *, block: int) -> MaskTiles:
    """A mask of whole blocks.

    Args:
        live: bool, (batch or 1, heads or 1, row blocks, key blocks).
        n_queries: Rows of the mask.
        n_keys: Keys of the mask.
        block: Rows and keys of a block, a multiple of ``GRAIN``.
    """
    factor = block // GRAIN
    fine = live.repeat(factor, axis=2).repeat(factor, axis=3)
    fine = fine[:, :, : blocks_of(n_queries), : blocks_of(n_keys)]
    return MaskTiles((fine * whole_blocks(n_keys)).astype(np.int32), coarse_patterns(n_keys))


def whole_blocks(n_keys: int) -> np.ndarray:
    """What the index holds where all keys of a block are attended; int32, (key blocks,)."""
    numbers = np.full(blocks_of(n_keys), WHOLE, np.int32)
    if n_keys % GRAIN:
        numbers[-1] = WHOLE + 1
    return numbers


def coarse_patterns(n_keys: int) -> np.ndarray:
    """The patterns of :func:`whole_blocks`; int32, (2 or 3, GRAIN, 2)."""
    if n_keys % GRAIN == 0:
        return _DECLARED
    last = np.packbits(np.arange(GRAIN) < n_keys % GRAIN, bitorder="little").view(np.int32)
    return np.concatenate([_DECLARED, np.broadcast_to(last, (1, GRAIN, 2))])


def tile_rows(
    tiles: MaskTiles, plane: tuple[int, int], rows: np.ndarray, n_keys: int
) -> np.ndarray:
    """What some rows of a plane may attend; bool of shape (rows, keys)."""
    b, h, n_blocks, _ = tiles.index.shape
    own = tiles.index[plane[0] if b > 1 else 0, plane[1] if h > 1 else 0]
    numbers = own[rows // GRAIN if n_blocks > 1 else np.zeros_like(rows)]
    words = tiles.patterns[numbers, (rows % GRAIN)[:, None]]  # (rows, key blocks, 2)
    bits = np.unpackbits(words.view(np.uint8), axis=2, bitorder="little")
    return bits.reshape(len(rows), -1)[:, :n_keys].astype(bool)


def drawn_tiles(index_shape: tuple[int, ...], n_keys: int, rng: np.random.Generator) -> MaskTiles:
    """Blocks that a call may bring: half of them empty, no row of blocks empty altogether."""
    live = rng.random(index_shape) < 0.5
    live[..., 0] = True
    return MaskTiles((live * whole_blocks(n_keys)).astype(np.int32), coarse_patterns(n_keys))


def mask_text(tiles: MaskTiles) -> str:
    """Index and patterns as a workload's attributes hold them."""
    stored = tiles.index.astype(np.int32).tobytes() + tiles.patterns.astype(np.int32).tobytes()
    return base64.b85encode(zlib.compress(stored, 9)).decode()


def tiles_of_text(
    text: str, index_shape: tuple[int, ...], patterns_shape: tuple[int, ...]
) -> MaskTiles:
    """What ``mask_text`` made, given the shapes."""
    stored = np.frombuffer(zlib.decompress(base64.b85decode(text)), np.int32)
    n_index = int(np.prod(index_shape))
    return MaskTiles(
        stored[:n_index].reshape(index_shape), stored[n_index:].reshape(patterns_shape)
    )
