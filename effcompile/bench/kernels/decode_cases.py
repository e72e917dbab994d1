"""Attention of one or a few queries over many keys, against torch's engines and FlashInfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx
from onnx import TensorProto, helper

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, direct, inductor
from effcompile.bench.kernels.flashinfer_peer import PEERS, as_pages, paged_decode

ENGINES = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
OPSET_OF_LENGTHS = 24


@dataclass(frozen=True, slots=True)
class DecodeShape:
    """Batch, query heads, key heads, queries, keys, width, dtype; what restricts the keys.

    ``extra`` is ``tree`` for a mask over speculated tokens (each sees what came before them,
    its ancestors and itself), ``lengths`` for valid lengths from a half to all keys.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    dtype: str
    extra: str = ""

    @property
    def name(self) -> str:
        """For example ``decode-1x40q10kv-1q32768k-64-float16``."""
        heads = f"{self.heads}q{self.kv_heads}kv"
        extra = f"-{self.extra}" if self.extra else ""
        tokens = f"{self.queries}q{self.keys}k"
        return f"decode-{self.batch}x{heads}-{tokens}-{self.width}-{self.dtype}{extra}"

    @property
    def lengths(self) -> list[int]:
        """Valid keys per sequence."""
        if self.extra != "lengths":
            return [self.keys] * self.batch
        half = self.keys // 2
        return [half + (index + 1) * half // self.batch for index in range(self.batch)]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs."""
        kv = (self.batch, self.kv_heads, self.keys, self.width)
        found: dict[str, tuple[int, ...]] = {
            "q": (self.batch, self.heads, self.queries, self.width),
            "k": kv,
            "v": kv,
        }
        if self.extra == "tree":
            found["mask"] = (self.queries, self.keys)
        elif self.extra == "lengths":
            found["lengths"] = (self.batch,)
        return found

    @property
    def n_bytes(self) -> int:
        """Of queries, results, valid keys and values, and mask."""
        rows = 2 * self.batch * self.heads * self.queries
        tokens = rows + 2 * self.kv_heads * sum(self.lengths)
        return 2 * tokens * self.width + (self.queries * self.keys if self.extra == "tree" else 0)


SHAPES = (
    DecodeShape(1, 40, 10, 1, 32768, 64, "float16"),
    DecodeShape(1, 32, 32, 1, 4096, 128, "bfloat16"),
    DecodeShape(8, 64, 8, 1, 4096, 128, "bfloat16"),
    DecodeShape(8, 32, 8, 1, 1000, 128, "float16"),
    DecodeShape(1, 32, 8, 1, 1000, 128, "float16"),
    DecodeShape(32, 32, 8, 1, 512, 128, "bfloat16"),
    DecodeShape(8, 32, 8, 1, 4096, 128, "float16", "lengths"),
    DecodeShape(1, 32, 8, 8, 8192, 128, "bfloat16", "tree"),
)


def cases() -> list[KernelCase]:
    """One case per shape."""
    return [_case(shape) for shape in SHAPES]


def _case(shape: DecodeShape) -> KernelCase:
    def attended(query: Any, key: Any, value: Any, *extras: Any) -> Any:
        return _sdpa(shape, query, key, value, *extras)

    peers = {f"torch SDPA {engine.lower()}": _engine(attended, engine) for engine in ENGINES}
    return KernelCase(
        name=shape.name,
        family="attention_decode",
        model=partial(_model, shape),
        inputs=partial(_inputs, shape),
        reference=partial(_reference, shape),
        n_bytes=shape.n_bytes,
        tolerance=5e-3 if shape.dtype == "float16" else 3e-2,
        peers={
            "torch SDPA": direct(attended),
            **peers,
            "FlexAttention": _flex(shape),
            **{name: _flashinfer(shape, cores) for name, cores in PEERS.items()},
            "torch eager": direct(partial(_eager, shape)),
        },
    )


def _model(shape: DecodeShape) -> onnx.ModelProto:
    types = {"mask": TensorProto.BOOL, "lengths": TensorProto.INT64}
    inputs = [
        helper.make_tensor_value_info(name, types.get(name, TYPES[shape.dtype]), extents)
        for name, extents in shape.shapes.items()
    ]
    result = helper.make_tensor_value_info("y", TYPES[shape.dtype], shape.shapes["q"])
    extra = {"": [], "tree": ["mask"], "lengths": ["", "", "", "lengths"]}[shape.extra]
    node = helper.make_node("Attention", ["q", "k", "v", *extra], ["y"])
    graph = helper.make_graph([node], "decode", inputs, [result])
    opsets = [helper.make_opsetid("", OPSET_OF_LENGTHS)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _inputs(shape: DecodeShape, seed: int) -> list[Any]:
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    kind = getattr(torch, shape.dtype)
    made = [
        torch.randn(extents, device="cuda", dtype=kind, generator=generator)
        for extents in list(shape.shapes.values())[:3]
    ]
    if shape.extra == "tree":
        made.append(_tree(shape))
    if shape.extra == "lengths":
        made.append(torch.tensor(shape.lengths, device="cuda"))
    return made


def _tree(shape: DecodeShape) -> Any:
    """Node ``i`` hangs on node ``(i - 1) // 2``; the nodes are the last keys."""
    import torch

    first = shape.keys - shape.queries
    mask = torch.ones(shape.queries, shape.keys, dtype=torch.bool)
    mask[:, first:] = False
    for node in range(shape.queries):
        above = node
        while above > 0:
            mask[node, first + above] = True
            above = (above - 1) // 2
        mask[node, first] = True
    return mask.cuda()


def _mask(shape: DecodeShape, extras: Tensors) -> Any:
    """Where a key may be attended, broadcasting to the scores; ``None`` for everywhere."""
    import torch

    if shape.extra == "tree":
        return extras[0]
    if shape.extra == "lengths":
        return (torch.arange(shape.keys, device="cuda") < extras[0][:, None])[:, None, None]
    return None


def _sdpa(shape: DecodeShape, query: Any, key: Any, value: Any, *extras: Any) -> Any:
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=_mask(shape, extras),
        enable_gqa=shape.heads != shape.kv_heads,
    )


def _engine(function: Callable[..., Any], engine: str) -> Peer:
    """A peer that may use one engine only; ones that cannot serve the shape raise."""

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        from torch.nn import attention

        def launch() -> Any:
            with attention.sdpa_kernel(getattr(attention.SDPBackend, engine)):
                return function(*inputs)

        return launch

    return prepare


def _flex(shape: DecodeShape) -> Peer:
    """Inductor's split-key kernel; masks are block masks, made beforehand."""
    grouped = shape.heads != shape.kv_heads

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        query, key, value, *extras = inputs
        blocks = None
        if extras:
            (extra,) = extras

            def seen(b: Any, h: Any, q: Any, k: Any) -> Any:
                return extra[q, k] if shape.extra == "tree" else k < extra[b]

            n = shape.batch if shape.extra == "lengths" else None
            blocks = create_block_mask(seen, n, None, shape.queries, shape.keys)

        def attended(query: Any, key: Any, value: Any) -> Any:
            return flex_attention(query, key, value, block_mask=blocks, enable_gqa=grouped)

        return inductor(attended)([query, key, value])

    return prepare


def _flashinfer(shape: DecodeShape, tensor_cores: bool) -> Peer:
    """The tensors are read where they lie, as pages."""

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        if shape.queries > 1:
            raise NotImplementedError("FlashInfer's decode has one query and no mask")
        query, key, value, *_ = inputs
        keys, table = as_pages(key)
        values, _ = as_pages(value)
        return paged_decode(query, (keys, values), table, shape.lengths, tensor_cores=tensor_cores)

    return prepare


def _grouped(shape: DecodeShape, query: Any) -> Any:
    """Queries with the rows of a key head side by side."""
    rows = shape.heads // shape.kv_heads * shape.queries
    return query.reshape(shape.batch, shape.kv_heads, rows, shape.width)


def _eager(shape: DecodeShape, query: Any, key: Any, value: Any, *extras: Any) -> Any:
    """Matmul, softmax, matmul."""
    import torch

    scores = _grouped(shape, query) @ key.transpose(-1, -2) * shape.width**-0.5
    mask = _mask(shape, extras)
    if mask is not None:
        group = shape.heads // shape.kv_heads
        rows = mask.repeat(group, 1) if shape.extra == "tree" else mask
        scores = scores.masked_fill(~rows, -torch.inf)
    return (torch.softmax(scores, -1) @ value).reshape(query.shape)


def _reference(shape: DecodeShape, inputs: Tensors) -> Tensors:
    """The whole output, one sequence after the other."""
    import torch

    query, key, value, *extras = inputs
    outputs = []
    for b in range(shape.batch):
        part = DecodeShape(
            1, shape.heads, shape.kv_heads, shape.queries, shape.keys, shape.width, "", shape.extra
        )
        some = [extra[b : b + 1] if shape.extra == "lengths" else extra for extra in extras]
        doubles = [x[b : b + 1].double() for x in (query, key, value)]
        outputs.append(_eager(part, *doubles, *some))
    return [torch.cat(outputs)]
