"""The kernel text of the packed product, run on the CPU."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.gemv_dequant import GemvDequantSpace
from schedules.gemv_dequant_layout import GemvSchedule
from schedules.inputs import make_data
from schedules.reference import compare, compute_reference, tolerance_of
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.gemv_emulation import emulate
from tests.schedules.gemv_workloads import gemv_workload

MOST_THREADS = 128
# How blocks share the depth, and a device that has it.
KINDS = {"alone": "h200", "cluster": "h200", "launch": "a100"}
# (rows, columns, depth, bits, block), dtype, what else
PROBLEMS: list[tuple[Any, ...]] = [
    ((1, 16, 256, 4, 64), "float16", {}),
    ((16, 48, 512, 3, 64), "bfloat16", {"zeros": True, "bias": True}),
    ((9, 50, 130, 8, 64), "bfloat16", {"zeros": True}),
    ((5, 7, 300, 2, 32), "float16", {"zeros": True, "bias": True}),
    ((3, 40, 256, 4, 128), "float32", {"zeros": True, "activation": "gelu"}),
    ((2, 40, 300, 4, 32), "float16", {"gated": True, "activation": "silu", "bias": True}),
    ((3, (40, 16, 7), 128, 4, 64), "bfloat16", {"bias": True}),
    ((2, 33, 192, 4, 64), "float16", {"residual": True, "activation": "relu"}),
    ((50, 24, 256, 4, 64), "float16", {"x_scales": "row", "zeros": True, "bias": True}),
    ((2, 24, 123, 8, 32), "float32", {"x_scales": "tensor", "gated": True}),
    ((16, 48, 512, 3, 64), "bfloat16", {"zeros": True, "floats": 1}),
    ((70, 24, 300, 4, 32), "float16", {"gated": True, "floats": 1}),
    ((9, 50, 130, 8, 64), "float16", {"floats": 1}),
]


def emulated(
    problem: tuple[Any, ...], seed: int, folder: Path, kind: str
) -> tuple[str | None, str]:
    """What is wrong with a random point of a kind, and the point."""
    sizes, dtype, rest = problem
    floats = rest.get("floats", 0)
    rest = {name: value for name, value in rest.items() if name != "floats"}
    workload = gemv_workload(*sizes, dtype=dtype, **rest)
    space = GemvDequantSpace(
        Task(workload=workload, target=known_target(KINDS[kind])), patience=1e9
    )
    small = [one for one in space.points if _is_small(space.schedule(one), floats, kind)]
    if not small:
        pytest.skip("no such point")
    point = small[int(np.random.default_rng(seed).integers(len(small)))]
    data = make_data(workload, 3)
    found, fault = emulate(space, point, data.inputs, folder)
    wrong = [
        compare(one, reference.values, tolerance_of(workload))
        for one, reference in zip(found, data.references, strict=True)
    ]
    return (f"fault {fault}" if fault else next(filter(None, wrong), None)), str(point)


def _is_small(schedule: GemvSchedule, floats: int, kind: str) -> bool:
    """Whether a point is of a kind and small enough to be emulated."""
    at_once = schedule.n_threads * (schedule.blocks_k if schedule.cluster else 1)
    found = "alone" if schedule.blocks_k == 1 else "cluster" if schedule.cluster else "launch"
    return at_once <= MOST_THREADS and (schedule.floats, found) == (bool(floats), kind)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_random_points_are_right_and_stay_inside_their_memory(
    problem: tuple[Any, ...], kind: str, tmp_path: Path
) -> None:
    wrong, point = emulated(problem, 0, tmp_path, kind)
    assert wrong is None, point


# Warps along depth and columns, in flight, bulk, floats; five steps of five tiles.
FORMS: dict[str, tuple[int, ...]] = {
    "a piece per tile": (4, 1, 2, 2, 0),
    "pieces that short warps lack": (4, 1, 3, 1, 0),
    "a ring within a tile": (2, 1, 2, 1, 0),
    "registers of a tile": (4, 1, 2, 0, 0),
    "registers of one step": (2, 1, 1, 0, 0),
    "warps that bring x together": (2, 2, 1, 2, 0),
    "floats": (4, 1, 2, 2, 1),
    "floats brought together": (2, 2, 3, 0, 1),
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("form", FORMS)
def test_warps_with_several_tiles_are_right(form: str, tmp_path: Path) -> None:
    """Of one row, or of eight as floats, on a device of one core."""
    warps_k, warps_n, in_flight, bulk, floats = FORMS[form]
    workload = gemv_workload(8 if floats else 1, 80, 640, 4, 128, dtype="bfloat16", zeros=True)
    core = replace(known_target("h200"), n_cores=1)
    space = GemvDequantSpace(Task(workload=workload, target=core), patience=1e9)
    point = {
        "warps_k": warps_k,
        "warps_n": warps_n,
        "blocks_per_core": 1,
        "blocks_k": 1,
        "in_flight": in_flight,
        "bulk": bulk,
        "floats": floats,
    }
    assert space.refusal(point) is None
    data = make_data(workload, 3)
    found, fault = emulate(space, point, data.inputs, tmp_path)
    assert fault == 0
    assert compare(found[0], data.references[0].values, tolerance_of(workload)) is None


@pytest.mark.timeout(60)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_rows_of_any_size_keep_their_accuracy(tmp_path: Path) -> None:
    """x becomes whole numbers, scaled by chunks: large, tiny, uneven, empty rows and no numbers."""
    workload = gemv_workload(6, 16, 256, 4, 128, dtype="bfloat16")
    space = GemvDequantSpace(Task(workload=workload, target=known_target("h200")))
    point = {
        "warps_k": 2,
        "warps_n": 1,
        "blocks_per_core": 1,
        "blocks_k": 1,
        "in_flight": 1,
        "bulk": 1,
        "floats": 0,
    }
    data = make_data(workload, 3)
    x = data.inputs[0].astype(np.float32)
    ordinary = data.references[0].values.copy()
    x[0] *= 2.0**100
    x[1] *= 2.0**-90
    x[2, 7] = 2.0**12
    x[3] = 0.0
    x[4, 200] = np.nan
    x[5, 3] = np.inf
    inputs = [x.astype(data.inputs[0].dtype), *data.inputs[1:]]
    found, fault = emulate(space, point, inputs, tmp_path)
    assert fault == 0
    y = found[0].astype(np.float64)
    np.testing.assert_allclose(y[0] * 2.0**-100, ordinary[0], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(y[1] * 2.0**90, ordinary[1], rtol=0.02, atol=0.02)
    with np.errstate(invalid="ignore"):
        (expected,) = compute_reference(workload, inputs)
    np.testing.assert_allclose(y[2], expected[2], rtol=0.01, atol=0.01)
    assert (y[3] == 0.0).all()
    assert np.isnan(y[4:]).all()
