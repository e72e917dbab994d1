"""References of several workloads at once, and no more processes than are needed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from effcompile.measure import preparer as module
from effcompile.measure.environment import cpu_target
from effcompile.measure.preparer import Preparer
from tests.doubles import make_task


class Child:
    """Answers once as many calls are under way as the test waits for."""

    barrier = threading.Barrier(1)
    used: list[Path] = []  # noqa: RUF012
    n_threads: set[str] = set()  # noqa: RUF012

    def __init__(self, module_name: str, *, log_path: Path, environment: Any) -> None:
        self.log_path = log_path
        Child.n_threads = {environment["OPENBLAS_NUM_THREADS"], environment["TVM_NUM_THREADS"]}

    def call(self, method: str, request: Any, *, answer: Any, timeout_s: float) -> Any:
        Child.used.append(self.log_path)
        Child.barrier.wait(timeout=10.0)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("n_cores", "n_processes", "n_threads"), [(1, 1, "1"), (2, 1, "1"), (8, 2, "2"), (64, 4, "8")]
)
def test_several_workloads_are_prepared_at_once_where_there_are_cores(
    n_cores: int,
    n_processes: int,
    n_threads: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ChildProcess", Child)
    monkeypatch.setattr(module.os, "cpu_count", lambda: n_cores)
    Child.barrier, Child.used = threading.Barrier(n_processes), []
    made = Preparer(cpu_target(), seed=0, work_dir=tmp_path, cache_dir=str(tmp_path))
    workloads = [make_task(f"workload-{i}").workload for i in range(n_processes)]
    made.ahead(workloads[:0])
    made.ahead(workloads)
    # The tools alone wait for the barrier too: let them pass.
    for _ in range(n_processes - 1):
        made._threads.submit(Child.barrier.wait, 10.0)
    for workload in workloads:
        made.folder(workload)
    assert len(set(Child.used)) == n_processes
    # Half of the cores: builders need the others, and threads that wait take a core too.
    assert Child.n_threads == {n_threads}
    made.close()
