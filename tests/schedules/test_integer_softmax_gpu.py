"""The integer softmax on a GPU: bit for bit the reference, on ragged, long and large tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.integer_softmax import IntegerSoftmaxSpace
from schedules.integer_softmax_problem import DEFERRED, SHARES
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.integer_softmax_workloads import (
    POWER_OF_TWO,
    SNAPPED,
    integer_softmax,
    small_workloads,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 6

WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"small {name}": (lambda name=name: small_workloads()[name]) for name in small_workloads()},
    "odd rows": lambda: integer_softmax((333, 1001), "bfloat16"),
    "long rows": lambda: integer_softmax((5, 131072), "bfloat16", sum_bits=20),
    "long deferred rows": lambda: integer_softmax(
        (3, 40000), "float32", output=DEFERRED, **SNAPPED
    ),
    "12 bit scores": lambda: integer_softmax(
        (64, 4096), "float32", output=SHARES, score_bits=12, sum_bits=40
    ),
    "heads": lambda: integer_softmax((2, 32, 64, 1024), "float16", **POWER_OF_TWO),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_exact(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = WORKLOADS[name]()
    space = IntegerSoftmaxSpace(Task(workload=workload, target=card))
    candidates = space.sample(N_POINTS, np.random.default_rng(len(name)))
    faults = run_on_gpu(workload, candidates)
    assert not faults, "\n".join(faults)
