"""Builds candidates of all families, and runs each family under each tool, many side by side."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from effcompile.config import BuildConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.cuda_compiler import CudaCompiler
from effcompile.measure.device_process import device_environment
from effcompile.measure.environment import detect_target
from effcompile.measure.preparer import Preparer
from schedules.target import known_target
from tests.sanitizer.choosing import finished_plan, start_builds
from tests.sanitizer.faulty import SOURCE
from tests.sanitizer.plans import Plan, write_plan
from tests.sanitizer.tools import executable
from tests.sanitizer.watching import Result, Watch, say

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        out: Receives results and raw output.
        families: Names of spaces.
        tools: Names of tools, the most important first.
        seconds: Limit of the whole.
        n_each: Candidates per problem.
        seed: Of the sample.
        target: ``cuda`` for the GPU that is here, or a known one.
    """

    out: Path
    families: tuple[str, ...]
    tools: tuple[str, ...]
    seconds: float
    n_each: int
    seed: int
    target: str


@dataclass(order=True, slots=True)
class _Job:
    """Work for one slot; the least rank first, the end last."""

    rank: int
    run: Callable[[int], Result] | None = field(compare=False)


class Sanitizing:
    """One session: builds, and a queue of watched processes.

    Args:
        settings: What is run.
        work_dir: Of builds, data and plans.
    """

    def __init__(self, settings: Settings, work_dir: Path) -> None:
        self._settings, self._work_dir = settings, work_dir
        named = settings.target
        self._target = detect_target("cuda") if named == "cuda" else known_target(named)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**device_environment(self._target), "PYTHONPATH": os.pathsep.join(paths)}
        self._watch = Watch(settings.out / "raw", environment, settings.seconds)
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._results: list[Result] = []
        self._errors: list[Exception] = []

    def run(self) -> list[Result]:
        """Everything; what did not fit in time has no outcomes."""
        n_slots = os.cpu_count() or 1
        slots = [threading.Thread(target=self._serve, args=(slot,)) for slot in range(n_slots)]
        for slot in slots:
            slot.start()
        try:
            self._queue_faulty()
            self._queue_families()
        finally:
            for _ in slots:
                self._jobs.put(_Job(len(self._settings.tools), None))
            for slot in slots:
                slot.join()
        if self._errors:
            raise self._errors[0]
        return self._results

    def _serve(self, slot: int) -> None:
        while (run := self._jobs.get().run) is not None:
            try:
                self._results.append(run(slot))
            except Exception as error:
                self._errors.append(error)

    def _queue_faulty(self) -> None:
        cubin = self._work_dir / "faulty.cubin"
        cubin.write_bytes(CudaCompiler(arch=self._target.arch, cache=None).machine_code(SOURCE))
        for rank, tool in enumerate(self._settings.tools):
            self._jobs.put(_Job(rank, lambda slot, t=tool: self._watch.faulty(cubin, t, slot)))

    def _queue_families(self) -> None:
        """Start all builds, then queue each family as soon as its own have ended."""
        work_dir, settings = self._work_dir, self._settings
        cache = str(work_dir / "cache")
        builder = ProcessBuilder(BuildConfig(cache_dir=cache), work_dir=work_dir)
        preparer = Preparer(self._target, seed=settings.seed, work_dir=work_dir, cache_dir=cache)
        try:
            started = {
                family: start_builds(
                    family, self._target, builder, n_each=settings.n_each, seed=settings.seed
                )
                for family in settings.families
            }
            say(f"{sum(map(len, started.values()))} builds started")
            for family, builds in started.items():
                self._queue_family(finished_plan(family, builds, preparer))
            say("all built")
        finally:
            builder.close()
            preparer.close()

    def _queue_family(self, plan: Plan) -> None:
        path = self._work_dir / f"{plan.family}.json"
        write_plan(plan, path)
        for rank, tool in enumerate(self._settings.tools):
            self._jobs.put(_Job(rank, lambda slot, t=tool: self._watch.family(plan, path, t, slot)))


def sanitize(settings: Settings) -> list[Result]:
    """Run everything in a folder that goes afterwards.

    Raises:
        NoSanitizer: There is no ``compute-sanitizer``.
    """
    executable()
    with tempfile.TemporaryDirectory(prefix="sanitizer-") as folder:
        return Sanitizing(settings, Path(folder)).run()
