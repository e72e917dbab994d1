"""The merge family on a GPU: ragged and extreme shapes, random points, against the references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from effcompile.config import BuildConfig, MeasureConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.environment import detect_target
from effcompile.measure.runner import DeviceRunner
from schedules.spaces import open_space
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build, LatencyMeasurement
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


@pytest.fixture(scope="module")
def target() -> Target:
    return detect_target("cuda")


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessBuilder]:
    folder: Path = tmp_path_factory.mktemp("build")
    made = ProcessBuilder(BuildConfig(cache_dir=str(folder / "cache")), work_dir=folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Iterator[DeviceRunner]:
    config = MeasureConfig(repeat_ms=0.5, n_repeats=3, meter="none")
    made = DeviceRunner(target, config, work_dir=tmp_path_factory.mktemp("run"))
    yield made
    made.close()


@pytest.mark.parametrize("name", WORKLOADS)
def test_random_points_are_right(
    name: str, target: Target, builder: ProcessBuilder, runner: DeviceRunner
) -> None:
    task = Task(workload=WORKLOADS[name](), target=target)
    space = open_space(task, "merge")
    candidates = space.sample(N_POINTS, np.random.default_rng(len(name)))
    futures = [builder.submit(task, candidate) for candidate in candidates]
    faults = []
    for candidate, future in zip(candidates, futures, strict=True):
        build = future.result()
        if not isinstance(build, Build):
            faults.append(f"{candidate.decisions}: not built: {build.message}")
            continue
        measured = runner.time(task, build)
        if not isinstance(measured, LatencyMeasurement):
            faults.append(f"{candidate.decisions}: {measured.state}: {measured.message}")
        else:
            print(f"{name}: {measured.latency_us:.1f} us {candidate.decisions}")
    assert not faults, f"{name}: {len(faults)} of {len(candidates)} points:\n" + "\n".join(faults)
