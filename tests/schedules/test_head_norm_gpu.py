"""Norms with an ending on a GPU: small and real shapes, random points, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.head_norm import HeadNormSpace
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.head_norm_workloads import (
    head_norm,
    queries,
    sliced,
    small_workloads,
    text_and_image,
)

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 4

WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"small {name}": (lambda name=name: small_workloads()[name]) for name in small_workloads()},
    "language model": lambda: head_norm(queries("bfloat16", 2, 2048, 32, 128)),
    "slice": lambda: head_norm(sliced("bfloat16", 1000, 24, 128)),
    "one token": lambda: head_norm(queries("float16", 1, 1, 32, 128)),
    "wide heads": lambda: head_norm(queries("bfloat16", 1, 700, 8, 256)),
    "image and text": lambda: head_norm(
        text_and_image("bfloat16", (512, 4096), 24, 128, turned="both")
    ),
    "text behind": lambda: head_norm(
        text_and_image("float16", (333, 4096), 24, 64, turned="image")
    ),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_right(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    workload = WORKLOADS[name]()
    space = HeadNormSpace(Task(workload=workload, target=card))
    candidates = space.sample(N_POINTS, np.random.default_rng(len(name)))
    faults = run_on_gpu(workload, candidates)
    assert not faults, "\n".join(faults)
