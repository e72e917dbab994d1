"""Matrix products against cuBLAS through torch, the larger ones also against Inductor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from effcompile.bench.kernels.case import KernelCase, Peer, Tensors, direct, inductor
from effcompile.bench.single_ops import matmul_model
from schedules.dtypes import ELEMENT_BYTES

SHAPES = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (16, 4096, 4096),
    (2048, 11008, 4096),
)
"""Rows, columns, terms of products in float16."""

FEW_ROWS = ((1, 4096, 4096), (1, 16384, 8192), (8, 16384, 16384))
"""Likewise, of the kind that generates text."""

FLOAT32_SHAPES = (
    (128, 256, 1024),
    (128, 1024, 256),
    (128, 768, 256),
    (128, 256, 256),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (1, 4096, 4096),
    (16, 4096, 4096),
)
"""Products whose sums and factors are float32; the first four are those of the example block."""

COMPARED_ROWS = 256
TOLERANCES = {"float16": 1e-2, "float32": 1e-4}
"""Of float32: tight enough to tell products whose factors were rounded to TF32."""


def cases() -> list[KernelCase]:
    """One case per shape and element type."""
    cublas = {"torch.matmul (cuBLAS)": direct(_matmul)}
    # Inductor tunes for minutes per shape, so the small ones are not compared with it.
    both = {**cublas, "inductor max-autotune": inductor(_matmul)}
    return [
        *(_case(*shape, "float16", peers=both) for shape in SHAPES),
        *(_case(*shape, "float16", peers=cublas) for shape in FEW_ROWS),
        *(_case(*shape, "float32", peers=cublas) for shape in FLOAT32_SHAPES),
    ]


def _case(m: int, n: int, k: int, dtype: str, *, peers: dict[str, Peer]) -> KernelCase:
    return KernelCase(
        name=f"matmul-{m}x{n}x{k}-{dtype}",
        family="matmul",
        model=partial(matmul_model, m, n, k, dtype),
        inputs=_inputs(m, n, k, dtype),
        reference=_reference,
        sample=lambda outputs: [_some_rows(outputs[0])],
        n_bytes=ELEMENT_BYTES[dtype] * (m * k + k * n + m * n),
        n_flops=2 * m * n * k,
        tolerance=TOLERANCES[dtype],
        peers=peers,
    )


def _inputs(m: int, n: int, k: int, dtype: str) -> Callable[[int], list[Any]]:
    def inputs(seed: int) -> list[Any]:
        import torch

        generator = torch.Generator("cuda").manual_seed(seed)
        return [
            torch.randn(shape, device="cuda", dtype=getattr(torch, dtype), generator=generator)
            for shape in ((m, k), (k, n))
        ]

    return inputs


def _matmul(a: Any, b: Any) -> Any:
    """torch multiplies float32 as such unless told otherwise (TF32 is off by default)."""
    return a @ b


def _reference(inputs: Tensors) -> Tensors:
    a, b = inputs
    return [_some_rows(a).double() @ b.double()]


def _some_rows(x: Any) -> Any:
    """First and last rows: enough to see a wrong kernel, small enough to compare."""
    import torch

    return torch.cat([x[:COMPARED_ROWS], x[-COMPARED_ROWS:]])
