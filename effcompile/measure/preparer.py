"""What the device process needs and only a compiler can make, prepared ahead of its use.

Some processes with a compiler and without the device serve requests in order: the tools of
the device process first, then inputs and references of the workloads, while builders
start and build.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from effcompile.errors import CompilerUnavailable, WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.build_worker import PrepareRequest, Tools, ToolsRequest
from effcompile.measure.builder import MODULE
from effcompile.measure.child import ChildProcess
from effcompile.measure.prepared import folder_of
from schedules.target import Target
from schedules.workload import Workload
from search.trial import Build

T = TypeVar("T")
PREPARE_S = 600.0
# References are sums over several cores for part of their time only; each process holds one.
MOST_PROCESSES = 4
CORES_PER_PROCESS = 4


class Preparer:
    """Tools, inputs and references, each made once.

    Args:
        target: Device the tools are for.
        seed: Of the inputs.
        work_dir: Folder of the run; receives ``prepared/``, ``libraries/`` and ``logs/``.
        cache_dir: Folder of the compiler cache.
    """

    def __init__(self, target: Target, *, seed: int, work_dir: Path, cache_dir: str) -> None:
        self._target = target
        self._seed = seed
        self._work_dir = work_dir
        self._cache_dir = cache_dir
        n_cores = os.cpu_count() or 1
        n = max(1, min(MOST_PROCESSES, n_cores // CORES_PER_PROCESS))
        self._children = [
            ChildProcess(
                MODULE,
                log_path=work_dir / "logs" / (f"prepare-{index}.log" if index else "prepare.log"),
                environment={"CUDA_VISIBLE_DEVICES": "", **_threads(max(1, n_cores // (2 * n)))},
            )
            for index in range(n)
        ]
        # Last in, first out: a run of few workloads starts few processes.
        self._idle: queue.LifoQueue[ChildProcess] = queue.LifoQueue()
        for child in reversed(self._children):
            self._idle.put(child)
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="prepare")
        self._tools: Future[Tools] | None = None
        self._folders: dict[Path, Future[None]] = {}

    @property
    def log_path(self) -> Path:
        """Output of the first process."""
        return self._children[0].log_path

    def ahead(self, workloads: Iterable[Workload]) -> None:
        """Start making everything; returns at once."""
        self._tools = self._tools or self._threads.submit(self._build, "build_tools", Tools)
        for workload in workloads:
            self._request(workload)

    def tools(self) -> Tools:
        """What the device process needs before any workload.

        Raises:
            CompilerUnavailable: Not even the simplest kernel compiles.
        """
        self._tools = self._tools or self._threads.submit(self._build, "build_tools", Tools)
        return self._tools.result()

    def anchor(self) -> Build:
        """The anchor kernel, built.

        Raises:
            CompilerUnavailable: It does not compile.
        """
        return self._threads.submit(self._build, "build_anchor", Build).result()

    def folder(self, workload: Workload) -> Path:
        """Where inputs and references of a workload lie, made if need be.

        Raises:
            WorkerDied: See :meth:`ChildProcess.call`.
            WorkerLate: Likewise.
            WorkerRaised: The reference cannot be computed.
        """
        path, made = self._request(workload)
        try:
            made.result()
        except (WorkerDied, WorkerLate, WorkerRaised):
            del self._folders[path]
            raise
        return path

    def _request(self, workload: Workload) -> tuple[Path, Future[None]]:
        path = folder_of(workload, seed=self._seed, root=self._work_dir / "prepared")
        if path not in self._folders:
            self._folders[path] = self._threads.submit(self._prepare, workload, path)
        return path, self._folders[path]

    def _prepare(self, workload: Workload, path: Path) -> None:
        if not path.is_dir():
            request = PrepareRequest(workload=workload, seed=self._seed, folder=str(path))
            self._call("prepare", request, type(None))

    def _build(self, method: str, answer: type[T]) -> T:
        request = ToolsRequest(
            target=self._target,
            library_dir=str(self._work_dir / "libraries"),
            cache_dir=self._cache_dir,
        )
        try:
            return self._call(method, request, answer)
        except (WorkerDied, WorkerLate, WorkerRaised) as error:
            raise CompilerUnavailable(
                f"cannot compile the simplest kernel for {self._target.name}: {error} "
                f"See {self.log_path}, and run effcompile doctor."
            ) from None

    def _call(self, method: str, request: PrepareRequest | ToolsRequest, answer: type[T]) -> T:
        child = self._idle.get()
        try:
            return child.call(method, request, answer=answer, timeout_s=PREPARE_S)
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """Stop the processes; what is under way is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.close()


def _threads(n: int) -> dict[str, str]:
    """Threads of BLAS and of compiled programs.

    They wait for each other in loops: with more of them than builders leave cores for, a second of
    work takes ten.
    """
    return dict.fromkeys(("OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS"), str(n))
