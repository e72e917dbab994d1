"""Norms with an ending without a GPU: what is covered, numbers, points that compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.defaults import DefaultSpace
from schedules.families import own_spaces
from schedules.head_norm import HeadNormSpace, head_norm_space
from schedules.head_norm_cuda import HeadNormSchedule, head_norm_launch
from schedules.head_norm_problem import head_norm_problem
from schedules.space import DesignSpace
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.building import assert_points_compile
from tests.schedules.elementwise_emulation import Emulation
from tests.schedules.head_norm_workloads import head_norm, queries, small_workloads
from tests.schedules.merge_workloads import CPU

SMALL = small_workloads()
H200 = known_target("h200")


def space_of(name: str) -> HeadNormSpace:
    space = head_norm_space(Task(workload=SMALL[name], target=H200))
    assert isinstance(space, HeadNormSpace), name
    return space


def schedules_of(space: HeadNormSpace) -> list[HeadNormSchedule]:
    """One thread per row, which needs no other: every vector width, in different orders of rows."""
    orders = next(knob.values for knob in space.knobs if knob.name == "inner")
    return [
        HeadNormSchedule(vector=vector, lanes=1, height=5, inner=int(orders[-i]), streams=False)
        for i, vector in enumerate(space.lanes)
    ]


@pytest.fixture(scope="module")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    programs = {}
    for name, workload in SMALL.items():
        space, problem = space_of(name), head_norm_problem(workload)
        assert problem is not None
        launches = [
            head_norm_launch(problem, space.lanes[one.vector], one) for one in schedules_of(space)
        ]
        programs[name] = (workload, launches)
    return Emulation(programs, tmp_path_factory.mktemp("head_norm"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SMALL)
def test_texts_compute_what_the_program_says(name: str, emulation: Emulation) -> None:
    emulation.assert_right(name)


@pytest.mark.parametrize("name", SMALL)
def test_default_programs_are_right(name: str, run_on_cpu: Callable[..., Any]) -> None:
    task = Task(workload=SMALL[name], target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None


SOURCES = {
    "halves": [("true", 64)],
    "pairs, text first": [("(v_ax2 < 5)", 40), ("(5 <= v_ax2)", 40)],
    "pairs of image only": [("(v_ax2 < 12)", 64), ("(12 <= v_ax2)", 64)],
    "heads side by side": [("true", 24)],
    "slice alone": [("true", 48)],
    "beside plain rows": [("(v_ax2 < 5)", 32)],
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_row_has_one_source(name: str) -> None:
    problem = head_norm_problem(SMALL[name])
    assert problem is not None
    assert [(one.guard, one.aligned) for one in problem.sources] == SOURCES[name]
    assert problem.n_rows * problem.width == np.prod(SMALL[name].outputs[0].shape)


def test_family_is_found_for_cuda_alone() -> None:
    (space,) = own_spaces(Task(workload=SMALL["halves"], target=H200))
    assert space.name == "head_norm"
    assert head_norm_space(Task(workload=SMALL["halves"], target=CPU)) is None


def test_points_compile_without_spills(tmp_path: Path) -> None:
    for target, name in ((H200, "pairs, text first"), (known_target("a100"), "gathered angles")):
        space = HeadNormSpace(Task(workload=SMALL[name], target=target))
        assert_points_compile(space, target, tmp_path)


@pytest.mark.parametrize("width", [64, 72, 128, 256])
def test_widths_of_models_have_a_choice_of_points(width: int) -> None:
    workload = head_norm(queries("bfloat16", 1, 512, 24, width))
    space = HeadNormSpace(Task(workload=workload, target=H200))
    assert 40 <= len(space.points) <= 1000
