"""The runner port: checks and measures libraries in the device process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from effcompile.config import BuildConfig, MeasureConfig
from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.builder import first_lines
from effcompile.measure.cache import user_cache_dir
from effcompile.measure.device_process import DeviceProcess
from effcompile.measure.finals import Measured, interleave
from effcompile.measure.meter_keeper import MeterKeeper
from effcompile.measure.preparer import Preparer
from effcompile.measure.worker import EnergyRequest, KernelRequest
from schedules.target import Target
from schedules.task import Task
from search.final_effort import NOT_WORTH_A_WINDOW
from search.ports import FinalEffort, FinalMeasurement
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    TrialState,
    Verdict,
)

logger = logging.getLogger(__name__)


class DeviceRunner:
    """Measures on the device of a target; implements ``search.ports.Runner``.

    Two processes stand behind it: one with a compiler, which prepares inputs and
    references and never sees the device, and the device process.

    Args:
        target: Device to use.
        config: How to measure.
        work_dir: Folder of the run; receives ``prepared/``, ``libraries/`` and ``logs/``.
        build_config: For the cache folder of the known kernel.
    """

    def __init__(
        self,
        target: Target,
        config: MeasureConfig,
        *,
        work_dir: Path,
        build_config: BuildConfig | None = None,
    ) -> None:
        self._target = target
        self._config = config
        self._work_dir = work_dir.resolve()
        cache_dir = (build_config or BuildConfig()).cache_dir
        self._preparer = Preparer(
            target,
            seed=config.input_seed,
            work_dir=self._work_dir,
            cache_dir=cache_dir or str(user_cache_dir() / "builds"),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="open-device")
        self._opening: Future[DeviceProcess] | None = None
        self._meter = MeterKeeper()

    @property
    def meter(self) -> MeterKeeper:
        """What is known of the meter, and what a continued run knew."""
        return self._meter

    def warm_up(self, tasks: Sequence[Task]) -> None:
        """Open the device and prepare the references of tasks in the background."""
        self._preparer.ahead(task.workload for task in tasks)
        self._opening = self._opening or self._thread.submit(self._open)

    @property
    def device(self) -> DeviceProcess:
        """The device process; the known kernel is built when it is first needed."""
        self._opening = self._opening or self._thread.submit(self._open)
        return self._opening.result()

    def _open(self) -> DeviceProcess:
        tools = self._preparer.tools()
        process = DeviceProcess(
            target=self._target,
            config=self._config,
            known_library=tools.known_library,
            screen_path=tools.screen_path,
            log_path=self._work_dir / "logs" / "device.log",
        )
        process.opened()
        return process

    @property
    def measures_energy(self) -> bool:
        """See ``search.ports.Runner``."""
        return self.device.opened().meter != "none"

    @property
    def no_energy_reason(self) -> str:
        """Why energy is not measured; empty if it is."""
        return self.device.opened().reason

    def time(self, task: Task, build: Build) -> LatencyMeasurement | Failure:
        """See ``search.ports.Runner``."""
        return self._latency("check_and_time", task, build)

    def _latency(self, method: str, task: Task, build: Build) -> LatencyMeasurement | Failure:
        try:
            request = self._request(task, build)
        except (WorkerDied, WorkerLate, WorkerRaised) as error:
            return self._failure(
                TrialState.RUN_ERROR, f"no reference: {error}", self._preparer.log_path
            )
        try:
            return self.device.call(
                method, request, answer=LatencyMeasurement, timeout_s=self._config.timeout_s
            )
        except WorkerLate as error:
            return self._failure(TrialState.RUN_TIMEOUT, str(error), self._log_path)
        except WorkerDied as error:
            return self._failure(TrialState.RUN_ERROR, str(error), self._log_path)
        except WorkerRaised as error:
            wrong = error.kind == "WrongResult"
            state = TrialState.WRONG_RESULT if wrong else TrialState.RUN_ERROR
            return self._failure(state, str(error), self._log_path)

    @property
    def _log_path(self) -> Path:
        return self.device.child.log_path

    def _failure(self, state: TrialState, message: str, log_path: Path) -> Failure:
        logger.debug("run ended as %s: %s", state.value, message)
        return Failure(state=state, message=first_lines(message), log_path=str(log_path))

    def _request(self, task: Task, build: Build) -> KernelRequest:
        folder = self._preparer.folder(task.workload)
        return KernelRequest(
            workload=task.workload, folder=str(folder), library_path=build.library_path
        )

    def measure_energy(
        self, task: Task, build: Build, *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        """See ``search.ports.Runner``."""
        window_s = (self._config.settle_ms + self._config.energy_window_ms) / 1000
        try:
            self._meter.require(self.device, lambda: self._preparer.anchor().library_path)
            return self.device.call(
                "energy",
                EnergyRequest(kernel=self._request(task, build), matters_below_mj=matters_below_mj),
                answer=EnergyMeasurement,
                timeout_s=self._config.timeout_s + 4 * window_s,
            )
        except (WorkerDied, WorkerLate, WorkerRaised) as error:
            return EnergyMeasurement(
                energy_mj=None,
                meter=self.device.opened().meter,
                cache=self._config.cache,
                verdict=Verdict.UNMEASURED,
                reason=first_lines(str(error), n_lines=1),
            )

    def compare(
        self, task: Task, builds: Sequence[Build], effort: FinalEffort
    ) -> list[FinalMeasurement | Failure]:
        """See ``search.ports.Runner``."""
        n_done = [0] * len(builds)

        def measure(index: int) -> Measured | Failure:
            method = "time_only" if n_done[index] else "check_and_time"
            latency = self._latency(method, task, builds[index])
            if isinstance(latency, Failure):
                return latency
            n_done[index] += 1
            if self.measures_energy and n_done[index] > effort.n_energy_rounds:
                return latency, NOT_WORTH_A_WINDOW
            return latency, self.measure_energy(task, builds[index])

        return interleave(len(builds), effort.n_rounds, measure)

    def close(self) -> None:
        """See ``search.ports.Runner``."""
        self._preparer.close()
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._opening is not None and self._opening.exception() is None:
            self._opening.result().close()
