"""The cost models of a run: fed from the histories, asked by strategy and energy policy.

One latency and one energy model per design space, because feature vectors of two spaces
mean different things; each learns from all tasks of the run. Models are trained when
they are asked after new rows came, always from scratch, so their answers depend on the
recorded trials alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cost_models.base import CostModel, Prediction
from cost_models.baselines import ConstantPower, LinearEnergy
from cost_models.dataset import Dataset
from cost_models.device_models import DeviceModels
from cost_models.energy import EnergyModel, PowerModel
from cost_models.latency import LatencyModel
from cost_models.published import PublishedEnergyModel
from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.config import SearchConfig
from search.feature_cache import FeatureCache
from search.history import TaskHistory
from search.learning_rows import FoundRows, built_rows, draft_rows, has_energy, measured_rows
from search.strategy import Ranking
from search.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFactory:
    """How models are made; each call returns a new untrained one.

    Attributes:
        latency: Of candidates of a design space before they are built, by its name and
            number of features.
        draft: Energy of candidates before they are built.
        energy: Energy of candidates that were built and timed.
    """

    latency: Callable[[str, int], CostModel]
    draft: Callable[[], EnergyModel]
    energy: Callable[[], EnergyModel]


def models_of(config: SearchConfig, known: DeviceModels | None = None) -> ModelFactory:
    """The models a configuration names; same seed and rows, same answers.

    Args:
        config: Names them.
        known: What is known of the device beforehand, for the models that can use it.
    """
    makers: dict[str, Callable[[], EnergyModel]] = {
        "power": lambda: PowerModel(seed=config.seed),
        "published": lambda: PublishedEnergyModel(seed=config.seed),
        "constant": ConstantPower,
        "linear": LinearEnergy,
    }
    energy = makers[config.energy_model]
    if known is not None and config.energy_model == "power":
        energy = partial(PowerModel, seed=config.seed, prior=known.power)
    slowdown = {} if known is None else known.slowdown
    return ModelFactory(
        latency=lambda space, n_features: LatencyModel(
            seed=config.seed, prior=slowdown.get((space, n_features))
        ),
        draft=makers[config.energy_model],
        energy=energy,
    )


class Learner:
    """Latency and energy models per design space.

    Args:
        histories: All tasks of the run; read whenever a model is asked.
        features: Features of their candidates.
        factory: Makes untrained models.
    """

    def __init__(
        self, histories: Sequence[TaskHistory], *, features: FeatureCache, factory: ModelFactory
    ) -> None:
        self._histories = histories
        self._factory = factory
        self._cache = features
        self._latency: dict[tuple[str, int], tuple[int, CostModel]] = {}
        self._energy: dict[tuple[str, str, int], tuple[int, EnergyModel]] = {}

    def ranker(self, history: TaskHistory) -> TaskRanker:
        """The models as the strategy of one task sees them."""
        return TaskRanker(self, history)

    def rank(
        self, history: TaskHistory, space: DesignSpace, candidates: Sequence[Candidate]
    ) -> Ranking | None:
        """Predictions before building; ``None`` before the latency model knows the space."""
        if not candidates:
            return Ranking(log_slowdown=np.empty(0))
        features = self._cache.rows(history.task, space.name, candidates)
        latency = self._latency_model(space.name, features.shape[1])
        best_us = history.best_latency_us()
        if not latency.is_fitted:
            return None
        slowdown = latency.predict(features)
        if best_us is None:
            return Ranking(log_slowdown=slowdown.mean, log_spread=slowdown.spread)
        energy = self._energy_model("draft", space.name, features.shape[1])
        if not energy.is_fitted:
            return Ranking(log_slowdown=slowdown.mean, log_spread=slowdown.spread)
        rows = draft_rows(history, features, best_us * np.exp2(slowdown.mean))
        expected = energy.predict(rows)
        return Ranking(
            log_slowdown=slowdown.mean,
            log_spread=slowdown.spread,
            energy_mj=expected.mean,
            energy_spread_mj=expected.spread,
        )

    def energy_of(self, history: TaskHistory, trials: Sequence[Trial]) -> Prediction | None:
        """Energy of built and timed trials, millijoules; ``None`` while nothing is known.

        Trials of a space whose model has too few rows get the mean power of the task, or
        that of all tasks if this one has none.
        """
        answer = self._by_mean_power(history, trials) or self._by_device(history, trials)
        if answer is None:
            return None
        for space_name in sorted({trial.candidate.space for trial in trials}):
            places = [
                i
                for i, trial in enumerate(trials)
                if trial.candidate.space == space_name and trial.origin != "default"
            ]
            known = self._by_model(history, space_name, [trials[i] for i in places])
            if known is not None:
                answer.mean[places], answer.spread[places] = known.mean, known.spread
        return answer

    def _by_mean_power(self, history: TaskHistory, trials: Sequence[Trial]) -> Prediction | None:
        own = [history] if any(map(has_energy(history), history.ok_trials())) else self._histories
        model = ConstantPower()
        known, energies_mj = measured_rows(
            [(one, list(filter(has_energy(one), one.ok_trials())), None) for one in own]
        )
        model.fit(known, energies_mj)
        return model.predict(built_rows(history, trials, None)) if model.is_fitted else None

    def _by_device(self, history: TaskHistory, trials: Sequence[Trial]) -> Prediction | None:
        """What is known of the device beforehand, if anything."""
        model = self._factory.energy()
        return model.predict(built_rows(history, trials, None)) if model.is_fitted else None

    def _by_model(
        self, history: TaskHistory, space_name: str, trials: Sequence[Trial]
    ) -> Prediction | None:
        if not trials:
            return None
        early = self._cache.rows(history.task, space_name, [one.candidate for one in trials])
        model = self._energy_model("built", space_name, early.shape[1])
        return model.predict(built_rows(history, trials, early)) if model.is_fitted else None

    def _latency_model(self, space_name: str, n_features: int) -> CostModel:
        """The latency model of a space, trained on every row known now."""
        usable = self._usable(space_name, measured=False)
        n_rows = sum(len(trials) for _, trials in usable)
        key = (space_name, n_features)
        if key in self._latency and self._latency[key][0] == n_rows:
            return self._latency[key][1]
        model = self._factory.latency(space_name, n_features)
        found = self._with_features(usable, space_name, n_features)
        if found:
            model.fit(_latency_dataset(found))
        self._latency[key] = (n_rows, model)
        return model

    def _energy_model(self, kind: str, space_name: str, n_features: int) -> EnergyModel:
        """The energy model of a space; ``draft`` looks at nothing the compiler reports."""
        usable = self._usable(space_name, measured=True)
        n_rows = sum(len(trials) for _, trials in usable)
        key = (kind, space_name, n_features)
        if key in self._energy and self._energy[key][0] == n_rows:
            return self._energy[key][1]
        model = self._factory.draft() if kind == "draft" else self._factory.energy()
        found = self._with_features(usable, space_name, n_features)
        if found:
            rows, energies_mj = measured_rows(found)
            if kind == "draft":
                rows = replace(rows, late=rows.late[:, :0])
            model.fit(rows, energies_mj)
        self._energy[key] = (n_rows, model)
        return model

    def _usable(self, space_name: str, *, measured: bool) -> list[tuple[TaskHistory, list[Trial]]]:
        """Trials of a space that may train a model, by task."""
        found = []
        for history in self._histories:
            with_energy = has_energy(history)
            trials = [
                trial
                for trial in history.ok_trials()
                if trial.candidate.space == space_name
                and trial.origin != "default"
                and (not measured or with_energy(trial))
            ]
            if trials:
                found.append((history, trials))
        return found

    def _with_features(
        self,
        usable: Sequence[tuple[TaskHistory, list[Trial]]],
        space_name: str,
        n_features: int,
    ) -> list[FoundRows]:
        found: list[FoundRows] = []
        for history, trials in usable:
            candidates = [one.candidate for one in trials]
            early = self._cache.rows(history.task, space_name, candidates)
            if early.shape[1] == n_features:
                found.append((history, trials, early))
        return found


@dataclass(frozen=True, slots=True)
class TaskRanker:
    """A learner bound to one task; see :class:`search.strategy.Ranker`."""

    learner: Learner
    history: TaskHistory

    def rank(self, space: DesignSpace, candidates: Sequence[Candidate]) -> Ranking | None:
        """See :class:`search.strategy.Ranker`."""
        return self.learner.rank(self.history, space, candidates)


def _latency_dataset(found: Sequence[FoundRows]) -> Dataset:
    latencies = [one.point(trial).latency_us for one, trials, _ in found for trial in trials]
    return Dataset(
        features=np.concatenate([early for _, _, early in found if early is not None]),
        values=np.array(latencies),
        groups=np.repeat(
            np.array([one.position for one, _, _ in found], dtype=np.int64),
            [len(trials) for _, trials, _ in found],
        ),
    )
