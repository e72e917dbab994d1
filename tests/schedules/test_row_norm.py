"""The row norm family without a GPU: what it covers, legal points that compile for CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.defaults import DefaultSpace
from schedules.families import own_spaces
from schedules.row_norm import RowNormSpace, row_norm_space
from schedules.row_norm_problem import row_norm_problem
from schedules.space import DesignSpace
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.building import assert_points_compile
from tests.schedules.merge_workloads import CPU
from tests.schedules.norm_workloads import norm, small_workloads

SMALL = small_workloads()
H200 = known_target("h200")


@pytest.mark.parametrize("name", SMALL)
def test_default_programs_are_right(name: str, run_on_cpu: Callable[..., Any]) -> None:
    task = Task(workload=SMALL[name], target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None


def test_scale_and_shift_are_part_of_the_norm() -> None:
    problem = row_norm_problem(SMALL["layer, bias, modulated"])
    assert problem is not None
    assert (problem.groups, problem.n_rows, problem.has_bias, problem.centred) == (
        4,
        28,
        True,
        True,
    )


def test_a_sum_is_part_of_the_norm() -> None:
    problem = row_norm_problem(SMALL["layer of places, modulated"])
    assert problem is not None
    assert (problem.n_rows, problem.residual_rows, problem.keeps_sum) == (28, 7, True)
    problem = row_norm_problem(SMALL["layer of a sum"])
    assert problem is not None
    assert (problem.residual_rows, problem.keeps_sum, problem.has_bias) == (33, False, True)


def test_family_is_found_for_cuda_alone() -> None:
    assert own_spaces(Task(workload=SMALL["layer"], target=H200))[0].name == "row_norm"
    assert row_norm_space(Task(workload=SMALL["layer"], target=CPU)) is None


def test_rows_too_long_for_registers_are_left_to_others(softmax: Callable[..., Workload]) -> None:
    assert row_norm_space(Task(workload=norm((2, 262144), "float32"), target=H200)) is None
    assert row_norm_space(Task(workload=softmax((4, 8)), target=H200)) is None


def test_points_compile_without_spills(tmp_path: Path) -> None:
    for name in ("layer, bias, modulated", "rms", "rms of a sum that stays"):
        space = RowNormSpace(Task(workload=SMALL[name], target=H200))
        assert_points_compile(space, H200, tmp_path)


@pytest.mark.parametrize("width", [64, 768, 3072, 4096, 5120, 8192, 18944])
def test_widths_of_models_have_a_choice_of_points(width: int) -> None:
    space = RowNormSpace(Task(workload=norm((512, width), "bfloat16"), target=H200))
    assert 8 <= len(space.points) <= 400
