"""The device process as its callers see it: always proven, replaced after any fault."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

from effcompile.config import MeasureConfig
from effcompile.errors import DeviceUnavailable, WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.child import ChildProcess
from effcompile.measure.worker import OpenAnswer, OpenRequest
from schedules.target import Target

logger = logging.getLogger(__name__)
T = TypeVar("T")
MODULE = "effcompile.measure.worker"
N_OPENING_TRIES = 3
# Creating a context on a host with many GPUs takes tens of seconds.
OPENING_S = 120.0


class DeviceProcess:
    """Calls into the process that owns the device.

    Args:
        target: Device to use.
        config: How to measure.
        known_library: Library of the known kernel; ``None`` skips the proof.
        log_path: Receives the process's output.
        screen_path: See ``OpenRequest``.
    """

    def __init__(
        self,
        *,
        target: Target,
        config: MeasureConfig,
        known_library: str | None,
        log_path: Path,
        screen_path: str | None = None,
    ) -> None:
        self._request = OpenRequest(
            target=target, config=config, known_library=known_library, screen_path=screen_path
        )
        self.child = ChildProcess(MODULE, log_path=log_path, environment=device_environment(target))
        self._opened: OpenAnswer | None = None
        self._n_openings = 0

    @property
    def n_openings(self) -> int:
        """Times the device was opened; a process that was replaced has forgotten its meter."""
        return self._n_openings

    def opened(self) -> OpenAnswer:
        """Open and prove the device if that has not happened since the last fault.

        Raises:
            DeviceUnavailable: It cannot be opened, or gets a known kernel wrong.
        """
        if self._opened is not None and self.child.is_running:
            return self._opened
        problem: Exception | None = None
        for _ in range(N_OPENING_TRIES):
            try:
                self._opened = self.child.call(
                    "open", self._request, answer=OpenAnswer, timeout_s=OPENING_S
                )
                self._n_openings += 1
                return self._opened
            except (WorkerDied, WorkerLate, WorkerRaised) as error:
                logger.info("the device did not open: %s", error)
                problem = error
                self.child.kill()
        raise DeviceUnavailable(
            f"the device {self._request.target.name} did not run a known kernel in "
            f"{N_OPENING_TRIES} tries: {problem} See {self.child.log_path}."
        )

    def call(self, method: str, argument: Any, *, answer: type[T], timeout_s: float) -> T:
        """Call a method on a proven device; anything but a wrong result replaces the process.

        Raises:
            WorkerDied: See :meth:`ChildProcess.call`.
            WorkerLate: Likewise.
            WorkerRaised: Likewise; kind ``WrongResult`` leaves the process as it is.
            DeviceUnavailable: See :meth:`opened`.
        """
        self.opened()
        try:
            return self.child.call(method, argument, answer=answer, timeout_s=timeout_s)
        except WorkerRaised as error:
            if error.kind != "WrongResult":
                # A device error may stick to the context and fail every later kernel.
                self.child.kill()
            raise

    def close(self) -> None:
        """Stop the process."""
        self.child.close()


def device_environment(target: Target) -> dict[str, str]:
    """Variables of the device process: runtime without compiler, threads of the target."""
    environment = {"TVM_USE_RUNTIME_LIB": "1"}
    if target.kind == "llvm":
        environment["TVM_NUM_THREADS"] = str(target.n_cores)
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment
