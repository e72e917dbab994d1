"""The builder port: persistent build processes, one build each at a time."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from effcompile.config import BuildConfig
from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.build_worker import (
    BuildRequest,
    FeatureRequest,
    Proposed,
    ProposeRequest,
    WarmUpRequest,
)
from effcompile.measure.cache import user_cache_dir
from effcompile.measure.child import ChildProcess
from effcompile.measure.idle import Idle
from effcompile.measure.template import Template
from schedules.candidate import Candidate
from schedules.target import Target
from schedules.task import Task
from search.trial import Build, Failure, TrialState

logger = logging.getLogger(__name__)
MAX_MESSAGE_LINES = 12
WARM_UP_S = 120.0
PROPOSE_S = 120.0
PARTS_PER_PROCESS = 4
T = TypeVar("T")
MODULE = "effcompile.measure.build_worker"
# No context can be made on a device that the process cannot see.
BLIND = {"CUDA_VISIBLE_DEVICES": "", "TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def first_lines(message: str, *, n_lines: int = MAX_MESSAGE_LINES) -> str:
    """The opening of a long message; the whole stands in the log."""
    lines = message.strip().splitlines()
    return "\n".join(lines[:n_lines])


class ProcessBuilder:
    """Builds candidates in processes that can be killed; implements ``search.ports.Builder``.

    The processes are forked from one that imported TVM, and serve many builds each. One that
    exceeds the time limit, dies, or has served its number of builds is replaced.

    Args:
        config: Number of processes, limits, cache folder.
        work_dir: Folder of the run; receives ``libraries/`` and ``logs/``.
    """

    def __init__(self, config: BuildConfig, *, work_dir: Path) -> None:
        self._config = config
        self._library_dir = str((work_dir / "libraries").resolve())
        self._cache_dir = config.cache_dir or str(user_cache_dir() / "builds")
        n_workers = config.n_workers or os.cpu_count() or 1
        self._template = Template(
            MODULE, log_path=work_dir / "logs" / "build-template.log", environment=BLIND
        )
        self._children = [self._child(index, work_dir) for index in range(n_workers)]
        self._idle = Idle(self._children)
        self._n_builds = dict.fromkeys(range(n_workers), 0)
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="build")
        # What is proposed gives the next builds: it goes before those that wait.
        self._askers = ThreadPoolExecutor(n_workers, thread_name_prefix="ask")
        self._closing = False

    def _child(self, index: int, work_dir: Path) -> ChildProcess:
        return ChildProcess(
            MODULE,
            log_path=work_dir / "logs" / f"build-{index}.log",
            environment=BLIND,
            memory_limit_mib=self._config.memory_limit_mib,
            spawner=self._template,
        )

    def warm_up(self, target: Target) -> None:
        """Start every process now; returns at once."""
        request = WarmUpRequest(kind=target.kind)
        warm = self._threads.submit(self._template.call, "warm_up", request)
        for _ in self._children:
            self._threads.submit(self._warm_up, request, warm)

    def _warm_up(self, request: WarmUpRequest, warm: Future[None]) -> None:
        warm.result()  # forked before, a child would import everything by itself
        with self._idle.taken() as child:
            try:
                child.call("warm_up", request, answer=type(None), timeout_s=WARM_UP_S)
            except (WorkerDied, WorkerLate, WorkerRaised) as error:
                # The first build will meet the same problem and record it.
                logger.info("a build process did not start: %s", error)

    def propose(self, request: ProposeRequest) -> list[Proposed | None]:
        """Draw or change candidates in all processes; what fails there is ``None``."""
        n = len(request.seeds)
        parts = [
            replace(request, seeds=request.seeds[part], parents=request.parents[part])
            for part in self._parts(n)
        ]
        return self._in_parts("propose", parts, [len(part.seeds) for part in parts], Proposed)

    def features(self, task: Task, candidates: Sequence[Candidate]) -> list[list[float] | None]:
        """Feature rows of candidates of TVM's space; ``None`` where a process failed."""
        parts = [
            FeatureRequest(task=task, candidates=tuple(candidates[part]))
            for part in self._parts(len(candidates))
        ]
        sizes = [len(part.candidates) for part in parts]
        return self._in_parts("features", parts, sizes, list[float])

    def _parts(self, n: int) -> list[slice]:
        """Small parts: some candidates take ten times as long as others."""
        size = max(1, n // (PARTS_PER_PROCESS * len(self._children)))
        return [slice(start, start + size) for start in range(0, n, size)]

    def _in_parts(
        self, method: str, requests: Sequence[Any], sizes: Sequence[int], one: type[T]
    ) -> list[T | None]:
        futures = [
            self._askers.submit(self._ask, method, request, answer=list[one | None])  # type: ignore[valid-type]
            for request in requests
        ]
        answers = [future.result() for future in futures]
        return [
            item
            for answer, size in zip(answers, sizes, strict=True)
            for item in (answer if answer is not None else [None] * size)
        ]

    def is_searchable(self, task: Task) -> Future[bool | None]:
        """Whether TVM's space holds anything for a task; ``None`` if a process failed."""
        request = ProposeRequest(task=task)
        return self._askers.submit(self._ask, "is_searchable", request, answer=bool)

    def _ask(self, method: str, request: Any, *, answer: type[T]) -> T | None:
        with self._idle.taken(urgent=True) as child:
            try:
                return child.call(method, request, answer=answer, timeout_s=PROPOSE_S)
            except (WorkerDied, WorkerLate, WorkerRaised) as error:
                logger.info("%s failed: %s", method, error)
                return None

    def submit(self, task: Task, candidate: Candidate) -> Future[Build | Failure]:
        """Start a build; the future never raises, a failed build is a :class:`Failure`."""
        return self._threads.submit(self._build, task, candidate)

    def _build(self, task: Task, candidate: Candidate) -> Build | Failure:
        with self._idle.taken() as child:
            if self._closing:
                return Failure(state=TrialState.CANCELLED, message="the run was stopped.")
            try:
                return self._build_in(child, task, candidate)
            finally:
                self._retire(child)

    def _build_in(self, child: ChildProcess, task: Task, candidate: Candidate) -> Build | Failure:
        request = BuildRequest(
            task=task,
            candidate=candidate,
            library_dir=self._library_dir,
            cache_dir=self._cache_dir,
            fast_math=self._config.fast_math,
        )
        try:
            return child.call("build", request, answer=Build, timeout_s=self._config.timeout_s)
        except WorkerLate as error:
            return self._failure(TrialState.BUILD_TIMEOUT, error, child)
        except WorkerRaised as error:
            rejected = error.kind == "IllegalCandidate"
            state = TrialState.REJECTED if rejected else TrialState.BUILD_ERROR
            return self._failure(state, error, child)
        except WorkerDied as error:
            state = TrialState.CANCELLED if self._closing else TrialState.BUILD_ERROR
            return self._failure(state, error, child)

    def _failure(self, state: TrialState, error: Exception, child: ChildProcess) -> Failure:
        logger.debug("build ended as %s: %s", state.value, error)
        return Failure(state=state, message=first_lines(str(error)), log_path=str(child.log_path))

    def _retire(self, child: ChildProcess) -> None:
        """Replace a process that has served its number of builds."""
        index = self._children.index(child)
        self._n_builds[index] += 1
        if self._n_builds[index] >= self._config.builds_per_worker:
            child.kill()
            self._n_builds[index] = 0

    def close(self) -> None:
        """Stop every build process; builds under way end as cancelled."""
        self._closing = True
        for child in self._children:
            child.interrupt()
        self._askers.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.kill()
        self._template.close()
