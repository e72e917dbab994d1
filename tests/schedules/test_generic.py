"""TVM's space: determinism across processes and threads, tensor cores, foreign traces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from schedules import threads
from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate
from schedules.generic import TvmSpace
from schedules.spaces import spaces_for
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload

CHILD = """
import sys
import msgspec, numpy as np
from schedules.generic import TvmSpace
from schedules.task import Task
task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
space = TvmSpace(task)
parents = space.sample(6, np.random.default_rng(11))
children = space.mutate(parents, np.random.default_rng(12))
print(*[c.candidate_id if c else "none" for c in [*parents, *children]])
print(*[name for name in sys.modules if ".tensor_intrin." in name], file=sys.stderr)
"""


def ids_here(task: Task) -> list[str]:
    space = TvmSpace(task)
    parents = space.sample(6, np.random.default_rng(11))
    children = space.mutate(parents, np.random.default_rng(12))
    return [c.candidate_id if c else "none" for c in [*parents, *children]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_another_process_proposes_the_same(
    kind: str, request: pytest.FixtureRequest, matmul: Callable[..., Workload]
) -> None:
    task = Task(workload=matmul(64, 64, 64), target=request.getfixturevalue(kind))
    answer = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=msgspec.json.encode(task),
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert answer.stdout.decode().split() == ids_here(task)
    parsed = answer.stderr.decode().splitlines()[-1].split()
    assert parsed == (["tvm.s_tir.tensor_intrin.cuda"] if kind == "gpu" else [])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_thread_count_changes_nothing(
    n_threads: int,
    gpu: Target,
    matmul: Callable[..., Workload],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = Task(workload=matmul(64, 64, 64), target=gpu)
    expected = ids_here(task)
    monkeypatch.setattr(threads, "n_threads", lambda: n_threads)
    assert ids_here(task) == expected


def test_trace_of_another_workload_is_refused(
    cpu: Target, matmul: Callable[..., Workload], softmax: Callable[..., Workload]
) -> None:
    here = TvmSpace(Task(workload=matmul(64, 64, 64), target=cpu))
    elsewhere = TvmSpace(Task(workload=softmax((8, 96)), target=cpu))
    (foreign,) = elsewhere.sample(1, np.random.default_rng(0))
    with pytest.raises(IllegalCandidate, match="another workload"):
        here.realise(foreign)


def test_oversized_block_is_refused(gpu: Target, matmul: Callable[..., Workload]) -> None:
    space = TvmSpace(Task(workload=matmul(2048, 64, 64), target=gpu))
    (candidate,) = space.sample(1, np.random.default_rng(0))
    instructions, decisions = msgspec.json.decode(candidate.decisions)
    first_tile = next(d for d in decisions if isinstance(d[1], list) and len(d[1]) == 5)
    first_tile[1] = [1, 1, 2048, 1, 1]
    text = msgspec.json.encode([instructions, decisions]).decode()
    with pytest.raises(IllegalCandidate, match="limit of NVIDIA H200"):
        TvmSpace(Task(workload=matmul(2048, 64, 64), target=gpu)).realise(
            Candidate(space="tvm", decisions=text)
        )


@pytest.mark.parametrize("out", ["float16", "float32"])
def test_half_matmul_uses_tensor_cores(
    out: str, gpu: Target, matmul: Callable[..., Workload], cuda_source: Callable[..., str]
) -> None:
    task = Task(workload=matmul(128, 128, 64, "float16", out), target=gpu)
    space = TvmSpace(task)
    candidates = space.sample(3, np.random.default_rng(0))
    assert len(candidates) == 3
    for candidate in candidates:
        assert "mma_sync" in cuda_source(space.realise(candidate), gpu)


def test_opaque_program_has_no_tvm_space(cpu: Target, describe: Callable[..., Workload]) -> None:
    from tvm import topi

    def running_sum(a: Any) -> Any:
        return topi.cumsum(a, axis=1)

    workload = describe(running_sum, ((4, 9), "float32"))
    assert spaces_for(Task(workload=workload, target=cpu)) == []


def test_candidates_compute_the_right_product(
    cpu: Target, matmul: Callable[..., Workload], run_on_cpu: Callable[..., str | None]
) -> None:
    workload = matmul(33, 40, 50)
    space = TvmSpace(Task(workload=workload, target=cpu))
    for candidate in space.sample(4, np.random.default_rng(2)):
        assert run_on_cpu(workload, space.realise(candidate)) is None
