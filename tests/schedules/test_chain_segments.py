"""Chains as segments and best rows: exact on the CPU and on a GPU; points compile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.defaults import DefaultSpace
from schedules.families import own_spaces
from schedules.inputs import make_inputs
from schedules.one_block import OneBlockSpace
from schedules.reference import compute_reference
from schedules.space import DesignSpace
from schedules.target import Target, known_target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.building import built
from tests.schedules.cuda_emulation import emulate
from tests.schedules.merge_workloads import CPU, best, chains

H200 = known_target("h200")


SMALL = {
    "regular": lambda: chains(60, 6, 60),
    "ragged, little room": lambda: chains(67, 6, 20),
    "no links": lambda: chains(5, 9, 5),
    "one place": lambda: chains(40, 1, 30),
    "listed": lambda: chains(67, 6, 67, listed=True),
    "limited": lambda: chains(67, 6, 67, limited=True),
    "listed and limited": lambda: chains(83, 6, 40, listed=True, limited=True),
    "best": lambda: best(67, 30),
    "best of all": lambda: best(33, 33),
}
LARGE = {
    "video": lambda: chains(13440, 210, 13440),
    "video, little room": lambda: chains(13440, 210, 4032),
    "video, listed and limited": lambda: chains(13440, 210, 13440, listed=True, limited=True),
    "video, best": lambda: best(13440, 4032),
}


def space_of(workload: Workload, target: Target) -> OneBlockSpace:
    (space,) = own_spaces(Task(workload=workload, target=target))
    assert isinstance(space, OneBlockSpace)
    return space


@pytest.mark.parametrize("name", SMALL)
def test_default_programs_are_exact(name: str, run_on_cpu: Callable[..., Any]) -> None:
    task = Task(workload=SMALL[name](), target=CPU)
    space: DesignSpace = DefaultSpace(task)
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(task.workload, space.realise(candidate)) is None
    assert own_spaces(task) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["ragged, little room", "listed and limited", "best"])
def test_blocks_compute_what_the_references_say(name: str, tmp_path: Path) -> None:
    workload = SMALL[name]()
    space = space_of(workload, H200)
    inputs = make_inputs(workload, seed=2)
    specs = (*workload.outputs, *space.workspaces)
    made = {spec.name: np.full(spec.shape, -7, np.int32) for spec in specs}
    given = {spec.name: one for spec, one in zip(workload.inputs, inputs, strict=True)}
    assert emulate([space.launch({"threads": 64})], {**given, **made}, tmp_path) == 0
    for spec, expected in zip(workload.outputs, compute_reference(workload, inputs), strict=True):
        assert made[spec.name].tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["regular", "listed and limited", "best"])
def test_a_point_compiles_without_spills(name: str, tmp_path: Path) -> None:
    space = space_of(SMALL[name](), H200)
    build = built(space.program_module({"threads": 1024}), H200, tmp_path)
    assert build.stats.kernels[0].spill_bytes == 0


@pytest.mark.gpu
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", {**SMALL, **LARGE})
def test_every_point_is_exact(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = {**SMALL, **LARGE}[name]()
    space = space_of(workload, card)
    faults = run_on_gpu(workload, [space.candidate(point) for point in space.points])
    assert not faults, "\n".join(faults)
