"""The cost models of a run: fed from the histories, asked by strategy and energy policy.

One latency and one power model per design space, because feature vectors of two spaces
mean different things; each learns from all tasks of the run. Models are trained when
they are asked after new rows came, always from scratch, so their answers depend on the
recorded trials alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cost_models.base import CostModel, Prediction
from cost_models.baselines import ConstantPower
from cost_models.dataset import Dataset
from cost_models.energy import PowerModel, low_energy_weights
from cost_models.features import compiler_features
from cost_models.latency import LatencyModel
from schedules.candidate import Candidate
from schedules.space import DesignSpace
from schedules.task import Task
from search.feature_cache import FeatureCache
from search.history import TaskHistory
from search.strategy import Ranking
from search.trial import Trial

LOW_ENERGY_GAMMA = 4.0

SpaceOf = Callable[[Task, str], DesignSpace]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFactory:
    """How models are made; each call returns a new untrained one."""

    latency: Callable[[], CostModel]
    power: Callable[[], CostModel]


def boosted_models(seed: int) -> ModelFactory:
    """XGBoost models that give the same answers for the same seed and rows."""
    return ModelFactory(
        latency=lambda: LatencyModel(seed=seed), power=lambda: PowerModel(seed=seed)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """One measured trial with the features of its candidate."""

    history: TaskHistory
    trial: Trial
    features: np.ndarray


class Learner:
    """Latency and power models per design space.

    Args:
        histories: All tasks of the run; read whenever a model is asked.
        space_of: Opens a design space of a task.
        factory: Makes untrained models.
    """

    def __init__(
        self, histories: Sequence[TaskHistory], *, space_of: SpaceOf, factory: ModelFactory
    ) -> None:
        self._histories = histories
        self._space_of = space_of
        self._factory = factory
        self._cache = FeatureCache()
        self._trained: dict[tuple[str, str, int], tuple[int, CostModel]] = {}

    def ranker(self, history: TaskHistory) -> TaskRanker:
        """The models as the strategy of one task sees them."""
        return TaskRanker(self, history)

    def rank(
        self, history: TaskHistory, space: DesignSpace, candidates: Sequence[Candidate]
    ) -> Ranking | None:
        """Predictions before building; ``None`` before the latency model knows the space."""
        features = self._cache.rows(history.task.task_id, space, candidates)
        if not candidates:
            return Ranking(log_slowdown=np.empty(0), power_w=None)
        latency = self._model("latency", space.name, features.shape[1])
        if not latency.is_fitted:
            return None
        power = self._model("draft power", space.name, features.shape[1])
        return Ranking(
            log_slowdown=latency.predict(features).mean,
            power_w=power.predict(features).mean if power.is_fitted else None,
        )

    def power_of(self, history: TaskHistory, trials: Sequence[Trial]) -> Prediction | None:
        """Power of built and timed trials, watts; ``None`` before any energy was measured.

        Trials of a space whose model has too few rows get the mean power of all rows.
        """
        fallback = self._mean_power(history)
        if not fallback.is_fitted:
            return None
        answer = fallback.predict(np.empty((len(trials), 0)))
        for space_name in sorted({trial.candidate.space for trial in trials}):
            places = [
                i
                for i, trial in enumerate(trials)
                if trial.candidate.space == space_name and trial.origin != "default"
            ]
            known = self._predict_power(history, space_name, [trials[i] for i in places])
            if known is not None:
                answer.mean[places], answer.spread[places] = known.mean, known.spread
        return answer

    def _predict_power(
        self, history: TaskHistory, space_name: str, trials: Sequence[Trial]
    ) -> Prediction | None:
        if not trials:
            return None
        space = self._space_of(history.task, space_name)
        candidates = [trial.candidate for trial in trials]
        early = self._cache.rows(history.task.task_id, space, candidates)
        model = self._model("power", space_name, early.shape[1])
        if not model.is_fitted:
            return None
        rows = [
            _with_compiler_numbers(history, trial, row)
            for trial, row in zip(trials, early, strict=True)
        ]
        return model.predict(np.stack(rows))

    def _mean_power(self, history: TaskHistory) -> ConstantPower:
        """Mean power of the task, of all tasks if this one has none yet."""
        model = ConstantPower()
        own = [history] if _powers_w(history) else self._histories
        powers = np.array([power for one in own for power in _powers_w(one)])
        model.fit(
            Dataset(
                features=np.empty((len(powers), 0), dtype=np.float32),
                values=powers,
                groups=np.zeros(len(powers), dtype=np.int64),
            )
        )
        return model

    def _model(self, kind: str, space_name: str, n_features: int) -> CostModel:
        """The model of a space, trained on every row known now."""
        n_rows = sum(
            trial.candidate.space == space_name and (kind == "latency" or _has_power(one, trial))
            for one in self._histories
            for trial in one.ok_trials()
        )
        key = (kind, space_name, n_features)
        if key in self._trained and self._trained[key][0] == n_rows:
            return self._trained[key][1]
        model = self._factory.latency() if kind == "latency" else self._factory.power()
        rows = self._rows(space_name, n_features, needs_power=kind != "latency")
        if rows:
            model.fit(_dataset(kind, rows))
        self._trained[key] = (n_rows, model)
        return model

    def _rows(self, space_name: str, n_features: int, *, needs_power: bool) -> list[_Row]:
        rows: list[_Row] = []
        for history in self._histories:
            trials = [
                trial
                for trial in history.ok_trials()
                if trial.candidate.space == space_name
                and trial.origin != "default"
                and (not needs_power or _has_power(history, trial))
            ]
            if not trials:
                continue
            space = self._space_of(history.task, space_name)
            features = self._cache.rows(
                history.task.task_id, space, [trial.candidate for trial in trials]
            )
            if features.shape[1] != n_features:
                continue
            rows += [
                _Row(history=history, trial=trial, features=row)
                for trial, row in zip(trials, features, strict=True)
            ]
        return rows


@dataclass(frozen=True, slots=True)
class TaskRanker:
    """A learner bound to one task; see :class:`search.strategy.Ranker`."""

    learner: Learner
    history: TaskHistory

    def rank(self, space: DesignSpace, candidates: Sequence[Candidate]) -> Ranking | None:
        """See :class:`search.strategy.Ranker`."""
        return self.learner.rank(self.history, space, candidates)


def _dataset(kind: str, rows: Sequence[_Row]) -> Dataset:
    groups = np.array([row.history.position for row in rows], dtype=np.int64)
    features = np.stack([row.features for row in rows])
    if kind == "latency":
        latencies = [row.history.point(row.trial).latency_us for row in rows]
        return Dataset(features=features, values=np.array(latencies), groups=groups)
    if kind == "power":
        features = np.stack(
            [_with_compiler_numbers(row.history, row.trial, row.features) for row in rows]
        )
    energies = np.array([row.history.point(row.trial).energy_mj for row in rows])
    powers = np.array([_power_w(row.history, row.trial) for row in rows])
    weights = low_energy_weights(energies, groups, gamma=LOW_ENERGY_GAMMA)
    return Dataset(features=features, values=powers, groups=groups, weights=weights)


def _with_compiler_numbers(history: TaskHistory, trial: Trial, features: np.ndarray) -> np.ndarray:
    if trial.build is None:
        raise ValueError(f"trial {trial.trial_id} was never built")
    late = compiler_features(
        trial.build.stats,
        latency_us=history.point(trial).latency_us,
        target=history.task.target,
    )
    return np.concatenate([features, late])


def _has_power(history: TaskHistory, trial: Trial) -> bool:
    return history.point(trial).energy_mj is not None


def _power_w(history: TaskHistory, trial: Trial) -> float:
    """Energy over the latency of the search, so that power times that latency is the energy."""
    point = history.point(trial)
    if point.energy_mj is None:
        raise ValueError(f"trial {trial.trial_id} has no energy")
    return point.energy_mj * 1e3 / point.latency_us


def _powers_w(history: TaskHistory) -> list[float]:
    return [_power_w(history, trial) for trial in history.ok_trials() if _has_power(history, trial)]
