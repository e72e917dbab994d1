"""Attention under masks, against FlexAttention with the same mask and SDPA with a dense one.

Masks of frames, windows, packed sequences and blocks are constants of the model (a window becomes
one of plain attention); those of drafted trees and those that are added come with the call.
FlexAttention gets a block mask of 128 by 128; making it and compiling the kernel are not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors
from effcompile.bench.kernels.custom_models import custom_model

COMPARED_ROWS = 64
TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
Kind = Literal["frames", "window", "packed", "blocks", "tree", "bias"]


@dataclass(frozen=True, slots=True)
class MaskedShape:
    """What a case is; ``size`` is what its kind of mask is made of.

    Tokens of a frame, reach of a window, number of packed sequences, percent of blocks of 128 by
    128 that are attended, drafted tokens (the others are the prompt's); 0 for a bias.
    """

    kind: Kind
    size: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    dtype: str

    @property
    def name(self) -> str:
        """For example ``masked-frames704-24x9152x128-bfloat16``."""
        heads = (
            f"{self.heads}" if self.heads == self.kv_heads else f"{self.heads}q{self.kv_heads}kv"
        )
        tokens = f"{self.keys}" if self.queries == self.keys else f"{self.queries}q{self.keys}k"
        size = self.size or ""
        return f"masked-{self.kind}{size}-{heads}x{tokens}x{self.width}-{self.dtype}"

    @property
    def comes_with_the_call(self) -> bool:
        """Whether the mask is an input."""
        return self.kind in ("tree", "bias")

    def shape(self, heads: int, tokens: int) -> tuple[int, int, int, int]:
        """Of one tensor."""
        return (1, heads, tokens, self.width)


SHAPES = (
    MaskedShape("frames", 1024, 1, 1, 17408, 17408, 512, "bfloat16"),
    MaskedShape("frames", 704, 24, 24, 9152, 9152, 128, "bfloat16"),
    MaskedShape("window", 256, 32, 8, 4096, 4096, 128, "bfloat16"),
    MaskedShape("packed", 7, 16, 16, 4096, 4096, 64, "float16"),
    MaskedShape("blocks", 25, 24, 24, 8192, 8192, 128, "bfloat16"),
    MaskedShape("tree", 64, 32, 8, 64, 8192, 128, "bfloat16"),
    MaskedShape("tree", 256, 32, 8, 256, 8192, 128, "bfloat16"),
    MaskedShape("bias", 0, 16, 16, 2048, 2048, 64, "float16"),
)


def cases() -> list[KernelCase]:
    """One case per shape."""
    return [_case(shape) for shape in SHAPES]


def _case(shape: MaskedShape) -> KernelCase:
    tokens = 2 * shape.heads * shape.queries + 2 * shape.kv_heads * shape.keys
    n_mask = shape.queries * shape.keys * {"tree": 1, "bias": 2}.get(shape.kind, 0)
    return KernelCase(
        name=shape.name,
        family="attention" if shape.kind == "window" else "attention_masked",
        model=partial(_model, shape),
        inputs=partial(_inputs, shape),
        reference=partial(_reference, shape),
        sample=lambda outputs: [outputs[0][..., _compared(shape), :]],
        n_bytes=2 * tokens * shape.width + n_mask,
        n_flops=4 * _n_pairs(shape) * shape.heads * shape.width,
        tolerance=5e-3 if shape.dtype == "float16" else 3e-2,
        peers={"FlexAttention": _flex(shape), "torch SDPA, mask": partial(_sdpa, shape)},
    )


def block_rows(shape: MaskedShape) -> np.ndarray:
    """Blocks of 128 by 128 that are attended, the diagonal among them; (blocks, blocks)."""
    n = -(-shape.keys // 128)
    return np.asarray(
        (np.random.default_rng(0).random((n, n)) < shape.size / 100) | np.eye(n, dtype=bool)
    )


def sequence_lengths(shape: MaskedShape) -> list[int]:
    """Of packed sequences: 1 : 2 : 3 ..., the rest to the last."""
    parts = [
        shape.keys * (i + 1) // (shape.size * (shape.size + 1) // 2) for i in range(shape.size)
    ]
    return [*parts[:-1], shape.keys - sum(parts[:-1])]


def mask_of(shape: MaskedShape, rows: Any) -> np.ndarray:
    """What some rows may attend; bool, (rows, keys). A bias hides nothing."""
    row, key = np.asarray(rows)[:, None], np.arange(shape.keys)[None, :]
    if shape.kind == "frames":
        return np.asarray(key // shape.size <= row // shape.size)
    if shape.kind == "window":
        return np.asarray(np.abs(key - row) <= shape.size)
    if shape.kind == "packed":
        sequence = np.repeat(np.arange(shape.size), sequence_lengths(shape))
        return np.asarray(sequence[key] == sequence[row])
    if shape.kind == "blocks":
        return np.asarray(block_rows(shape)[row // 128, key // 128])
    if shape.kind == "tree":
        return np.asarray(_tree(shape)[np.asarray(rows)])
    return np.ones((len(np.asarray(rows)), shape.keys), bool)


def _tree(shape: MaskedShape) -> np.ndarray:
    """Node ``i`` hangs on node ``(i - 1) // 4``; the nodes are the last keys."""
    first = shape.keys - shape.queries
    own = np.eye(shape.queries, dtype=bool)
    for node in range(1, shape.queries):
        own[node] |= own[(node - 1) // 4]
    return np.concatenate([np.ones((shape.queries, first), bool), own], axis=1)


@cache
def _n_pairs(shape: MaskedShape) -> int:
    return sum(
        int(mask_of(shape, range(start, min(start + 512, shape.queries))).sum())
        for start in range(0, shape.queries, 512)
    )


def _dense(shape: MaskedShape) -> np.ndarray:
    return mask_of(shape, range(shape.queries))


def _model(shape: MaskedShape) -> onnx.ModelProto:
    inputs = {
        "q": (shape.shape(shape.heads, shape.queries), shape.dtype),
        "k": (shape.shape(shape.kv_heads, shape.keys), shape.dtype),
        "v": (shape.shape(shape.kv_heads, shape.keys), shape.dtype),
    }
    outputs = {"y": inputs["q"]}
    if shape.kind == "frames":
        lengths = [shape.size] * (shape.keys // shape.size)
        return custom_model("FrameCausalAttention", inputs, outputs, frame_lengths=lengths)
    if shape.kind == "blocks":
        model = custom_model("BlockSparseAttention", inputs, outputs, block=128)
        model.graph.node[0].input.append("blocks")
        stored = numpy_helper.from_array(block_rows(shape)[None, None], "blocks")
        model.graph.initializer.append(stored)
        return model
    return _standard_model(shape, inputs)


def _standard_model(shape: MaskedShape, inputs: dict[str, Any]) -> onnx.ModelProto:
    """ONNX ``Attention``; the mask is an initialiser or an input."""
    values = [
        helper.make_tensor_value_info(name, TYPES[dtype], extents)
        for name, (extents, dtype) in inputs.items()
    ]
    stored = []
    if shape.comes_with_the_call:
        kind = TensorProto.BOOL if shape.kind == "tree" else TYPES[shape.dtype]
        values.append(helper.make_tensor_value_info("mask", kind, (shape.queries, shape.keys)))
    else:
        stored.append(numpy_helper.from_array(_dense(shape), "mask"))
    result = helper.make_tensor_value_info("y", TYPES[shape.dtype], inputs["q"][0])
    node = helper.make_node("Attention", ["q", "k", "v", "mask"], ["y"])
    graph = helper.make_graph([node], "masked", values, [result], initializer=stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def _inputs(shape: MaskedShape, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    kind = getattr(torch, shape.dtype)
    extents = [
        shape.shape(shape.heads, shape.queries),
        *[shape.shape(shape.kv_heads, shape.keys)] * 2,
    ]
    if shape.kind == "bias":
        extents.append((shape.queries, shape.keys))  # type: ignore[arg-type]
    made = [torch.randn(one, device="cuda", dtype=kind, generator=generator) for one in extents]
    if shape.kind == "tree":
        made.append(torch.from_numpy(_dense(shape)).cuda())
    return made


def _compared(shape: MaskedShape) -> Sequence[int]:
    """First, middle and last rows of every head."""
    last = shape.queries - COMPARED_ROWS
    starts = sorted({0, last // 2, last})
    return [start + row for start in starts for row in range(COMPARED_ROWS)]


def _flex(shape: MaskedShape) -> Peer:
    def prepare(inputs: Tensors) -> Callable[[], Any]:
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        query, key, value, *extras = inputs
        mask, score = None, None
        if shape.kind == "bias":
            (bias,) = extras

            def score(s: Any, _b: Any, _h: Any, q: Any, k: Any) -> Any:
                return s + bias[q, k]

        else:
            seen = _seen(shape, extras)
            mask = create_block_mask(seen, None, None, shape.queries, shape.keys, "cuda")
        compiled = torch.compile(flex_attention, dynamic=False)
        grouped = shape.heads != shape.kv_heads

        def launch() -> Any:
            return compiled(query, key, value, score_mod=score, block_mask=mask, enable_gqa=grouped)

        launch()
        return launch

    return prepare


def _seen(shape: MaskedShape, extras: Sequence[Any]) -> Callable[..., Any]:
    """The mask as FlexAttention evaluates it: by arithmetic where there is some."""
    import torch

    size = shape.size
    if shape.kind == "frames":
        return lambda _b, _h, q, k: k // size <= q // size
    if shape.kind == "window":
        return lambda _b, _h, q, k: (q - k <= size) & (k - q <= size)
    if shape.kind == "packed":
        lengths = torch.tensor(sequence_lengths(shape), device="cuda")
        sequence = torch.repeat_interleave(torch.arange(size, device="cuda"), lengths)
        return lambda _b, _h, q, k: sequence[q] == sequence[k]
    if shape.kind == "blocks":
        live = torch.from_numpy(block_rows(shape)).cuda()
        return lambda _b, _h, q, k: live[q // 128, k // 128]
    (mask,) = extras
    return lambda _b, _h, q, k: mask[q, k]


def _sdpa(shape: MaskedShape, inputs: Tensors) -> Callable[[], Any]:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    query, key, value, *extras = inputs
    mask = extras[0] if extras else torch.from_numpy(_dense(shape)).cuda()
    grouped = shape.heads != shape.kv_heads
    return lambda: scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=grouped
    )


def _reference(shape: MaskedShape, inputs: Tensors) -> Tensors:
    import torch

    query, key, value, *extras = inputs
    rows = _compared(shape)
    seen = torch.from_numpy(mask_of(shape, rows)).cuda()
    wanted = torch.empty(
        (1, shape.heads, len(rows), shape.width), dtype=torch.float64, device="cuda"
    )
    for h in range(shape.heads):
        kv = h // (shape.heads // shape.kv_heads)
        scores = query[0, h, rows].double() @ key[0, kv].double().T * shape.width**-0.5
        if shape.kind == "bias":
            scores += extras[0][rows].double()
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
        wanted[0, h] = weights @ value[0, kv].double()
    return [wanted]
