"""The ways to search that are compared: settings, and what the loop is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cost_models.device_models import DeviceModels
from effcompile.bench.replayed import Replayed, replayed
from effcompile.config import TuneConfig
from effcompile.replaying import replay
from search.database import Database
from search.history import TaskHistory
from search.learner import models_of
from search.memory import RunMemory
from search.recording import RecordedTask, Recording
from search.replay import ReplayRunner
from search.stored import EnergyPlan

N_FASTEST = 32
STOCK_SPACE = "tvm"


class LatencyRunner(ReplayRunner):
    """The recorded device without its meter."""

    @property
    def measures_energy(self) -> bool:
        """Nothing is metered."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to search.

    Attributes:
        about: What it is, for people.
        settings: Of the search, where they differ from the common ones.
        run: Searches a recording.
        has_equal_time: True if it gets as many trials as fit into the recorded time of
            the reference way, instead of as many trials.
        is_warm: True if its models start from what other workloads taught.
    """

    about: str
    settings: dict[str, Any] = field(default_factory=dict)
    run: Callable[[Recording, TuneConfig], Replayed] = replayed
    has_equal_time: bool = False
    is_warm: bool = False

    def search(
        self, recording: Recording, config: TuneConfig, known: DeviceModels | None
    ) -> Replayed:
        """Search a recording this way.

        Args:
            recording: What is searched.
            config: Common settings.
            known: Models that were trained on other workloads, for ways that are warm.
        """
        config = replace(config, search=replace(config.search, **self.settings))
        if self.is_warm and known is not None:
            return replayed(recording, config, search=partial(_replay_warm, known=known))
        return self.run(recording, config)


def _replay_warm(
    recording: Recording, database: Database, config: TuneConfig, *, known: DeviceModels
) -> None:
    replay(recording, database, config=config, models=models_of(config.search, known))


def _latency_only(recording: Recording, config: TuneConfig) -> Replayed:
    """The stock space alone, no meter: what a latency tuner does."""

    def search(recording: Recording, database: Database, config: TuneConfig) -> None:
        replay(
            recording,
            database,
            config=config,
            runner=LatencyRunner(recording),
            space_names=_stock_space,
        )

    return replayed(recording, config, search=search)


def _stock_space(task: RecordedTask) -> Sequence[str]:
    names = [space.name for space in task.spaces]
    return [STOCK_SPACE] if STOCK_SPACE in names else names


def _latency_then_energy(recording: Recording, config: TuneConfig) -> Replayed:
    """No meter while searching; then one window for each of the fastest, then finalists."""
    # Other finals than those of the second part, which would otherwise stand.
    first = replace(config, search=replace(config.search, n_finalists=1, n_final_rounds=1))

    def search(recording: Recording, database: Database, config: TuneConfig) -> None:
        replay(recording, database, config=first, runner=LatencyRunner(recording))
        runner = ReplayRunner(recording)
        for history in RunMemory(database.tasks(), database).histories:
            _meter_fastest(history, database, runner)
        replay(recording, database, config=config, runner=runner)

    return replayed(recording, config, search=search)


def _meter_fastest(history: TaskHistory, database: Database, runner: ReplayRunner) -> None:
    trials = [one for one in history.ok_trials() if one.same_as is None]
    fastest = sorted(trials, key=lambda one: (history.point(one).latency_us, one.trial_id))
    chosen = [one for one in fastest[:N_FASTEST] if one.build is not None]
    plans = [EnergyPlan(trial_id=one.trial_id) for one in chosen]
    last_round = max(one.round_index for one in history.trials)
    records = database.plan_energy(history.task.task_id, last_round, plans)
    for record, trial in zip(records, chosen, strict=True):
        if trial.build is not None:
            database.finish_energy(record, runner.measure_energy(history.task, trial.build))


REFERENCE = "V2"

WAYS: dict[str, Way] = {
    "B1": Way(
        about="latency only, TVM's space",
        settings={"evolve_by": "latency", "max_slowdown": 0.0, "energy_policy": "never"},
        run=_latency_only,
    ),
    "B3": Way(
        about="latency, then energy of the 32 fastest, equal time",
        settings={"evolve_by": "latency", "energy_policy": "never", "energy_warmup": 0},
        run=_latency_then_energy,
        has_equal_time=True,
    ),
    "B4": Way(about="measure all, k = 1", settings={"energy_policy": "measure_all"}),
    "B5": Way(about="never after a warm-up, k = 0", settings={"energy_policy": "never"}),
    "B6": Way(
        about="random, equal time",
        settings={"strategy": "random"},
        has_equal_time=True,
    ),
    "published": Way(
        about="published model, raw SNR, evolution by latency",
        settings={
            "energy_policy": "snr",
            "energy_snr": "raw",
            "energy_model": "published",
            "evolve_by": "latency",
        },
    ),
    "V1": Way(about="ours, evolution by latency", settings={"evolve_by": "latency"}),
    "V2": Way(about="ours, evolution by latency and energy"),
    "warm": Way(about="V2, models from the other workloads", is_warm=True),
    "trust": Way(
        about="V2, models from the other workloads, one window, then k = 0",
        settings={"energy_policy": "never", "energy_warmup": 1},
        is_warm=True,
    ),
    "overlap": Way(
        about="V2, whoever may still beat the best", settings={"energy_policy": "overlap"}
    ),
    "top": Way(about="V2, energy of the predicted 8 best", settings={"energy_policy": "top"}),
    "snr": Way(about="V2, share by centred SNR", settings={"energy_policy": "snr"}),
}
"""Ways to search by name; ``V2`` has the default settings."""
