"""Energy measurements of a round: choose, store the choice, measure, store each number."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import numpy as np

from search.config import SearchConfig
from search.energy_policy import EnergyCandidate, EnergyPolicy, EnergyState, ModelError
from search.events import EnergyMeasured
from search.history import TaskHistory
from search.learner import Learner
from search.learning_rows import has_energy
from search.objective import choose
from search.stored import EnergyPlan, EnergyRecord
from search.tools import Tools
from search.trial import EnergyMeasurement, Failure, Trial, Verdict


def plan_energy(
    history: TaskHistory,
    *,
    learner: Learner,
    policy: EnergyPolicy,
    config: SearchConfig,
    round_index: int,
    rng: np.random.Generator,
) -> list[EnergyPlan]:
    """Which trials of a task get an energy measurement now; the default always, once.

    Args:
        history: The task with all its finished trials.
        learner: Predicts the energies.
        policy: Chooses.
        config: Sets who is fast enough to be chosen.
        round_index: The round that just finished.
        rng: For picks at random.
    """
    plans: list[EnergyPlan] = []
    default = history.default_trial()
    if default is not None and history.energy_of(default) is None:
        plans.append(EnergyPlan(trial_id=default.trial_id))
    best_us = history.best_latency_us()
    if best_us is None:
        return plans
    limit_us = best_us * (1.0 + config.energy_band)
    waiting = [
        trial
        for trial in history.ok_trials()
        if trial.same_as is None
        and trial is not default
        and history.energy_of(trial) is None
        and history.point(trial).latency_us <= limit_us
    ]
    candidates, has_model = _predictions(history, waiting, learner, round_index)
    state = _state(history, candidates, config, best_us)
    predicted = {one.trial_id: one for one in candidates}
    for pick in policy.pick(state, rng):
        expected = predicted[pick.trial_id]
        plans.append(
            EnergyPlan(
                trial_id=pick.trial_id,
                predicted_mj=expected.energy_mj if has_model else None,
                spread_mj=expected.spread_mj if has_model else None,
                is_control=pick.is_control,
            )
        )
    return plans


def _predictions(
    history: TaskHistory, trials: Sequence[Trial], learner: Learner, round_index: int
) -> tuple[list[EnergyCandidate], bool]:
    """Predicted energies; latencies in their place before anything is known of energies."""
    expected = learner.energy_of(history, trials) if trials else None
    latencies_us = np.array([history.point(trial).latency_us for trial in trials])
    means = latencies_us if expected is None else expected.mean
    spreads = np.zeros(len(trials)) if expected is None else expected.spread
    return [
        EnergyCandidate(
            trial_id=trial.trial_id,
            latency_us=float(latencies_us[i]),
            energy_mj=float(means[i]),
            spread_mj=float(spreads[i]),
            is_new=trial.round_index >= round_index,
        )
        for i, trial in enumerate(trials)
    ], expected is not None


def _state(
    history: TaskHistory,
    candidates: list[EnergyCandidate],
    config: SearchConfig,
    best_us: float,
) -> EnergyState:
    choice = choose(history.points(), max_slowdown=config.max_slowdown)
    incumbent = None
    if choice is not None and choice.criterion == "energy":
        incumbent = history.energy_by_id(choice.point.trial_id)
    measured = filter(has_energy(history), history.ok_trials())
    return EnergyState(
        candidates=candidates,
        incumbent_mj=None if incumbent is None else incumbent.steady_mj,
        incumbent_ci95_mj=None if incumbent is None else incumbent.ci95_mj,
        errors=model_errors(history),
        limit_us=best_us * (1.0 + config.max_slowdown),
        n_measured=sum(one.origin != "default" and one.same_as is None for one in measured),
    )


def model_errors(history: TaskHistory) -> list[ModelError]:
    """Predictions of a task beside what was measured afterwards, in order."""
    return [
        ModelError(
            round_index=record.round_index,
            trial_id=record.trial_id,
            predicted_mj=record.plan.predicted_mj,
            measured_mj=record.measurement.steady_mj,
            is_control=record.plan.is_control,
            spread_mj=record.plan.spread_mj,
            ci95_mj=record.measurement.ci95_mj,
        )
        for record in history.energy_records
        if record.plan.predicted_mj is not None
        and record.measurement is not None
        and record.measurement.verdict.usable
        and record.measurement.steady_mj is not None
    ]


class EnergyRunner:
    """Takes planned energy measurements of one session."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def run(self, history: TaskHistory, record: EnergyRecord) -> None:
        """Measure and store one.

        Raises:
            Stopped: Asked to stop; it stays planned.
        """
        trial = next(one for one in history.trials if one.trial_id == record.trial_id)
        self._tools.libraries.check_stop()
        with self._tools.spending.time("energy_s"):
            measurement = self._measure(history, trial)
        self._tools.spending.add_energy(measurement)
        history.add_energy(self._tools.database.finish_energy(record, measurement))
        self._tools.events(
            EnergyMeasured(
                trial_id=record.trial_id,
                measurement=measurement,
                task=self._tools.progress.task(history),
                totals=self._tools.progress.totals(),
            )
        )

    def _measure(self, history: TaskHistory, trial: Trial) -> EnergyMeasurement:
        build = self._tools.libraries.get(history.task, trial)
        if isinstance(build, Failure):
            return _lost(f"could not be built again: {build.message}")
        try:
            return self._tools.runner.measure_energy(
                history.task, build, matters_below_mj=_matters_below_mj(history, trial)
            )
        except Exception:
            return _lost(traceback.format_exc())


def _matters_below_mj(history: TaskHistory, trial: Trial) -> float | None:
    """Beyond this energy a candidate is neither a winner nor on the front: the least that was
    measured of those no slower.
    """
    latency_us = history.point(trial).latency_us
    known = [
        point.energy_mj
        for point in history.points()
        if point.energy_mj is not None and point.latency_us <= latency_us
    ]
    return min(known, default=None)


def _lost(reason: str) -> EnergyMeasurement:
    return EnergyMeasurement(
        energy_mj=None, meter="none", verdict=Verdict.METER_LOST, reason=reason
    )
