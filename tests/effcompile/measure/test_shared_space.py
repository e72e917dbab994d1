"""TVM's space through build processes gives what it gives in one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tvm import te

from effcompile.config import BuildConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.shared_space import SharedTvmSpace, shared_spaces
from schedules.candidate import Candidate
from schedules.generic import TvmSpace
from schedules.programs import workload_of
from schedules.target import Target
from schedules.task import Task

CPU = Target(kind="llvm", arch="x86-64-v2", name="cpu", n_cores=2, cache_bytes=1 << 20)


@pytest.fixture(scope="module")
def task() -> Task:
    a = te.placeholder((64, 64), name="a")
    b = te.placeholder((64, 64), name="b")
    k = te.reduce_axis((0, 64), name="k")
    c = te.compute((64, 64), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return Task(workload=workload_of(te.create_prim_func([a, b, c]), name="matmul"), target=CPU)


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessBuilder]:
    folder = tmp_path_factory.mktemp("shared")
    made = ProcessBuilder(BuildConfig(n_workers=2, cache_dir=str(folder)), work_dir=Path(folder))
    yield made
    made.close()


def test_samples_and_changes_are_those_of_one_process(task: Task, builder: ProcessBuilder) -> None:
    alone, shared = TvmSpace(task), SharedTvmSpace(task, builder)
    samples = alone.sample(12, np.random.default_rng(3))
    assert shared.sample(12, np.random.default_rng(3)) == samples
    changed = alone.mutate(samples, np.random.default_rng(4))
    assert shared.mutate(samples, np.random.default_rng(4)) == changed
    known = [one for one in changed if one is not None]
    np.testing.assert_allclose(shared.features(known), alone.features(known), rtol=1e-6)


def test_features_of_a_resumed_run_come_from_the_build_processes(
    task: Task, builder: ProcessBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = TvmSpace(task).sample(6, np.random.default_rng(5))
    expected = TvmSpace(task).features(known)
    space = SharedTvmSpace(task, builder)

    def no_replay(candidate: Candidate) -> None:
        raise AssertionError(f"{candidate.candidate_id} was replayed in the tuner's process")

    monkeypatch.setattr(space, "_schedule", no_replay)
    np.testing.assert_array_equal(space.features([*known, known[0]]), expected[[*range(6), 0]])


def test_a_process_that_dies_costs_its_share_only(task: Task, builder: ProcessBuilder) -> None:
    _, names = shared_spaces(builder)
    assert names(task) == ["tvm"]
    foreign = Task(
        workload=workload_of(
            te.create_prim_func(
                [x := te.placeholder((8,), name="x"), te.compute((8,), lambda i: x[i] + 1.0)]
            ),
            name="other",
        ),
        target=CPU,
    )
    space = SharedTvmSpace(foreign, builder)
    parents = SharedTvmSpace(task, builder).sample(2, np.random.default_rng(0))
    assert space.mutate(parents, np.random.default_rng(0)) == [None, None]
    assert len(SharedTvmSpace(task, builder).sample(4, np.random.default_rng(1))) == 4
