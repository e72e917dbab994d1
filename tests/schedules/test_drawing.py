"""Points of spaces that hold estimates: drawn the promising first, all in the end."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.gemm_dequant import GemmDequantSpace
from schedules.gemm_fused import GemmFusedSpace
from schedules.knobs import Knob, KnobSpace, Values
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.gemv_workloads import gemv_workload

HOPPER = known_target("h200")


class Numbers(KnobSpace):
    """One number; its estimate is a hundred times itself, of the last it is infinite."""

    name = "numbers"
    knobs = (Knob(name="number", values=tuple(range(1, 101))),)

    def __init__(self, *, estimated: bool) -> None:
        self.estimates = np.array([*(100.0 * n for n in range(1, 100)), np.inf])  # type: ignore[misc]
        if not estimated:
            self.estimates = None  # type: ignore[misc]

    def refusal(self, values: Values) -> str | None:
        return None

    def program(self, values: Values) -> None:
        raise NotImplementedError

    def numbers(self, values: Values) -> list[float]:
        return []


def drawn(space: KnobSpace, n: int, seed: int = 0) -> list[int]:
    found = space.sample(n, np.random.default_rng(seed))
    return [int(space.values_of(one)["number"]) for one in found]


def test_the_promising_come_first_and_what_is_hopeless_never() -> None:
    space = Numbers(estimated=True)
    firsts = [drawn(space, 1, seed)[0] for seed in range(50)]
    assert set(firsts) == {1}
    # Estimates are a tenth off: numbers beyond 20 are hardly among the first ten.
    assert max(drawn(space, 10)) < 20
    assert sorted(drawn(space, 1000)) == list(range(1, 100))


def test_what_estimates_cannot_tell_apart_takes_turns() -> None:
    space = Numbers(estimated=True)
    order = [tuple(drawn(space, 20, seed)) for seed in range(10)]
    assert len(set(order)) == 10


def test_without_estimates_draws_are_uniform() -> None:
    space = Numbers(estimated=False)
    assert sorted(drawn(space, 1000)) == list(range(1, 101))
    assert 40 < np.mean([drawn(space, 1, seed)[0] for seed in range(200)]) < 60
    assert space.least_cycles is None
    assert Numbers(estimated=True).least_cycles == 100.0


@pytest.mark.parametrize("rows", [64, 512])
def test_packed_products_of_many_rows_know_what_they_take(rows: int) -> None:
    workload = gemv_workload(rows, 4096, 4096, 4, 128, dtype="bfloat16")
    task = Task(workload=workload, target=HOPPER)
    fused, unpacked = GemmFusedSpace(task), GemmDequantSpace(task)
    assert fused.least_cycles and unpacked.least_cycles
    # Unpacking in a launch of its own costs more than it saves.
    assert fused.least_cycles < unpacked.least_cycles
    assert unpacked.estimates is not None
    assert len(unpacked.estimates) == len(unpacked.points)
