"""The elementwise family on a GPU: every form, real sizes, random points, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.elementwise import ElementwiseSpace
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.elementwise_workloads import (
    SWIGLU,
    TURN_HALVES,
    axial,
    rotary_node,
    small_workloads,
    workload_of,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 3
HEADS, HALF = (1, 28, 4032, 128), (4032, 64)

WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"small {name}": (lambda name=name: small_workloads()[name]) for name in small_workloads()},
    "swiglu of a layer": lambda: workload_of(
        SWIGLU, "bfloat16", (1024, 18944), a=(1024, 18944), b=(1024, 18944)
    ),
    "rope of a layer": lambda: workload_of(
        TURN_HALVES, "bfloat16", HEADS, x=HEADS, cos=HALF, sin=HALF
    ),
    "rope of a video": lambda: axial("bfloat16", (1, 24, 4032, 128)),
    "rope node of a layer": lambda: rotary_node("float16", HEADS),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_right(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = WORKLOADS[name]()
    space = ElementwiseSpace(Task(workload=workload, target=card))
    candidates = space.sample(N_POINTS, np.random.default_rng(len(name)))
    faults = run_on_gpu(workload, candidates)
    assert not faults, "\n".join(faults)
