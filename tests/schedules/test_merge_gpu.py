"""The merge family on a GPU: ragged and extreme shapes, random points, against the references."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from schedules.spaces import open_space
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from tests.schedules.merge_workloads import cosine, mean, mixture, partials, small_workloads

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

N_POINTS = 5

WORKLOADS: dict[str, Callable[[], Workload]] = {
    **{f"small {name}": (lambda name=name: small_workloads()[name]) for name in small_workloads()},
    "one row": lambda: mean((1, 1, 8), 1, "float32"),
    "one element wide": lambda: mixture("GatherRows", (2, 300, 1), 200, "bfloat16"),
    "odd width": lambda: mean((2, 65, 333), 40, "bfloat16", longest=5),
    "empty segments": lambda: mean((1, 20, 64), 90, "float16"),
    "one long segment": lambda: mean((2, 500, 256), 1, "float32", listed=False),
    "wide rows": lambda: cosine(40, 8192, "float16", 10),
    "one frame": lambda: cosine(30, 512, "bfloat16", 30),
    "ragged last frame": lambda: cosine(211, 3584, "bfloat16", 210),
    "cosine by list, wide": lambda: cosine(300, 3584, "bfloat16"),
    "heads": lambda: mixture("SelectRows", (333, 24, 64), 24, "float16"),
    "latents": lambda: mixture("RenoiseRows", (16, 25, 680), 17, "bfloat16"),
    "frames": lambda: mixture("BlendRows", (3, 13, 999), 33, "float16"),
    "many splits": lambda: partials(33, 70, 128, "float32"),
    "short splits": lambda: partials(2, 41, 64, "bfloat16"),
    "frame cosine of a video": lambda: cosine(13440, 3584, "bfloat16", 210),
    "segment mean of a video": lambda: mean((1, 13440, 3584), 4032, "bfloat16", longest=64),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_right(
    name: str, card: Target, run_on_gpu: Callable[..., list[str]]
) -> None:
    task = Task(workload=WORKLOADS[name](), target=card)
    candidates = open_space(task, "merge").sample(N_POINTS, np.random.default_rng(len(name)))
    assert candidates
    faults = run_on_gpu(task.workload, candidates)
    assert not faults, "\n".join(faults)
