"""Ways to search for low energy, compared on a recorded device over several seeds.

Every way gets the same number of trials on the same recording. What it chose is judged by
the best estimate of all windows the recording holds of it, never by what it measured
itself; what it spent is counted in the seconds the device took when it was recorded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.replaying import replay
from search.config import SearchConfig
from search.database import Database
from search.identity import Identity, search_settings
from search.memory import RunMemory
from search.model_quality import model_quality
from search.recording import RecordedBinary, RecordedTask, Recording
from search.replay import binaries_of
from search.stored import EnergyRecord
from search.winners import Winner, winners

REFERENCE = "measure all (k=1)"

CONTENDERS: dict[str, dict[str, Any]] = {
    "latency, then top 32": {"energy_policy": "never", "energy_warmup": 0, "n_finalists": 32},
    REFERENCE: {"energy_policy": "measure_all"},
    "never (k=0)": {"energy_policy": "never"},
    "random": {"strategy": "random"},
    "published model, raw snr": {
        "energy_policy": "snr",
        "energy_snr": "raw",
        "energy_model": "published",
    },
    "top": {"energy_policy": "top"},
    "snr": {"energy_policy": "snr"},
    "overlap": {"energy_policy": "overlap"},
}
"""Settings that differ between the ways to search, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """One way to search with one seed.

    Attributes:
        seed: Seed of the search.
        excess_energy: Energy of the network's chosen candidates over the least that the
            recording holds, minus 1; tasks weigh by energy. Candidates slower than the latency
            limit are charged as much more energy as they are slower: a search that missed the
            fast ones must not look frugal.
        slowdown: Their latency over the least recorded, minus 1; tasks weigh by latency.
        saved: Energy saved against the default schedules, as a share.
        n_unknown: Chosen candidates without a recorded energy, left out of the energies.
        n_trials: Trials.
        n_energies: Energy windows while searching.
        trial_s: Device and compiler seconds of building, checking and timing.
        energy_s: Device seconds of energy windows while searching.
        final_s: Device seconds of the interleaved re-measurement.
        spearman: Of the energy model, see :class:`cost_models.quality.ModelQuality`.
        coverage: Likewise.
    """

    seed: int
    excess_energy: float | None
    slowdown: float
    saved: float | None
    n_unknown: int
    n_trials: int
    n_energies: int
    trial_s: float
    energy_s: float
    final_s: float
    spearman: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One way to search, over all seeds; intervals are 95 % by Student.

    Attributes:
        name: Which way.
        excess_percent: Mean excess energy over the best recorded.
        excess_ci95: Half width of its interval.
        versus_k1_percent: Mean energy against measuring everything, seed by seed.
        versus_k1_ci95: Half width of its interval.
        saved_percent: Mean energy saved against the defaults.
        slowdown_percent: Mean latency given up against the fastest recorded.
        n_trials: Mean trials.
        n_energies: Mean energy windows while searching.
        energy_s: Mean seconds of them.
        final_s: Mean seconds of the final comparison.
        trial_s: Mean seconds of building, checking and timing.
        spearman: Mean rank correlation of predicted energies.
        coverage: Mean share inside the stated 90 % intervals.
        outcomes: The seeds one by one.
    """

    name: str
    excess_percent: float | None
    excess_ci95: float | None
    versus_k1_percent: float | None
    versus_k1_ci95: float | None
    saved_percent: float | None
    slowdown_percent: float | None
    n_trials: float | None
    n_energies: float | None
    energy_s: float | None
    final_s: float | None
    trial_s: float | None
    spearman: float | None
    coverage: float | None
    outcomes: tuple[SearchOutcome, ...]


def bench_search(
    recording: Recording,
    *,
    config: TuneConfig,
    seeds: Sequence[int],
    names: Sequence[str] = tuple(CONTENDERS),
    watch: Callable[[str], None] = lambda text: None,
) -> list[SearchRow]:
    """Run every way to search with every seed.

    Args:
        recording: What is searched.
        config: Settings that all ways share.
        seeds: At least one; intervals need two.
        names: Which of :data:`CONTENDERS`.
        watch: Told what is running.

    Raises:
        UsageError: An unknown way to search.
    """
    unknown = sorted(set(names) - set(CONTENDERS))
    if unknown:
        raise UsageError(
            f"unknown way to search {unknown[0]!r}: expected one of {', '.join(CONTENDERS)}."
        )
    outcomes: dict[str, list[SearchOutcome]] = {name: [] for name in names}
    for name in names:
        for seed in seeds:
            watch(f"{name}, seed {seed}")
            search = replace(config.search, seed=seed, **CONTENDERS[name])
            outcomes[name].append(_outcome(recording, replace(config, search=search)))
    reference = outcomes.get(REFERENCE, [])
    return [_row(name, found, reference) for name, found in outcomes.items()]


def _outcome(recording: Recording, config: TuneConfig) -> SearchOutcome:
    identity = Identity(
        model_hash="bench",
        target=recording.tasks[0].task.target,
        settings=search_settings(config.search),
    )
    with (
        tempfile.TemporaryDirectory(prefix="effcompile-bench-") as folder,
        Database(Path(folder)) as database,
    ):
        database.claim(identity, config_json="{}")
        replay(recording, database, config=config)
        return _judge(recording, database, config.search)


def _judge(recording: Recording, database: Database, config: SearchConfig) -> SearchOutcome:
    chosen = winners(database, config)
    histories = RunMemory(database.tasks(), database).histories
    quality = model_quality(histories, model=config.energy_model)[0]
    choices = [_choice(one, chosen[one.task.task_id], config) for one in recording.tasks]
    known = [one for one in choices if one.energy_mj is not None and one.least_mj is not None]
    energy = sum(one.weight * (one.charged_mj or 0.0) for one in known)
    spent = sum(one.weight * (one.energy_mj or 0.0) for one in known)
    least = sum(one.weight * (one.least_mj or 0.0) for one in known)
    default = sum(one.weight * (one.default_mj or 0.0) for one in known)
    latency = sum(one.weight * one.latency_us for one in choices)
    fastest = sum(one.weight * one.fastest_us for one in choices)
    trials, energies = database.trials(), database.energies()
    binaries = binaries_of(recording)
    built = [(trial, trial.build) for trial in trials if trial.build is not None]
    return SearchOutcome(
        seed=config.seed,
        excess_energy=energy / least - 1.0 if least else None,
        slowdown=latency / fastest - 1.0,
        saved=1.0 - spent / default if default else None,
        n_unknown=len(choices) - len(known),
        n_trials=len(trials),
        n_energies=sum(one.phase == "search" for one in energies),
        trial_s=sum(
            build.build_s
            + (binaries[trial.task_id, build.binary_id].run_s if trial.same_as is None else 0.0)
            for trial, build in built
        ),
        energy_s=_window_s(recording, energies, "search"),
        final_s=config.n_final_rounds * _window_s(recording, energies, "final"),
        spearman=quality.spearman,
        coverage=quality.coverage,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """What was chosen for a task, beside the best that is recorded."""

    weight: int
    energy_mj: float | None
    latency_us: float
    default_mj: float | None
    charged_mj: float | None
    least_mj: float | None
    fastest_us: float


def _choice(task: RecordedTask, winner: Winner, config: SearchConfig) -> _Choice:
    usable = [(one, _latency_us(one)) for one in task.binaries if _is_usable(one)]
    fastest_us = min(latency_us for _, latency_us in usable)
    limit_us = fastest_us * (1.0 + config.max_slowdown)
    charged = [_charged_mj(one, limit_us) for one, _ in usable]
    by_id = {one.binary_id: one for one in task.binaries}
    build = winner.trial.build
    if build is None:
        raise ValueError(f"winner {winner.trial.trial_id} was never built")
    return _Choice(
        weight=task.task.weight,
        energy_mj=by_id[build.binary_id].energy_mj(),
        latency_us=_latency_us(by_id[build.binary_id]),
        default_mj=by_id[task.default.binary_id].energy_mj(),
        charged_mj=_charged_mj(by_id[build.binary_id], limit_us),
        least_mj=min((one for one in charged if one is not None), default=None),
        fastest_us=fastest_us,
    )


def _charged_mj(binary: RecordedBinary, limit_us: float) -> float | None:
    """Energy, raised by whatever the latency limit is missed by; ``None`` if not recorded."""
    energy = binary.energy_mj()
    return None if energy is None else energy * max(1.0, _latency_us(binary) / limit_us)


def _is_usable(binary: RecordedBinary) -> bool:
    return binary.failure is None and binary.latency is not None


def _latency_us(binary: RecordedBinary) -> float:
    if binary.latency is None:
        raise ValueError(f"binary {binary.binary_id} was never timed")
    return binary.latency.latency_us


def _window_s(recording: Recording, energies: Sequence[EnergyRecord], phase: str) -> float:
    """Device seconds of the windows of a phase, with the load before each."""
    settle_ms = float(recording.settings.get("measure.settle_ms", 0.0))
    taken = [one.measurement for one in energies if one.phase == phase and one.measurement]
    # Older recordings hold no length of the whole load.
    loads_ms = [one.load_ms or one.window_ms + settle_ms for one in taken if one.window_ms]
    return sum(loads_ms) / 1000.0


def _row(
    name: str, outcomes: Sequence[SearchOutcome], reference: Sequence[SearchOutcome]
) -> SearchRow:
    def mean(values: Sequence[float | None], factor: float = 1.0) -> float | None:
        known = [value for value in values if value is not None]
        return factor * float(np.mean(known)) if known else None

    versus = [
        100.0 * ((1.0 + one.excess_energy) / (1.0 + other.excess_energy) - 1.0)
        for one, other in zip(outcomes, reference, strict=False)
        if one.excess_energy is not None and other.excess_energy is not None
    ]
    excess = [100.0 * one.excess_energy for one in outcomes if one.excess_energy is not None]
    return SearchRow(
        name=name,
        excess_percent=mean(excess),
        excess_ci95=_ci95(excess),
        versus_k1_percent=mean(versus),
        versus_k1_ci95=_ci95(versus),
        saved_percent=mean([one.saved for one in outcomes], 100.0),
        slowdown_percent=mean([one.slowdown for one in outcomes], 100.0),
        n_trials=mean([one.n_trials for one in outcomes]),
        n_energies=mean([one.n_energies for one in outcomes]),
        energy_s=mean([one.energy_s for one in outcomes]),
        final_s=mean([one.final_s for one in outcomes]),
        trial_s=mean([one.trial_s for one in outcomes]),
        spearman=mean([one.spearman for one in outcomes]),
        coverage=mean([one.coverage for one in outcomes]),
        outcomes=tuple(outcomes),
    )


def _ci95(values: Sequence[float]) -> float | None:
    """Half width of Student's interval of the mean; one value has none."""
    if len(values) < 2:
        return None
    from scipy.special import stdtrit

    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(stdtrit(len(values) - 1, 0.975)) * error
