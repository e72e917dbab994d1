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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GRAIN = 64
EMPTY, WHOLE = 0, 1
RowsOf = Callable[[int, int, slice], np.ndarray]
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

    @property
    def n_live(self) -> int:
        """Blocks that hold a pair that is attended."""
        return int(np.count_nonzero(self.index))

    @property
    def n_mixed(self) -> int:
        """Blocks that hold pairs of both kinds."""
        return int(np.count_nonzero(self.index > WHOLE))


def blocks_of(n_tokens: int) -> int:
    """Blocks that some tokens take."""
    return -(-n_tokens // GRAIN)


def mask_tiles(mask: np.ndarray) -> MaskTiles:
    """The blocks of a mask.

    Args:
        mask: bool, (batch or 1, heads or 1, queries or 1, keys), true where a key may be attended.
    """
    return tiles_of_rows(mask.shape, lambda b, h, rows: mask[b, h, rows])


def tiles_of_rows(shape: tuple[int, ...], rows_of: RowsOf) -> MaskTiles:
    """The blocks of a mask that is never held whole.

    Args:
        shape: Of the mask, as in :func:`mask_tiles`.
        rows_of: From batch, head and a slice of queries to booleans (queries, keys).
    """
    *planes, n_rows, n_keys = shape
    blocks = (*planes, 1 if n_rows == 1 else blocks_of(n_rows), blocks_of(n_keys))
    known = {_DECLARED[kind].tobytes(): kind for kind in (EMPTY, WHOLE)}
    index = np.empty(blocks, np.int32)
    for b, h, row in np.ndindex(*blocks[:3]):
        words = _words(rows_of(b, h, slice(row * GRAIN, min((row + 1) * GRAIN, n_rows))))
        for block, own in enumerate(words):
            index[b, h, row, block] = known.setdefault(own.tobytes(), len(known))
    patterns = np.frombuffer(b"".join(known), np.int32).reshape(-1, GRAIN, 2)
    return MaskTiles(index, patterns)


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
    seen = np.repeat(ends, frame_lengths)[n_keys - n_queries :]  # keys of every query
    key = np.arange(n_keys)
    shape = (1, 1, n_queries, n_keys)
    return tiles_of_rows(shape, lambda _b, _h, rows: key < seen[rows, None])


def coarse_tiles(live: np.ndarray, n_queries: int, n_keys: int, *, block: int) -> MaskTiles:
    """Whole blocks of ``block`` rows and keys, a multiple of ``GRAIN``.

    Args:
        live: bool, (batch or 1, heads or 1, row blocks, key blocks).
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
