"""The row norm family on a GPU: ragged and real shapes, random points, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.row_norm import RowNormSpace
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.norm_workloads import norm, small_workloads

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 4

WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"small {name}": (lambda name=name: small_workloads()[name]) for name in small_workloads()},
    "tokens": lambda: norm((4429, 1152), "bfloat16", bias=True),
    "modulated latents": lambda: norm((2, 4429, 1536), "bfloat16", modulated=True),
    "wide rows": lambda: norm((300, 8192), "float16", op_type="RMSNormalization"),
    "residual stream": lambda: norm(
        (2, 2048, 3584),
        "bfloat16",
        op_type="RMSNormalization",
        residual=(2, 2048, 3584),
        keeps_sum=True,
    ),
    "places": lambda: norm((3, 729, 1152), "float16", bias=True, residual=(729, 1152)),
    "heads": lambda: norm((2000, 24, 128), "bfloat16", op_type="RMSNormalization"),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_right(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = WORKLOADS[name]()
    space = RowNormSpace(Task(workload=workload, target=card))
    candidates = space.sample(N_POINTS, np.random.default_rng(len(name)))
    faults = run_on_gpu(workload, candidates)
    assert not faults, "\n".join(faults)
