"""Estimates of products against what was recorded of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from effcompile.recordings import recording_paths
from schedules.contraction_problem import contraction_of
from schedules.errors import IllegalCandidate
from schedules.judged_space import MOST_SLOWER
from schedules.matmul import MatmulSpace
from schedules.matmul_costs import product_cycles
from search.recording import RecordedTask
from search.recording_file import read_recording

SQUARES = ("mm-512", "mm-1024", "mm-2048", "mm-4096")
NAMES = (*SQUARES, "mm-16x4096x4096", "mv-4096")


@pytest.fixture(scope="module")
def tasks() -> dict[str, RecordedTask]:
    (path,) = recording_paths("h200-workloads")
    return {one.task.workload.name: one for one in read_recording(path).tasks}


def estimated_and_timed(recorded: RecordedTask) -> tuple[np.ndarray, np.ndarray]:
    """Cycles and microseconds of every recorded point that is still one.

    Clusters are left out: their barriers were slow when they were recorded. Operands lay in the
    second-level cache.
    """
    space, task = MatmulSpace(recorded.task), recorded.task
    problem = contraction_of(task.workload)
    assert problem is not None
    times = {one.binary_id: one.latency for one in recorded.binaries}
    found = []
    for one in next(s for s in recorded.spaces if s.name == "matmul").candidates:
        latency = times.get(one.binary_id)
        if latency is None or one.failure:
            continue
        try:
            values = space.values_of(one.candidate)
        except IllegalCandidate:
            continue
        if values["cluster"] != 1:
            continue
        schedule = space.schedule(values)
        cycles = product_cycles(problem, schedule, task.target.n_cores, cold=False)
        found.append((cycles, latency.latency_us))
    cycles, latencies = np.array(found).T
    return cycles, latencies


@pytest.mark.parametrize("name", NAMES)
def test_the_best_recorded_product_is_among_what_estimates_promise(
    name: str, tasks: dict[str, RecordedTask]
) -> None:
    cycles, latencies = estimated_and_timed(tasks[name])
    assert len(cycles) >= 98
    assert latencies[cycles <= MOST_SLOWER * cycles.min()].min() <= 1.01 * latencies.min()
    first = latencies[np.argsort(cycles)[:8]]
    assert first.min() <= 1.05 * latencies.min()
    assert np.median(first) <= 1.1 * latencies.min()
    # Beside a common factor, which depends on clocks.
    assert np.std(np.log(cycles / latencies)) < 0.25


@pytest.mark.parametrize("name", SQUARES)
def test_estimates_order_recorded_products(name: str, tasks: dict[str, RecordedTask]) -> None:
    cycles, latencies = estimated_and_timed(tasks[name])
    assert spearmanr(cycles, latencies).statistic > 0.9
    drawn = latencies[cycles <= MOST_SLOWER * cycles.min()]
    assert np.median(drawn) < 0.9 * np.median(latencies)


@pytest.mark.parametrize(("name", "least"), [("mm-16x4096x4096", 0.85), ("mv-4096", 0.75)])
def test_estimates_order_few_rows(name: str, least: float, tasks: dict[str, RecordedTask]) -> None:
    # Without clusters nearly all that was recorded of them is fast: ranks hang on a few per cent.
    cycles, latencies = estimated_and_timed(tasks[name])
    assert spearmanr(cycles, latencies).statistic > least


def test_draws_keep_to_what_promises_something(tasks: dict[str, RecordedTask]) -> None:
    task = tasks["mm-2048"].task
    space, problem = MatmulSpace(task), contraction_of(task.workload)
    assert problem is not None
    drawn = space.sample(1000, np.random.default_rng(0))
    assert len({one.candidate_id for one in drawn}) == len(drawn) < len(space.points) / 4

    def cycles(values: dict[str, int | str]) -> float:
        return product_cycles(problem, space.schedule(values), task.target.n_cores)

    least = min(map(cycles, space.points))
    assert max(cycles(space.values_of(one)) for one in drawn) <= MOST_SLOWER * least
