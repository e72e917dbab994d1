"""What programs of masked attention of many queries need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal, cast

from schedules.attention_problem import AttentionProblem, attention_problem
from schedules.mask_tiles import GRAIN, MaskTiles, blocks_of, tiles_of_text
from schedules.workload import TensorSpec, Workload

LENGTH_DTYPES = ("int32", "int64")
MASK_DTYPES = ("bool", "float16", "bfloat16", "float32")
TILES, PACKED = "tiles", "packed"
# Up to so many queries, the heads that share a key head are rows of one.
MOST_PACKED_QUERIES = 256
FEWEST_SPLIT_KEYS = 2048
Kind = Literal["tiles", "packed", "bool", "float", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedProblem:
    """Attention whose mask is one of blocks (``schedules/mask_tiles.py``).

    Attributes:
        plain: The same attention without mask, lengths and soft cap; few queries of heads that
            share a key head are one head's, one head after the other.
        period: Queries of a head of the workload.
        kind: ``tiles`` if the blocks are arguments; else they are found with every call, from a
            mask of booleans or floats, from lengths, causality and windows, from the starts of
            packed sequences.
        mask: Their index, or the mask; ``None`` for none.
        starts: Of packed sequences, and the end of the last one; ``None`` for none.
        patterns: Argument of the patterns, ``None`` if they are found.
        known: The blocks, where they are known when compiling.
        lengths: Valid keys per sequence, ``None`` if all are.
        at_end: Whether queries are the last of the valid keys.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
    """

    plain: AttentionProblem
    period: int
    kind: Kind
    mask: TensorSpec | None
    starts: TensorSpec | None
    patterns: TensorSpec | None
    known: MaskTiles | None
    lengths: TensorSpec | None
    at_end: bool
    softcap: float

    @property
    def index_shape(self) -> tuple[int, int, int, int]:
        """Of the index of blocks."""
        plain, mask = self.plain, self.mask
        if self.kind == TILES and mask is not None:
            b, h, rows, keys = mask.shape
            return b, h, rows, keys
        b, h, rows, _ = (1, 1, 1, 1) if mask is None else mask.shape
        differ = self.rows_differ or rows > 1 or (h > 1 and self.group > 1)
        return (
            plain.batch if self.lengths is not None else b,
            1 if h == 1 else plain.heads,
            blocks_of(plain.queries) if differ else 1,
            blocks_of(plain.keys),
        )

    @property
    def group(self) -> int:
        """Heads of the workload that are one here."""
        return self.plain.queries // self.period

    @property
    def rows_differ(self) -> bool:
        """Whether queries have ranges of their own."""
        windowed = self.plain.left is not None or self.plain.right is not None
        return windowed or self.starts is not None

    @property
    def has_ranges(self) -> bool:
        """Whether what rows may attend are ranges of keys, instead of patterns."""
        return self.mask is None

    @property
    def found_rows(self) -> int:
        """Rows of which blocks are found: all, or one that stands for them."""
        one = self.index_shape[2] == 1 and self.plain.queries > GRAIN
        return 1 if one or not (self.rows_differ or self.mask) else self.plain.queries

    @property
    def patterns_shape(self) -> tuple[int, int, int]:
        """Of the patterns, found ones with room for every block; or of the ranges."""
        if self.patterns is not None:
            return self.patterns.shape[0], GRAIN, 2
        if self.has_ranges:
            return self.index_shape[0], self.found_rows, 2
        return 2 + prod(self.index_shape), GRAIN, 2

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """Elements between neighbours along batch, head, query and key; 0 where one serves all."""
        strides, step = [], 1
        for extent in reversed((1, 1, 1, 1) if self.mask is None else self.mask.shape):
            strides.append(0 if extent == 1 else step)
            step *= extent
        return tuple(reversed(strides))


def masked_problem(workload: Workload) -> MaskedProblem | None:
    """The problem behind a workload, ``None`` if another family's programs say the same."""
    attrs, rest = workload.attrs, workload.inputs[3:]
    if workload.op != "attention" or len(workload.inputs) < 3:
        return None
    kind = str(attrs.get("mask", "none"))
    n_mask = {"none": 0, TILES: 2}.get(kind, 1)
    has_lengths, softcap = bool(attrs.get("lengths", False)), float(attrs.get("softcap", 0.0))
    bare = {**attrs, "mask": "none", "lengths": False, "softcap": 0.0}
    plain = attention_problem(replace(workload, inputs=workload.inputs[:3], attrs=bare))
    if plain is None or len(rest) != n_mask + has_lengths:
        return None
    if not (rest or softcap) and not asks_little(plain):
        return None
    problem = MaskedProblem(
        plain=plain if kind == TILES else packed(plain),
        period=plain.queries,
        kind=cast("Kind", kind),
        mask=rest[0] if kind not in ("none", PACKED) else None,
        starts=rest[0] if kind == PACKED else None,
        patterns=rest[1] if kind == TILES else None,
        known=known_tiles(workload),
        lengths=rest[-1] if has_lengths else None,
        at_end=bool(attrs.get("at_end", False)),
        softcap=softcap,
    )
    return problem if _is_served(problem) else None


def asks_little(plain: AttentionProblem) -> bool:
    """Whether queries are so few and keys so many that blocks had better share the keys."""
    return plain.queries <= MOST_PACKED_QUERIES and plain.keys >= FEWEST_SPLIT_KEYS


def packed(plain: AttentionProblem) -> AttentionProblem:
    """Few queries of heads that share a key head as those of one head: rows lie alike."""
    if plain.queries > MOST_PACKED_QUERIES:
        return plain
    rows = plain.heads // plain.kv_heads * plain.queries
    return replace(plain, heads=plain.kv_heads, queries=rows)


def known_tiles(workload: Workload) -> MaskTiles | None:
    """The blocks that a workload was made for, ``None`` if they come at run time."""
    text = str(workload.attrs.get("mask_text", ""))
    if not text:
        return None
    index, patterns = workload.inputs[3:5]
    return tiles_of_text(text, index.shape, patterns.shape)


def _is_served(problem: MaskedProblem) -> bool:
    mask, lengths = problem.mask, problem.lengths
    if lengths is not None and lengths.dtype not in LENGTH_DTYPES:
        return False
    if problem.kind == TILES:
        return lengths is None and not problem.rows_differ
    if problem.starts is not None:
        return lengths is None and problem.starts.dtype == "int32"
    return mask is None or (mask.dtype in MASK_DTYPES and len(mask.shape) == 4)
