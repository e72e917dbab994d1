"""The elementwise family without a GPU: what it covers, words, numbers, points that compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedules.elementwise import ElementwiseSpace, elementwise_space
from schedules.elementwise_cuda import elementwise_launch
from schedules.elementwise_lanes import lanes_of
from schedules.elementwise_problem import elementwise_problem
from schedules.families import own_spaces
from schedules.knobs import Values
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.building import assert_points_compile
from tests.schedules.elementwise_emulation import Emulation
from tests.schedules.elementwise_workloads import small_workloads
from tests.schedules.merge_workloads import CPU

SMALL = small_workloads()
H200 = known_target("h200")


def space_of(name: str) -> ElementwiseSpace:
    space = elementwise_space(Task(workload=SMALL[name], target=H200))
    assert isinstance(space, ElementwiseSpace), name
    return space


def points_of(space: ElementwiseSpace) -> list[Values]:
    """One per vector width: fewest threads and vectors, or the most."""
    ends = {vector: (0, -1)[i % 2] for i, vector in enumerate(space.lanes)}
    by_width = {
        v: [p for p in space.points if (p["vector"], p["early"]) == (v, "no")] for v in space.lanes
    }
    return [points[ends[vector]] for vector, points in by_width.items()]


@pytest.fixture(scope="module")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    programs = {}
    for name, workload in SMALL.items():
        space, problem = space_of(name), elementwise_problem(workload)
        assert problem is not None
        launches = [
            elementwise_launch(problem, space.lanes[int(one["vector"])], space.schedule(one))
            for one in points_of(space)
        ]
        programs[name] = (workload, launches)
    return Emulation(programs, tmp_path_factory.mktemp("elementwise"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", SMALL)
def test_texts_compute_what_the_program_says(name: str, emulation: Emulation) -> None:
    emulation.assert_right(name)


WORDS = {
    "swiglu": {0: [4], 1: [4]},
    "gated residual": {0: [8], 1: [8], 2: [8]},
    "rope of pairs": {0: [4], 1: [2], 2: [2]},
    "rope of halves": {0: [8, 8, 8], 1: [8, 8], 2: [8, 8]},
    "nearest frames": {0: [4]},
    "heads side by side": {0: [8]},
}


@pytest.mark.parametrize("name", WORDS)
def test_neighbours_are_read_as_words(name: str) -> None:
    lanes = list(space_of(name).lanes.values())[-1]
    found: dict[int, list[int]] = {}
    for word in lanes.words:
        found.setdefault(word.buffer, []).append(word.width)
    assert found == WORDS[name]


def test_family_is_found_for_cuda_alone() -> None:
    (space,) = own_spaces(Task(workload=SMALL["gelu"], target=H200))
    assert space.name == "elementwise"
    assert elementwise_space(Task(workload=SMALL["gelu"], target=CPU)) is None


def test_sums_and_transpositions_without_words_are_left_to_others(
    softmax: Callable[..., Workload], describe: Callable[..., Workload]
) -> None:
    assert elementwise_problem(softmax((4, 8))) is None
    from tvm import topi

    turned = describe(lambda a: topi.transpose(a, (1, 0)), ((64, 96), "float16"))
    space = elementwise_space(Task(workload=turned, target=H200))
    assert space is not None and list(space.lanes) == [1]  # type: ignore[attr-defined]


def test_a_choice_by_values_reads_both_sides_only_inside(
    describe: Callable[..., Workload],
) -> None:
    def shifted(distance: int) -> Workload:
        def chosen(a: Any) -> Any:
            from tvm import te, tirx

            return te.compute(
                (64,), lambda i: tirx.if_then_else(a(i) > 0.0, a(i + distance), a(i)), name="chosen"
            )

        return describe(chosen, ((64,), "float32"))

    inside, outside = (elementwise_problem(shifted(distance)) for distance in (0, 8))
    assert inside is not None and outside is not None
    assert lanes_of(inside, 4) is not None
    assert lanes_of(outside, 4) is None


def test_points_compile_without_spills(tmp_path: Path) -> None:
    for name in ("gelu, tanh", "rope node", "rope of three axes"):
        assert_points_compile(space_of(name), H200, tmp_path)
