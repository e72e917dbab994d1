"""A runner that runs nothing: latency and energy of compiled kernels from a device's models.

Every number it gives is marked as predicted (``method`` of a latency, ``meter`` of an
energy), and no result is compared with a reference: a wrong kernel would not be noticed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cost_models.device_models import DeviceModels
from cost_models.features import compiler_features
from cost_models.power_limit import limited
from schedules.task import Task
from search.ports import FinalEffort, FinalMeasurement
from search.trial import (
    Build,
    EnergyMeasurement,
    Failure,
    LatencyMeasurement,
    TrialState,
    Verdict,
)

PREDICTED = "predicted"
"""Method of a latency, and meter of an energy, that nobody measured."""

RATIO_ROUNDS = 5
"""Entries that a predicted ratio is spread over, see :func:`_spread`."""


class PredictingRunner:
    """Implements :class:`search.ports.Runner` without a device.

    Args:
        models: Of the device that candidates are compiled for.
        cache: Cache mode that the models' measurements were taken in.
    """

    def __init__(self, models: DeviceModels, *, cache: str) -> None:
        self._models = models
        self._cache = cache

    @property
    def measures_energy(self) -> bool:
        """Energies are predicted like latencies."""
        return True

    def time(self, task: Task, build: Build) -> LatencyMeasurement | Failure:
        """See :class:`search.ports.Runner`; compared with no reference."""
        if not build.stats.kernels:
            return Failure(
                state=TrialState.RUN_ERROR,
                message="nothing can be predicted: the build tells nothing of its kernels.",
            )
        answer = self._models.latency.predict(_late(task, build, math.nan))
        latency_us = float(np.exp(answer.mean[0]))
        return LatencyMeasurement(
            latency_us=latency_us,
            ci95_us=1.96 * float(answer.spread[0]) * latency_us,
            n_repeats=0,
            n_launches=0,
            cache=self._cache,
            method=PREDICTED,
        )

    def measure_energy(
        self, task: Task, build: Build, *, matters_below_mj: float | None = None
    ) -> EnergyMeasurement:
        """See :class:`search.ports.Runner`; predicted power times predicted latency."""
        log_latency, log_power = self._members(task, build)
        power_w = float(np.exp(log_power.mean()))
        energy_mj = power_w * float(np.exp(log_latency.mean())) * 1e-3
        share = math.hypot(self._error("latency"), self._error("power"))
        return EnergyMeasurement(
            energy_mj=energy_mj,
            ci95_mj=1.96 * share * energy_mj,
            power_w=power_w,
            meter=PREDICTED,
            cache=self._cache,
            verdict=Verdict.OK,
            reason=f"predicted by {self._models.label()}, never run.",
        )

    def _error(self, quantity: str) -> float:
        model = self._models.latency if quantity == "latency" else self._models.power
        return math.hypot(model.level_error, model.within_error)

    def _members(self, task: Task, build: Build) -> tuple[np.ndarray, np.ndarray]:
        """Logarithms of latency and of power at the limit by each member, shape (n_members,)."""
        log_latency = self._models.latency.predict_members(_late(task, build, math.nan))[:, 0]
        late = _late(task, build, float(np.exp(log_latency.mean())))
        power = self._models.power
        return log_latency, limited(power.predict_members(late)[:, 0], power.limit_w)

    def compare(
        self, task: Task, builds: Sequence[Build], effort: FinalEffort
    ) -> list[FinalMeasurement | Failure]:
        """See :class:`search.ports.Runner`.

        What candidates of one workload share cancels in a ratio; its interval comes from the
        error that remains in both.
        """
        found: list[FinalMeasurement | Failure] = []
        first = self._members(task, builds[0])
        within = self._models.latency.within_error, self._models.power.within_error
        for number, build in enumerate(builds):
            latency = self.time(task, build)
            if isinstance(latency, Failure):
                found.append(latency)
                continue
            log_latency, log_power = self._members(task, build)
            slower = float((log_latency - first[0]).mean())
            hungrier = slower + float((log_power - first[1]).mean())
            known = 0.0 if number == 0 else math.sqrt(2.0)
            found.append(
                FinalMeasurement(
                    latency=latency,
                    energy=self.measure_energy(task, build),
                    latency_ratios=_spread(slower, known * within[0]),
                    energy_ratios=_spread(hungrier, known * math.hypot(*within)),
                )
            )
        return found

    def close(self) -> None:
        """See :class:`search.ports.Runner`; nothing is open."""


def _spread(log_ratio: float, error: float) -> tuple[float, ...]:
    """Ratios whose median is the predicted one and whose 95 % interval is that of its error.

    Ratios are told as rounds, from which :func:`search.comparison.ratio_of` takes Student's
    interval of the mean; these are laid out so that it comes to ``1.96 * error``.
    """
    from scipy.special import stdtrit

    places = np.linspace(-1.0, 1.0, RATIO_ROUNDS)
    half = float(stdtrit(RATIO_ROUNDS - 1, 0.975)) * places.std(ddof=1) / math.sqrt(RATIO_ROUNDS)
    return tuple(float(one) for one in np.exp(log_ratio + places * 1.96 * error / half))


def _late(task: Task, build: Build, latency_us: float) -> np.ndarray:
    row = compiler_features(build.stats, latency_us=latency_us, target=task.target)
    return row[None, :]
