"""What programs of masked attention of many queries need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from schedules.attention_problem import AttentionProblem, attention_problem
from schedules.mask_tiles import GRAIN, MaskTiles, blocks_of, tiles_of_text
from schedules.workload import TensorSpec, Workload

LENGTH_DTYPES = ("int32", "int64")
MASK_DTYPES = ("bool", "float16", "bfloat16", "float32")
TILES = "tiles"
Kind = Literal["tiles", "bool", "float", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedProblem:
    """Attention whose mask is one of blocks (``schedules/mask_tiles.py``).

    Attributes:
        plain: The same attention without mask, lengths and soft cap.
        kind: ``tiles`` if the blocks are arguments; else they are found with every call, from a
            mask of booleans or floats, from lengths, causality and windows.
        mask: Their index, or the mask; ``None`` for none.
        patterns: Argument of the patterns, ``None`` if they are found.
        known: The blocks, where they are known when compiling.
        lengths: Valid keys per sequence, ``None`` if all are.
        at_end: Whether queries are the last of the valid keys.
        softcap: Scores become ``softcap * tanh(score / softcap)``; 0 leaves them.
    """

    plain: AttentionProblem
    kind: Kind
    mask: TensorSpec | None
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
        shape = (1, 1, 1, 1) if mask is None else mask.shape
        has_range = plain.left is not None or plain.right is not None
        rows = plain.queries if has_range or shape[2] > 1 else 1
        batch = plain.batch if self.lengths is not None else shape[0]
        return batch, shape[1], blocks_of(rows), blocks_of(plain.keys)

    @property
    def patterns_shape(self) -> tuple[int, int, int]:
        """Of the patterns; found ones have room for every block."""
        if self.patterns is not None:
            return self.patterns.shape[0], GRAIN, 2
        return 2 + prod(self.index_shape), GRAIN, 2

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """Elements between neighbours along batch, head, query and key; 0 where one serves all."""
        strides, step = [], 1
        for extent in reversed((1, 1, 1, 1) if self.mask is None else self.mask.shape):
            strides.append(0 if extent == 1 else step)
            step *= extent
        return tuple(reversed(strides))

    @property
    def live_share(self) -> float:
        """Blocks that are not empty among all; 1 where that is not known."""
        return 1.0 if self.known is None else self.known.n_live / self.known.index.size


def masked_problem(workload: Workload) -> MaskedProblem | None:
    """The problem behind a workload, ``None`` if it has neither mask nor lengths nor soft cap."""
    attrs, rest = workload.attrs, workload.inputs[3:]
    if workload.op != "attention" or len(workload.inputs) < 3:
        return None
    kind = str(attrs.get("mask", "none"))
    n_mask = {"none": 0, TILES: 2}.get(kind, 1)
    has_lengths, softcap = bool(attrs.get("lengths", False)), float(attrs.get("softcap", 0.0))
    bare = {**attrs, "mask": "none", "lengths": False, "softcap": 0.0}
    plain = attention_problem(replace(workload, inputs=workload.inputs[:3], attrs=bare))
    if plain is None or len(rest) != n_mask + has_lengths or not (rest or softcap):
        return None
    problem = MaskedProblem(
        plain=plain,
        kind=kind if kind in (TILES, "bool", "float") else "none",  # type: ignore[arg-type]
        mask=rest[0] if n_mask else None,
        patterns=rest[1] if kind == TILES else None,
        known=known_tiles(workload),
        lengths=rest[-1] if has_lengths else None,
        at_end=bool(attrs.get("at_end", False)),
        softcap=softcap,
    )
    return problem if _is_served(problem) else None


def known_tiles(workload: Workload) -> MaskTiles | None:
    """The blocks that a workload was made for, ``None`` if they come at run time."""
    text = str(workload.attrs.get("mask_text", ""))
    if not text:
        return None
    index, patterns = workload.inputs[3:5]
    return tiles_of_text(text, index.shape, patterns.shape)


def _is_served(problem: MaskedProblem) -> bool:
    mask, lengths, plain = problem.mask, problem.lengths, problem.plain
    if lengths is not None and lengths.dtype not in LENGTH_DTYPES:
        return False
    if problem.kind == TILES:
        windowed = plain.left is not None or plain.right is not None
        return lengths is None and not windowed
    return mask is None or (mask.dtype in MASK_DTYPES and len(mask.shape) == 4)
