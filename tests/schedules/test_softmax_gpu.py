"""The softmax family on a GPU: ragged and long rows, random points, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.softmax import SHORTEST_SHARED_ROW, CudaSoftmaxSpace
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.softmax_workloads import masked

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 4

SHAPES = [
    ((1, 1), "float32"),
    ((3, 5, 17), "float16"),
    ((257, 32), "bfloat16"),
    ((33, 4098), "bfloat16"),
    ((300, 4096), "float32"),
    ((5, 50257), "float16"),
    ((16, 131072), "float32"),
    ((7, 262144), "bfloat16"),
]


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log"])
@pytest.mark.parametrize("tensor", SHAPES, ids=str)
def test_random_points_are_right(
    tensor: tuple[tuple[int, ...], str],
    log: bool,
    card: Target,
    softmax: Callable[..., Workload],
    run_on_gpu: Callable[..., list[str]],
) -> None:
    workload = softmax(*tensor, log=log, scale=0.7)
    space = CudaSoftmaxSpace(Task(workload=workload, target=card))
    rng = np.random.default_rng(len(tensor[0]))
    candidates = list(space.sample(N_POINTS, rng))
    if tensor[0][-1] >= SHORTEST_SHARED_ROW and card.has_clusters:
        shared = [point for point in space.points if int(point["blocks_per_row"]) > 1]
        chosen = rng.choice(len(shared), N_POINTS, replace=False)
        candidates += [space.candidate(shared[index]) for index in chosen]
    faults = run_on_gpu(workload, candidates)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "shapes",
    [((2, 3, 50, 77), (2, 1, 1, 77)), ((2, 8, 64, 1024), (64, 1024)), ((4, 4, 40000), (40000,))],
    ids=str,
)
def test_random_points_with_a_mask_are_right(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    card: Target,
    run_on_gpu: Callable[..., list[str]],
) -> None:
    workload = masked(*shapes, "float16")
    space = CudaSoftmaxSpace(Task(workload=workload, target=card))
    faults = run_on_gpu(workload, list(space.sample(N_POINTS, np.random.default_rng(2))))
    assert not faults, "\n".join(faults)
