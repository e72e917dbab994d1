"""Products of many rows with packed matrices on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schedules.gemm_dequant import GemmDequantSpace
from schedules.gemm_fused import GemmFusedSpace
from tests.schedules.gemv_runs import Kernels
from tests.schedules.gemv_workloads import gemv_workload

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

# (rows, columns, depth, bits, block), dtype, what else
SHAPES: list[tuple[tuple[Any, ...], str, dict[str, Any]]] = [
    ((17, 64, 128, 4, 64), "float16", {}),
    ((100, 200, 520, 3, 64), "bfloat16", {"zeros": True, "bias": True, "activation": "silu"}),
    ((333, 1000, 264, 8, 264), "float16", {"residual": True, "activation": "gelu_tanh"}),
    ((512, 2048, 2048, 4, 128), "bfloat16", {"bias": True, "residual": True}),
    ((300, (200, 64, 40), 520, 4, 520), "float16", {"bias": True}),
    ((300, 200, 520, 3, 64), "bfloat16", {"gated": True, "activation": "silu", "zeros": True}),
    ((100, 200, 520, 4, 64), "bfloat16", {"zeros": True, "bias": True, "activation": "silu"}),
    ((70, 24, 1024, 2, 32), "float16", {"zeros": True, "activation": "relu"}),
    ((128, 200, 520, 8, 520), "float32", {"bias": True, "activation": "gelu"}),
]


# Codes become 16-bit floats in the second, so the last shape is none of it.
SPACES = {"gemm_dequant": (GemmDequantSpace, SHAPES), "gemm_fused": (GemmFusedSpace, SHAPES[:-1])}


@pytest.fixture(scope="module", params=SPACES)
def kernels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernels]:
    space, shapes = SPACES[request.param]
    workloads = [gemv_workload(*sizes, dtype=dtype, **rest) for sizes, dtype, rest in shapes]
    made = Kernels(tmp_path_factory.mktemp("gemm"), workloads, space)
    yield made
    made.close()


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=[str(shape) for shape in SHAPES])
def test_random_points_are_right(kernels: Kernels, index: int) -> None:
    if index >= len(kernels.workloads):
        pytest.skip("of 16-bit floats only")
    faults = kernels.faults(index)
    assert not faults, "\n".join(faults)
