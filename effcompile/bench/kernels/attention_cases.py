"""Dense attention, against torch's scaled dot-product attention, each of its engines alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors
from effcompile.bench.single_ops import attention_model

COMPARED_ROWS = 64
ENGINES = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION")


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Batch, query heads, key heads, queries, keys, width; whether causal; dtype."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    causal: bool = False
    dtype: str = "float16"

    @property
    def name(self) -> str:
        """For example ``attention-1x24x4429x64-float16``."""
        heads = str(self.heads)
        if self.kv_heads != self.heads:
            heads += f"q{self.kv_heads}kv"
        tokens = str(self.queries)
        if self.keys != self.queries:
            tokens += f"q{self.keys}k"
        causal = "-causal" if self.causal else ""
        return f"attention-{self.batch}x{heads}x{tokens}x{self.width}-{self.dtype}{causal}"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of query, key and value."""
        kv = (self.batch, self.kv_heads, self.keys, self.width)
        return [(self.batch, self.heads, self.queries, self.width), kv, kv]

    @property
    def n_flops(self) -> int:
        """Of both products; causal ones count the pairs that are attended."""
        pairs = self.queries * self.keys
        if self.causal:
            pairs = sum(min(self.keys, query + 1) for query in range(self.queries))
        return 4 * self.batch * self.heads * pairs * self.width


SHAPES = (
    AttentionShape(1, 24, 24, 16896, 16896, 128),
    AttentionShape(1, 24, 24, 4608, 4608, 128),
    AttentionShape(1, 24, 24, 4429, 4429, 64),
    AttentionShape(2, 16, 16, 4096, 4096, 72),
    AttentionShape(1, 32, 8, 8192, 8192, 128, causal=True),
    AttentionShape(2, 32, 32, 2048, 2048, 128, causal=True, dtype="bfloat16"),
)


def cases() -> list[KernelCase]:
    """One case per shape."""
    return [_case(shape) for shape in SHAPES]


def _case(shape: AttentionShape) -> KernelCase:
    query, key, _ = shape.shapes
    tokens = shape.batch * (shape.heads * shape.queries + shape.kv_heads * shape.keys)
    return KernelCase(
        name=shape.name,
        family="attention",
        model=partial(attention_model, query, key, shape.dtype, causal=shape.causal),
        inputs=_inputs(shape),
        reference=_reference(shape),
        sample=lambda outputs: [_some_rows(outputs[0])],
        n_bytes=2 * 2 * tokens * shape.width,
        n_flops=shape.n_flops,
        tolerance=5e-3 if shape.dtype == "float16" else 3e-2,
        peers={f"torch SDPA {engine.lower()}": _engine(shape, engine) for engine in ENGINES},
    )


def _inputs(shape: AttentionShape) -> Callable[[int], list[Any]]:
    def inputs(seed: int) -> list[Any]:
        import torch

        generator = torch.Generator("cuda").manual_seed(seed)
        kind = getattr(torch, shape.dtype)
        return [
            torch.randn(one, device="cuda", dtype=kind, generator=generator) for one in shape.shapes
        ]

    return inputs


def _engine(shape: AttentionShape, engine: str) -> Peer:
    """A peer that may use one engine only; ones that cannot serve the shape raise."""

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        from torch.nn import attention
        from torch.nn.functional import scaled_dot_product_attention

        query, key, value = inputs

        def launch() -> Any:
            with attention.sdpa_kernel(getattr(attention.SDPBackend, engine)):
                return scaled_dot_product_attention(
                    query,
                    key,
                    value,
                    is_causal=shape.causal,
                    enable_gqa=shape.heads != shape.kv_heads,
                )

        return launch

    return prepare


def _reference(shape: AttentionShape) -> Callable[[Tensors], Tensors]:
    """The compared rows, one head after the other: float64 scores of all heads are large."""

    def reference(inputs: Tensors) -> Tensors:
        import torch

        query, key, value = inputs
        rows = _some_rows(query)
        positions = _some_rows(torch.arange(shape.queries, device=query.device)[:, None])
        later = torch.arange(shape.keys, device=query.device)[None, :] > positions
        wanted = torch.empty(rows.shape, dtype=torch.float64, device=query.device)
        for b in range(shape.batch):
            for h in range(shape.heads):
                kv = h // (shape.heads // shape.kv_heads)
                scores = rows[b, h].double() @ key[b, kv].double().T * shape.width**-0.5
                if shape.causal:
                    scores = scores.masked_fill(later, -torch.inf)
                wanted[b, h] = torch.softmax(scores, -1) @ value[b, kv].double()
        return [wanted]

    return reference


def _some_rows(x: Any) -> Any:
    """First and last tokens of every head."""
    import torch

    return torch.cat([x[..., :COMPARED_ROWS, :], x[..., -COMPARED_ROWS:, :]], dim=-2)
