"""Which candidates are run, and their builds: few that take every value of every knob."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np

from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.preparer import Preparer
from schedules.knobs import Value
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build, Failure
from tests.sanitizer.plans import Plan, PlannedRun
from tests.sanitizer.problems import PROBLEMS, space_of

POOL = 400
"""Random points that are looked at to choose a few."""

Point = dict[str, Value]
Builds = list[tuple[str, str, Workload, "Future[Build | Failure]"]]


def covering(
    points: Sequence[Point], n: int, seen: set[tuple[str, Value]], rng: np.random.Generator
) -> list[Point]:
    """Random points, each with as many values that nobody has had as can be found.

    Args:
        points: To choose from.
        n: How many, at most.
        seen: Knobs with values that were taken before; those chosen are added.
        rng: Source of randomness.
    """
    pool = [points[i] for i in rng.permutation(len(points))[:POOL]]
    chosen: list[Point] = []
    while pool and len(chosen) < n:
        best = max(pool, key=lambda point: len(set(point.items()) - seen))
        pool.remove(best)
        seen |= set(best.items())
        chosen.append(best)
    return chosen


def start_builds(
    family: str, target: Target, builder: ProcessBuilder, *, n_each: int, seed: int
) -> Builds:
    """Sample every problem of a family and start the builds."""
    rng, seen, started = np.random.default_rng(seed), set[tuple[str, Value]](), Builds()
    for problem, make in PROBLEMS[family].items():
        workload = make()
        space = space_of(family, workload, target)
        task = Task(workload=workload, target=target)
        for point in covering(space.points, n_each, seen, rng):
            candidate = space.candidate(point)
            started.append(
                (problem, candidate.decisions, workload, builder.submit(task, candidate))
            )
    return started


def finished_plan(family: str, builds: Builds, preparer: Preparer) -> Plan:
    """The plan of a family, once everything is built."""
    runs, refused = [], []
    for problem, decisions, workload, future in builds:
        build = future.result()
        if isinstance(build, Failure):
            refused.append(f"{problem} {decisions}: {build.state.value}: {build.message}")
            continue
        try:
            data = str(preparer.folder(workload))
        except (WorkerDied, WorkerLate, WorkerRaised) as error:
            refused.append(f"{problem} {decisions}: {error}")
            continue
        runs.append(
            PlannedRun(
                problem=problem,
                decisions=decisions,
                workload=workload,
                data=data,
                library=build.library_path,
            )
        )
    return Plan(family=family, runs=tuple(runs), refused=tuple(refused))
