"""Products that unpack a matrix in registers: what is covered, limits, machine code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.errors import UnknownSpace
from schedules.gemm_fused import GemmFusedSpace, gemm_fused_space
from schedules.gemm_fused_cuda import piece_groups, steps_per_split
from schedules.gemv_dequant_problem import GemvProblem, gemv_problem
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.building import built
from tests.schedules.gemv_workloads import gemv_workload

HOPPER = known_target("h200")


def space_of(*sizes: Any, **rest: Any) -> GemmFusedSpace:
    return GemmFusedSpace(Task(workload=gemv_workload(*sizes, **rest), target=HOPPER))


def problem_of(*sizes: Any, **rest: Any) -> GemvProblem:
    problem = gemv_problem(gemv_workload(*sizes, **rest))
    assert problem is not None
    return problem


def test_what_is_covered() -> None:
    def covered(*sizes: Any, device: str = "h200", **rest: Any) -> bool:
        task = Task(workload=gemv_workload(*sizes, **rest), target=known_target(device))
        return gemm_fused_space(task) is not None

    assert covered(512, 256, 512, 4, 128)
    assert covered(512, 256, 512, 8, 128)
    assert covered(512, 256, 512, 3, 64, dtype="bfloat16", gated=True, zeros=True)
    assert covered(32, (256, 64), 512, 2, 128, bias=True)
    assert not covered(512, 256, 512, 4, 128, device="a100")
    assert not covered(512, 256, 512, 8, 128, dtype="bfloat16")
    assert not covered(512, 256, 512, 4, 128, dtype="float32")
    assert not covered(512, 256, 512, 4, 128, x_scales="row")
    assert not covered(512, 256, 516, 4, 128)
    assert not covered(16, 256, 512, 4, 128)
    assert not covered(512, 256, 512, 4, 128, gated=True, bias=True)
    with pytest.raises(UnknownSpace, match="expected 17 rows"):
        space_of(16, 256, 512, 4, 128)


def test_sums_are_split_where_they_have_one_place() -> None:
    def splits(*sizes: Any, **rest: Any) -> set[Any]:
        return {point["splits"] for point in space_of(*sizes, **rest).points}

    assert splits(64, 256, 4096, 4, 128) == {1, 2, 4}
    assert splits(64, (256, 64), 4096, 4, 128) == {1}
    assert splits(64, 256, 4096, 4, 128, gated=True) == {1}
    assert splits(64, 256, 64, 4, 64) == {1}


@pytest.mark.parametrize(
    ("bits", "block", "groups"), [(4, 32, 2), (4, 128, 1), (8, 96, 2), (3, 64, 4), (2, 32, 4)]
)
def test_groups_of_a_piece(bits: int, block: int, groups: int) -> None:
    assert piece_groups(problem_of(64, 64, 768, bits, block)) == groups


def test_parts_of_a_sum_are_whole_pieces() -> None:
    assert steps_per_split(problem_of(64, 64, 520, 4, 64), 2) == 5
    assert steps_per_split(problem_of(64, 64, 520, 3, 64), 2) == 8


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("bits", "dtype"), [(4, "bfloat16"), (8, "float16")])
def test_the_widest_points_keep_their_registers(bits: int, dtype: str, tmp_path: Path) -> None:
    space = space_of(512, 1000, 1024, bits, 128, dtype=dtype, zeros=True, residual=True)
    widest = max(space.points, key=lambda point: (point["multipliers"] == 2, point["tile_column"]))
    build = built(space.program_module(widest), HOPPER, tmp_path)
    (kernel,) = build.stats.kernels[:1]
    assert kernel.spill_bytes == 0
    assert kernel.block == (384, 1, 1)


def test_points_differ_in_what_they_know() -> None:
    space = space_of(300, 200, 520, 4, 64)
    features = space.features(space.sample(20, np.random.default_rng(0)))
    assert len(np.unique(features, axis=0)) == len(features)
