"""The merge family without a GPU: meaning on the CPU, legal points that compile for CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules import expected
from schedules.defaults import DefaultSpace
from schedules.inputs import make_inputs
from schedules.limits import require_launchable
from schedules.merge import MergeSpace, merge_space
from schedules.merge_problem import MergeProblem, merge_problem
from schedules.reference import compute_reference, references_of
from schedules.space import DesignSpace
from schedules.spaces import spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.building import built
from tests.schedules.merge_workloads import CPU, cosine, mean, mixture, partials, small_workloads

SMALL = small_workloads()
H200 = known_target("h200")


def space_of(workload: Workload, target: Target = H200) -> MergeSpace:
    space = merge_space(Task(workload=workload, target=target))
    assert isinstance(space, MergeSpace)
    return space


def problem_of(workload: Workload) -> MergeProblem:
    problem = merge_problem(workload)
    assert problem is not None
    return problem


@pytest.mark.parametrize("name", SMALL)
def test_default_programs_mean_what_the_references_say(
    name: str, run_on_cpu: Callable[..., Any]
) -> None:
    task = Task(workload=SMALL[name], target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None


@pytest.mark.parametrize("name", SMALL)
def test_family_is_found_for_cuda_alone(name: str) -> None:
    assert "merge" in spaces_for(Task(workload=SMALL[name], target=H200))
    assert merge_space(Task(workload=SMALL[name], target=CPU)) is None


def test_other_workloads_are_left_alone(softmax: Callable[..., Workload]) -> None:
    assert merge_space(Task(workload=softmax((4, 8)), target=H200)) is None
    assert merge_space(Task(workload=cosine(4, 8, "float64", 2), target=H200)) is None


def test_one_group_per_frame_merges_a_hand_worked_example() -> None:
    workload = mean((1, 5, 2), 3, "float32")
    x = np.array([[[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]], dtype=np.float32)
    starts, rows = np.array([0, 3, 3, 5], np.int32), np.array([4, 0, 2, 1, 3], np.int32)
    (found,) = compute_reference(workload, [x, rows, starts])
    assert found.tolist() == [[[5, 6], [0, 0], [5, 6]]]


@pytest.mark.parametrize("name", SMALL)
def test_points_compile_without_spills(name: str, tmp_path: Path) -> None:
    space = space_of(SMALL[name])
    assert len(space.points) >= 20
    for candidate in space.sample(2, np.random.default_rng(0)):
        build = built(space.realise(candidate), H200, tmp_path)
        require_launchable(build.stats, H200)
        (kernel,) = build.stats.kernels
        assert kernel.spill_bytes == 0, candidate.decisions


@pytest.mark.parametrize(
    "workload",
    [
        mixture("GatherRows", (3, 60, 8), 50, "float16"),
        mixture("BlendRows", (3, 40, 8), 50, "bfloat16"),
        mixture("RenoiseRows", (3, 60, 8), 50, "bfloat16"),
        mixture("SelectRows", (3, 60, 8), 50, "float16"),
        mean((3, 60, 8), 50, "bfloat16", longest=3),
    ],
    ids=lambda workload: workload.op,
)
def test_a_sample_has_the_rows_of_the_whole(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = make_inputs(workload, seed=0)
    (whole,) = compute_reference(workload, inputs)
    monkeypatch.setattr(expected, "MOST_ELEMENTS", whole.size // 2)
    (found,) = references_of(workload, inputs)
    assert found.rows is not None and len(found.rows) < 120
    np.testing.assert_array_equal(found.values, found.known(whole))
    assert found.limits[0] <= whole.min() and whole.max() <= found.limits[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("width", [1, 8, 17, 128])
def test_a_single_narrow_row_has_points(width: int, dtype: str) -> None:
    for workload in (
        mean((1, 60, width), 1, dtype, listed=False),
        mixture("BlendRows", (1, 3, width), 1, dtype),
        cosine(2, width, dtype, 1),
        partials(2, 1, width, dtype),
    ):
        assert "merge" in spaces_for(Task(workload=workload, target=H200))


LARGE = {
    "cosine": lambda: cosine(13440, 3584, "bfloat16", 210),
    "mean": lambda: mean((1, 13440, 3584), 4032, "bfloat16", longest=64),
    "select": lambda: mixture("SelectRows", (4429, 24, 64), 24, "float16"),
    "blend": lambda: mixture("BlendRows", (16, 17, 8160), 25, "float32"),
}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["h200", "a100"])
@pytest.mark.parametrize("name", LARGE)
def test_random_and_extreme_points_of_real_sizes_compile(
    name: str, arch: str, tmp_path: Path
) -> None:
    target = known_target(arch)
    space = space_of(LARGE[name](), target)
    ends = [space.candidate(space.points[index]) for index in (0, -1)]
    spilled = []
    n_random = 10 if arch == "h200" and name in ("cosine", "mean") else 4
    for candidate in [*ends, *space.sample(n_random, np.random.default_rng(1))]:
        build = built(space.realise(candidate), target, tmp_path)
        spilled.append(build.stats.kernels[0].spill_bytes or 0)
    # Blocks of many threads may keep a few words outside of registers, once per row.
    assert max(spilled) <= 96, spilled
    assert sum(one > 0 for one in spilled) <= len(spilled) // 4, spilled


@pytest.mark.parametrize("name", LARGE)
def test_large_spaces_are_searchable(name: str) -> None:
    space = space_of(LARGE[name]())
    assert 100 <= len(space.points) <= 6000
    problem = problem_of(LARGE[name]())
    for point in space.points:
        assert problem.width % int(point["vector"]) == 0
