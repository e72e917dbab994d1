"""What one search came to, judged by all that the recording holds of what it chose."""

from __future__ import annotations

from dataclasses import dataclass

from effcompile.bench.replayed import Replayed, latency_winner
from effcompile.bench.search_spent import Spent, spent
from search.config import SearchConfig
from search.recording import RecordedBinary, RecordedTask, Recording
from search.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """One way to search, on one workload with one seed.

    Attributes:
        way: Which way.
        workload: Name.
        seed: Seed of the search.
        n_trials: Trials.
        n_energies: Energy windows while searching.
        spent: Recorded seconds and joules.
        energy_mj: Of the chosen candidate, ``None`` if the recording holds no energy of it.
        latency_us: Of the chosen candidate, in short bursts.
        excess: Energy over the least that the recording holds within the latency limit, minus
            1. A choice beyond the limit is charged as much more energy as it is slower: a
            search that missed the fast ones must not look frugal.
        saved: Energy saved against the fastest candidate of the same trials, as a share.
        slowdown: Latency given up against it, as a share; under lasting load where recorded.
        payback_runs: Launches after which the search's joules are saved against the default
            schedule; ``None`` if nothing is saved or an energy is unknown.
        model_s: Seconds of models and proposals, of this computer.
    """

    way: str
    workload: str
    seed: int
    n_trials: int
    n_energies: int
    spent: Spent
    energy_mj: float | None
    latency_us: float
    excess: float | None
    saved: float | None
    slowdown: float
    payback_runs: float | None
    model_s: float


def outcome_of(
    name: str, recording: Recording, found: Replayed, config: SearchConfig
) -> SearchOutcome:
    """The outcome of one search.

    Args:
        name: Of the way.
        recording: Of the one workload that was searched.
        found: What came of it.
        config: How it was searched.
    """
    (task,), (history,) = recording.tasks, found.histories
    binaries = {one.binary_id: one for one in task.binaries}
    chosen = binary_of(found.winners[task.task.task_id].trial, binaries)
    fastest = binary_of(latency_winner(history), binaries)
    energy_mj, fastest_mj = chosen.energy_mj(), fastest.energy_mj()
    known = energy_mj is not None and fastest_mj is not None
    cost = spent(recording, found, config)
    return SearchOutcome(
        way=name,
        workload=task.task.workload.name,
        seed=config.seed,
        n_trials=len(history.trials),
        n_energies=sum(one.phase == "search" for one in found.energies),
        spent=cost,
        energy_mj=energy_mj,
        latency_us=latency_us(chosen),
        excess=excess(task, chosen, config.max_slowdown),
        saved=1.0 - energy_mj / fastest_mj if known and energy_mj and fastest_mj else None,
        slowdown=_slowdown(chosen, fastest),
        payback_runs=_payback_runs(
            cost.joules, binaries[task.default.binary_id].energy_mj(), energy_mj
        ),
        model_s=found.model_s,
    )


def _payback_runs(joules: float, default_mj: float | None, chosen_mj: float | None) -> float | None:
    if default_mj is None or chosen_mj is None or chosen_mj >= default_mj:
        return None
    return joules * 1000.0 / (default_mj - chosen_mj)


def binary_of(trial: Trial, binaries: dict[str, RecordedBinary]) -> RecordedBinary:
    """What a trial was built to."""
    if trial.build is None:
        raise ValueError(f"trial {trial.trial_id} was never built")
    return binaries[trial.build.binary_id]


def excess(task: RecordedTask, chosen: RecordedBinary, max_slowdown: float) -> float | None:
    """See :class:`SearchOutcome`; ``None`` if the recording holds no energy of the choice."""
    usable = [one for one in task.binaries if one.failure is None and one.latency is not None]
    limit_us = min(map(latency_us, usable)) * (1.0 + max_slowdown)
    charged = [_charged_mj(one, limit_us) for one in usable]
    least = min((one for one in charged if one is not None), default=None)
    own = _charged_mj(chosen, limit_us)
    return None if own is None or least is None else own / least - 1.0


def _charged_mj(binary: RecordedBinary, limit_us: float) -> float | None:
    """Energy, raised by whatever the latency limit is missed by; ``None`` if not recorded."""
    energy = binary.energy_mj()
    return None if energy is None else energy * max(1.0, latency_us(binary) / limit_us)


def latency_us(binary: RecordedBinary) -> float:
    """In short bursts."""
    if binary.latency is None:
        raise ValueError(f"binary {binary.binary_id} was never timed")
    return binary.latency.latency_us


def _slowdown(chosen: RecordedBinary, fastest: RecordedBinary) -> float:
    ours, theirs = chosen.sustained_latency_us(), fastest.sustained_latency_us()
    if ours is None or theirs is None:
        ours, theirs = latency_us(chosen), latency_us(fastest)
    return ours / theirs - 1.0
