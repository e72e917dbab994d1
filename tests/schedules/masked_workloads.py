"""Workloads of masked attention, and the masks of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.inputs import draw_tensor
from schedules.mask_tiles import MaskTiles, mask_text, mask_tiles, tile_rows
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import TensorSpec, Workload

Form = Literal["tiles", "packed", "bool", "float", "none"]


def frames(lengths: list[int]) -> np.ndarray:
    """Queries see keys of their own and earlier frames; (1, 1, tokens, tokens)."""
    frame = np.repeat(np.arange(len(lengths)), lengths)
    return np.asarray((frame[None, :] <= frame[:, None])[None, None])


def packed(lengths: list[int]) -> np.ndarray:
    """Sequences one after the other, each its own."""
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    return np.asarray((sequence[None, :] == sequence[:, None])[None, None])


def sliding(n_tokens: int, reach: int) -> np.ndarray:
    """Keys at most ``reach`` away."""
    position = np.arange(n_tokens)
    return np.asarray((np.abs(position[None, :] - position[:, None]) <= reach)[None, None])


def tree(n_queries: int, n_keys: int, seed: int = 0) -> np.ndarray:
    """Drafted tokens see the prompt and their ancestors; the last keys are their own."""
    rng, n_past = np.random.default_rng(seed), n_keys - n_queries
    own = np.eye(n_queries, dtype=bool)
    for node in range(1, n_queries):
        own[node] |= own[rng.integers(0, node)]
    return np.concatenate([np.ones((n_queries, n_past), bool), own], axis=1)[None, None]


def blocks(n_queries: int, n_keys: int, *, planes: tuple[int, int] = (1, 1)) -> np.ndarray:
    """A third of the blocks of 64, some of them half; the second rows of blocks are empty."""
    rng = np.random.default_rng(0)
    shape = (*planes, -(-n_queries // 64), -(-n_keys // 64))
    coarse = rng.random(shape) < 1 / 3
    coarse[:, :, 1:2] = False
    wide = coarse.repeat(64, axis=2).repeat(64, axis=3)[:, :, :n_queries, :n_keys]
    return np.asarray(wide & (rng.random(wide.shape) < 0.9) | (wide & (np.arange(n_keys) < 100)))


MASKS = {
    "frames": frames([50, 70, 1, 64]),
    "packed": packed([100, 3, 61]),
    "sliding": sliding(150, 40),
    "blocks": blocks(150, 333, planes=(2, 3)),
    "tree": tree(70, 300),
    "keys_alone": blocks(64, 100, planes=(2, 1))[:, :, :1],
}


def dense(tiles: MaskTiles, n_rows: int, n_keys: int) -> np.ndarray:
    """The mask of blocks as one array; (batch, heads, rows, keys) of its planes."""
    b, h = tiles.index.shape[:2]
    rows = [tile_rows(tiles, divmod(p, h), np.arange(n_rows), n_keys) for p in range(b * h)]
    return np.stack(rows).reshape(b, h, n_rows, n_keys)


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Attention under a mask, which arrives as ``form`` says; shapes as of the mask.

    Of ``packed``, ``starts`` says where sequences begin; of ``none``, other options say all. A
    ``float`` mask has the number ``hidden`` where ``mask`` is false.
    """

    mask: np.ndarray
    form: Form = "tiles"
    heads: int = 2
    kv_heads: int = 0
    batch: int = 1
    width: int = 64
    dtype: str = "float16"
    mask_dtype: str = "float16"
    queries: int = 0
    starts: tuple[int, ...] = ()
    known: bool = True
    hidden: float = -np.inf
    lengths: bool = False
    attrs: dict[str, Any] = field(default_factory=dict)

    def workload(self) -> Workload:
        n_keys, n_queries = self.mask.shape[3], self.queries or self.mask.shape[2]
        extra, attrs = self._mask_specs()
        kv_heads = self.kv_heads or self.heads
        return Workload(
            op="attention",
            name="attention",
            inputs=(
                self._spec("q", self.heads, n_queries),
                self._spec("k", kv_heads, n_keys),
                self._spec("v", kv_heads, n_keys),
                *extra,
            ),
            outputs=(self._spec("out", self.heads, n_queries),),
            attrs={
                "scale": self.width**-0.5,
                "causal": False,
                "offset": 0,
                "at_end": False,
                "softcap": 0.0,
                "window_left": -1,
                "window_right": -1,
                "mask": self.form,
                "lengths": self.lengths,
                **attrs,
                **self.attrs,
            },
            program="",
            program_hash="",
        )

    def _spec(self, name: str, heads: int, tokens: int) -> TensorSpec:
        return TensorSpec(
            name=name, shape=(self.batch, heads, tokens, self.width), dtype=self.dtype
        )

    def _mask_specs(self) -> tuple[list[TensorSpec], dict[str, Any]]:
        specs = []
        if self.form == "tiles":
            tiles = mask_tiles(self.mask)
            specs.append(TensorSpec(name="index", shape=tiles.index.shape, dtype="int32"))
            specs.append(TensorSpec(name="patterns", shape=tiles.patterns.shape, dtype="int32"))
        elif self.form == "packed":
            specs.append(TensorSpec(name="starts", shape=(len(self.starts),), dtype="int32"))
        elif self.form != "none":
            dtype = "bool" if self.form == "bool" else self.mask_dtype
            specs.append(TensorSpec(name="mask", shape=self.mask.shape, dtype=dtype))
        if self.lengths:
            specs.append(TensorSpec(name="lengths", shape=(self.batch,), dtype="int32"))
        known = self.form == "tiles" and self.known
        return specs, {"mask_text": mask_text(mask_tiles(self.mask))} if known else {}

    def inputs(self, seed: int) -> list[np.ndarray]:
        """Queries, keys, values of N(0, 1); this mask; lengths that differ."""
        rng, workload = np.random.default_rng(seed), self.workload()
        arrays = [draw_tensor(spec, rng) for spec in workload.inputs[:3]]
        if self.form == "tiles":
            tiles = mask_tiles(self.mask)
            arrays += [tiles.index, tiles.patterns]
        elif self.form == "packed":
            arrays.append(np.array(self.starts, np.int32))
        elif self.form == "bool":
            arrays.append(self.mask)
        elif self.form == "float":
            drawn = draw_tensor(workload.inputs[3], rng)
            arrays.append(np.where(self.mask, drawn, self.hidden).astype(drawn.dtype))
        if self.lengths:
            n_keys = self.mask.shape[3]
            arrays.append(np.linspace(n_keys // 3, n_keys, self.batch).astype(np.int32))
        return arrays

    def task(self, target: Target | None = None) -> Task:
        return Task(workload=self.workload(), target=target or known_target("h200"))


def lowered_frames(lengths: list[int], **more: Any) -> Workload:
    """Frame-causal attention as the front end makes it of an ONNX model, program included."""
    return lowered_attention("FrameCausalAttention", sum(lengths), frame_lengths=lengths, **more)


def lowered_attention(
    op_type: str,
    n_tokens: int,
    *,
    heads: int = 2,
    width: int = 64,
    dtype: str = "float16",
    also: tuple[tuple[int, ...], str] | None = None,
    **attrs: Any,
) -> Workload:
    """Attention of an operator of ours, as the front end makes it of an ONNX model.

    ``also``: shape and dtype of the input behind queries, keys and values.
    """
    target, tokens = known_target("h200"), ((1, heads, n_tokens, width), dtype)
    inputs = dict.fromkeys("qkv", tokens) | ({"also": also} if also else {})
    model = custom_model(op_type, inputs, {"y": tokens}, **attrs)
    found = extract_tasks(lower({"main": prepare_model(model)}, target), target)
    (workload,) = [one.task.workload for one in found if one.task.workload.op == "attention"]
    return workload
