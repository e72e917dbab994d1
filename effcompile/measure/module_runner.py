"""Latency and energy of whole compiled modules, side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from effcompile.config import MeasureConfig
from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure.builder import first_lines
from effcompile.measure.device_process import DeviceProcess
from effcompile.measure.finals import Measured, interleave
from effcompile.measure.module_session import ModuleRequest, write_inputs
from schedules.target import Target
from search.ports import FinalMeasurement
from search.trial import EnergyMeasurement, Failure, LatencyMeasurement, TrialState


class ModuleRunner:
    """Measures artifacts in a device process of their own.

    Args:
        target: Device to use.
        config: How to measure; modules are always timed on the same buffers (hot).
        work_dir: Receives ``logs/``.
    """

    def __init__(self, target: Target, config: MeasureConfig, *, work_dir: Path) -> None:
        self._config = replace(config, cache="hot")
        self._device = DeviceProcess(
            target=target,
            config=self._config,
            known_library=None,
            log_path=work_dir.resolve() / "logs" / "module.log",
        )

    @property
    def no_energy_reason(self) -> str:
        """Why energy is not measured; empty if it is."""
        return self._device.opened().reason

    def compare(
        self, paths: Sequence[Path], entry: str, inputs: Sequence[np.ndarray], n_rounds: int
    ) -> list[FinalMeasurement | Failure]:
        """Measure the same entry point of several artifacts in turn.

        Args:
            paths: Artifacts; ratios are taken to the first.
            entry: Name of the entry point.
            inputs: What every one of them is called with.
            n_rounds: Interleaved repetitions.
        """
        with tempfile.TemporaryDirectory(prefix="effcompile-") as folder:
            specs = write_inputs(list(inputs), Path(folder))
            requests = [
                ModuleRequest(path=str(path.resolve()), entry=entry, inputs=specs, folder=folder)
                for path in paths
            ]
            return interleave(len(requests), n_rounds, lambda index: self._measure(requests[index]))

    def _measure(self, request: ModuleRequest) -> Measured | Failure:
        window_s = (self._config.settle_ms + self._config.energy_window_ms) / 1000
        timeout_s = self._config.timeout_s + 4 * window_s
        try:
            latency = self._device.call(
                "module_time", request, answer=LatencyMeasurement, timeout_s=timeout_s
            )
            energy = self._device.call(
                "module_energy", request, answer=EnergyMeasurement, timeout_s=timeout_s
            )
        except WorkerLate as error:
            return self._failure(TrialState.RUN_TIMEOUT, error)
        except (WorkerDied, WorkerRaised) as error:
            return self._failure(TrialState.RUN_ERROR, error)
        return latency, energy

    def _failure(self, state: TrialState, error: Exception) -> Failure:
        return Failure(
            state=state,
            message=first_lines(str(error)),
            log_path=str(self._device.child.log_path),
        )

    def close(self) -> None:
        """Stop the device process."""
        self._device.close()
