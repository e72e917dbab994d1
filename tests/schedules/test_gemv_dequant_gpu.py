"""Products with packed quantised matrices on a GPU, from the simplest to the largest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from schedules.gemv_dequant import GemvDequantSpace
from schedules.inputs import make_data
from schedules.task import Task
from search.trial import Build
from tests.schedules.gemv_runs import Kernels
from tests.schedules.gemv_workloads import gemv_workload

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN: dict[str, int | str] = {
    "warps_k": 1,
    "warps_n": 1,
    "blocks_per_core": 1,
    "blocks_k": 1,
    "in_flight": 1,
    "bulk": 0,
    "floats": 0,
}
BIASED = {"zeros": True, "bias": True}
# (rows, columns, depth, bits, block), dtype, what else
SHAPES: list[tuple[tuple[Any, ...], str, dict[str, Any]]] = [
    ((1, 16, 64, 4, 64), "float16", {}),
    ((1, 16, 64, 4, 64), "bfloat16", {}),
    ((1, 16, 64, 4, 64), "float32", {}),
    ((1, 16, 256, 3, 128), "float16", {}),
    ((1, 16, 256, 3, 128), "bfloat16", {}),
    ((1, 16, 128, 2, 64), "float16", {}),
    ((1, 16, 128, 2, 64), "bfloat16", {}),
    ((1, 16, 32, 8, 32), "float16", {}),
    ((1, 16, 32, 8, 32), "bfloat16", {}),
    ((8, 48, 512, 4, 128), "float16", BIASED),
    ((16, 48, 512, 3, 64), "bfloat16", BIASED),
    ((2, 33, 1000, 4, 32), "bfloat16", {"zeros": True}),
    ((3, 100, 520, 3, 64), "float16", BIASED),
    ((5, 7, 300, 2, 32), "float16", {"zeros": True}),
    ((9, 50, 130, 8, 64), "bfloat16", BIASED),
    ((1, 1, 33, 4, 33), "float16", {"bias": True}),
    ((20, 64, 777, 8, 777), "float16", {}),
    ((33, 65, 1024, 2, 256), "bfloat16", {"zeros": True}),
    ((1, 4096, 4096, 4, 128), "float16", {}),
    ((1, 4096, 4096, 4, 128), "bfloat16", {"zeros": True}),
    ((4, 3584, 18944, 3, 128), "bfloat16", {"zeros": True}),
    ((16, 11008, 4096, 3, 128), "float16", {"bias": True}),
    # Enough rows for floats.
    ((64, 2048, 4096, 4, 128), "bfloat16", {}),
    ((40, 100, 520, 2, 32), "float16", BIASED),
    ((17, 40, 384, 8, 128), "float16", {"zeros": True}),
    # Endings.
    ((1, 16, 64, 4, 64), "float16", {"activation": "silu"}),
    ((3, 40, 256, 4, 128), "bfloat16", {"activation": "gelu", **BIASED}),
    ((2, 24, 256, 3, 128), "float32", {"activation": "gelu_tanh", "residual": True}),
    ((1, 16, 64, 4, 64), "bfloat16", {"activation": "silu", "gated": True}),
    ((3, 41, 300, 4, 32), "float16", {"activation": "silu", "gated": True, **BIASED}),
    ((2, 1000, 1024, 3, 128), "bfloat16", {"activation": "silu", "gated": True}),
    ((1, 4096, 1024, 4, 128), "float16", {"residual": True}),
    ((7, 33, 515, 8, 64), "float16", {"activation": "relu", "residual": True, **BIASED}),
    # Several outputs.
    ((1, (16, 16), 64, 4, 64), "float16", {}),
    ((3, (40, 16, 7), 128, 4, 64), "bfloat16", {"bias": True}),
    ((1, (3584, 512, 512), 3584, 3, 128), "bfloat16", BIASED),
    # Whole numbers of eight bits.
    ((1, 16, 64, 4, 64), "float16", {"x_scales": "tensor"}),
    ((1, 16, 32, 8, 32), "float32", {"x_scales": "tensor"}),
    ((50, 24, 256, 4, 64), "float16", {"x_scales": "row", **BIASED}),
    ((3, 100, 123, 8, 32), "float32", {"x_scales": "row", "residual": True}),
    ((16, 4096, 4096, 4, 4096), "bfloat16", {"x_scales": "row"}),
    ((2, 40, 256, 3, 128), "bfloat16", {"x_scales": "row", "gated": True, "activation": "silu"}),
    ((5, (40, 24), 512, 2, 64), "float16", {"x_scales": "tensor", "zeros": True}),
]
CHAINED: tuple[tuple[Any, ...], str, dict[str, Any]] = ((1, 1024, 1024, 4, 128), "bfloat16", {})
SHAPES.append(CHAINED)
N_CHAINED = 20


def any_point(task: Task) -> GemvDequantSpace:
    """All points that can run, however slow."""
    return GemvDequantSpace(task, patience=1e9)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    workloads = [gemv_workload(*sizes, dtype=dtype, **rest) for sizes, dtype, rest in SHAPES]
    made = Kernels(tmp_path_factory.mktemp("gemv"), workloads, any_point, PLAIN)
    yield made
    made.close()


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=[str(shape) for shape in SHAPES])
def test_random_points_are_right(kernels: Kernels, index: int) -> None:
    faults = kernels.faults(index)
    assert not faults, "\n".join(faults)


def test_products_in_a_row_wait_for_each_other(kernels: Kernels) -> None:
    """Each kernel may start while the one before still runs; its x is that one's y."""
    from effcompile.measure.session import load_runtime

    index = SHAPES.index(CHAINED)
    workload = kernels.workloads[index]
    arrays = make_data(workload, 3).inputs
    builds = [future.result() for _, future in kernels.builds[index]]
    load_runtime("cuda")
    import tvm

    device = tvm.cuda(0)
    weights = [tvm.runtime.empty(one.shape, one.dtype, device) for one in workload.inputs[1:]]
    for tensor, array in zip(weights, arrays[1:], strict=True):
        tensor.copyfrom(np.ascontiguousarray(array))
    spec = workload.inputs[0]
    rows = [tvm.runtime.empty(spec.shape, spec.dtype, device) for _ in range(3)]

    def chained(function: Any, *, apart: bool) -> np.ndarray:
        rows[0].copyfrom(np.ascontiguousarray(arrays[0]))
        for step in range(N_CHAINED):
            function(rows[step % 3], *weights, rows[(step + 1) % 3])
            if apart:
                device.sync()
        device.sync()
        return np.asarray(rows[N_CHAINED % 3].numpy())

    for build in builds:
        assert isinstance(build, Build), build
        function = tvm.runtime.load_module(build.library_path)["main"]
        expected = chained(function, apart=True)
        assert np.isfinite(expected.astype(np.float32)).all()
        assert np.abs(expected.astype(np.float32)).max() > 0
        for _ in range(20):
            np.testing.assert_array_equal(chained(function, apart=False), expected)
