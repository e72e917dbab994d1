from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from effcompile.config import BuildConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.toolkit import include_dirs
from schedules.candidate import Candidate
from schedules.target import known_target
from schedules.task import Task
from search.trial import Build, Failure, TrialState
from tests.effcompile.measure.kernels import twice_plus_one

pytestmark = pytest.mark.slow
DEFAULT = Candidate(space="default", decisions="{}")


@pytest.fixture(scope="module")
def task() -> Task:
    return twice_plus_one()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def config(run_dir: Path, **changes: object) -> BuildConfig:
    base = BuildConfig(n_workers=1, cache_dir=str(run_dir / "cache"))
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def builder(run_dir: Path) -> Iterator[ProcessBuilder]:
    made = ProcessBuilder(config(run_dir), work_dir=run_dir)
    yield made
    made.close()


def built(builder: ProcessBuilder, task: Task, candidate: Candidate = DEFAULT) -> Build:
    outcome = builder.submit(task, candidate).result()
    assert isinstance(outcome, Build), outcome
    return outcome


def test_a_library_is_built_once_and_then_found(builder: ProcessBuilder, task: Task) -> None:
    first, again = built(builder, task), built(builder, task)
    assert Path(first.library_path).is_file()
    assert first.stats.unique_bytes == 8000
    assert again.from_cache
    assert again.build_s == 0.0
    assert (again.binary_id, again.stats) == (first.binary_id, first.stats)


def test_a_damaged_cache_entry_is_built_again(
    builder: ProcessBuilder, task: Task, run_dir: Path
) -> None:
    first = built(builder, task)
    for entry in (run_dir / "cache").glob("??/*"):
        entry.write_bytes(entry.read_bytes()[:-1])
    again = built(builder, task)
    assert not again.from_cache
    assert again.binary_id == first.binary_id


def test_an_illegal_candidate_is_rejected(builder: ProcessBuilder, task: Task) -> None:
    outcome = builder.submit(task, Candidate(space="tvm", decisions="[]")).result()
    assert isinstance(outcome, Failure)
    assert outcome.state is TrialState.REJECTED


def test_an_unknown_space_is_a_build_error_with_a_log(builder: ProcessBuilder, task: Task) -> None:
    outcome = builder.submit(task, Candidate(space="no such", decisions="{}")).result()
    assert isinstance(outcome, Failure)
    assert outcome.state is TrialState.BUILD_ERROR
    assert "no such" in outcome.message
    assert outcome.log_path is not None
    assert "Traceback" in Path(outcome.log_path).read_text()


@pytest.mark.skipif(not include_dirs(), reason="no CUDA headers")
def test_a_gpu_kernel_is_built_without_a_gpu(builder: ProcessBuilder, task: Task) -> None:
    build = built(builder, replace(task, target=known_target("h200")))
    (kernel,) = build.stats.kernels
    assert kernel.grid[0] * kernel.block[0] >= 1000
    assert kernel.registers_per_thread is not None and kernel.registers_per_thread >= 4
    assert kernel.spill_bytes == 0
    content = Path(build.library_path).read_bytes()
    assert content.count(b"\x7fELF") == 2, "the machine code is inside the library"


def test_a_build_over_its_limit_is_a_timeout_and_the_next_is_healthy(
    task: Task, tmp_path: Path
) -> None:
    builder = ProcessBuilder(
        BuildConfig(n_workers=1, timeout_s=0.001, cache_dir=str(tmp_path)), work_dir=tmp_path
    )
    try:
        outcome = builder.submit(task, DEFAULT).result()
        assert isinstance(outcome, Failure)
        assert outcome.state is TrialState.BUILD_TIMEOUT
        builder._config = replace(builder._config, timeout_s=30.0)
        built(builder, task)
    finally:
        builder.close()


def test_a_process_is_replaced_after_its_builds_and_close_cancels(
    task: Task, run_dir: Path, tmp_path: Path
) -> None:
    builder = ProcessBuilder(config(run_dir, builds_per_worker=1), work_dir=tmp_path)
    built(builder, task)
    (child,) = builder._children
    assert not child.is_running
    waiting = [builder.submit(task, DEFAULT) for _ in range(4)]
    builder.close()
    outcomes = [future.result() for future in waiting]
    assert isinstance(outcomes[-1], Failure)
    assert outcomes[-1].state is TrialState.CANCELLED
    assert not child.is_running


def test_no_build_process_is_left(builder: ProcessBuilder, task: Task) -> None:
    built(builder, task)
    (child,) = builder._children
    pid = child.pid
    builder.close()
    listed = subprocess.run(["ps", "-p", str(pid)], capture_output=True, check=False)
    assert listed.returncode != 0
