"""Ways to search for low energy, compared on a recorded device over several seeds.

Every workload is searched by itself. What a way chose is judged by the best estimate of all
windows the recording holds of it, never by what it measured itself; what it spent is
counted in the seconds the device took when it was recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cost_models.device_models import DeviceModels
from effcompile.bench.in_processes import in_processes
from effcompile.bench.replayed import Replayed, latency_winner
from effcompile.bench.search_spent import Spent, spent
from effcompile.bench.search_ways import REFERENCE, WAYS
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from search.config import SearchConfig
from search.errors import BadRecording
from search.recording import RecordedBinary, RecordedTask, Recording
from search.training import train_models
from search.trial import Trial

TIME_TRIES = 3
CLOSE_ENOUGH = 0.03
"""Of equal time."""

MOST_TRIALS = 8
"""Times as many trials as the reference; whoever measures no energy may need them."""


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


def bench_search(
    recording: Recording,
    *,
    config: TuneConfig,
    seeds: Sequence[int],
    names: Sequence[str] = tuple(WAYS),
    teacher: Recording | None = None,
    processes: int = 1,
    watch: Callable[[str], None] = lambda text: None,
) -> list[SearchOutcome]:
    """Search every workload in every way with every seed.

    Args:
        recording: What is searched.
        config: Settings that all ways share; the number of trials is per workload.
        seeds: At least one.
        names: Which of :data:`~effcompile.bench.search_ways.WAYS`.
        teacher: Another device's recording, which teaches warm ways in the place of the other
            workloads; what bears the name of the searched one is left out.
        processes: Workloads searched at a time.
        watch: Told what is done.

    Raises:
        UsageError: An unknown way to search.
    """
    unknown = sorted(set(names) - set(WAYS))
    if unknown:
        raise UsageError(
            f"unknown way to search {unknown[0]!r}: expected one of {', '.join(WAYS)}."
        )
    jobs = [
        _Job(
            recording=replace(recording, tasks=(task,)),
            others=_others(task, recording, teacher),
            config=config,
            seeds=tuple(seeds),
            names=tuple(names),
        )
        for task in recording.tasks
    ]
    found: list[SearchOutcome] = []
    for job, outcomes in zip(jobs, in_processes(_search_workload, jobs, processes), strict=True):
        watch(f"{job.recording.tasks[0].task.workload.name}: {len(outcomes)} searches")
        found += outcomes
    return found


def _others(task: RecordedTask, recording: Recording, teacher: Recording | None) -> Recording:
    if teacher is None:
        return replace(recording, tasks=tuple(one for one in recording.tasks if one is not task))
    name = task.task.workload.name
    others = tuple(one for one in teacher.tasks if one.task.workload.name != name)
    return replace(teacher, tasks=others)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """All searches of one workload.

    Attributes:
        recording: Of it alone.
        others: Of the other workloads, which teach warm ways.
        config: Common settings.
        seeds: One search of each way per seed.
        names: Of the ways.
    """

    recording: Recording
    others: Recording
    config: TuneConfig
    seeds: tuple[int, ...]
    names: tuple[str, ...]


def _search_workload(job: _Job) -> list[SearchOutcome]:
    outcomes = []
    known = None
    if any(WAYS[name].is_warm for name in job.names):
        with contextlib.suppress(BadRecording):  # too few other workloads: nothing is known
            known = train_models(job.others, digest="")
    for seed in job.seeds:
        config = replace(job.config, search=replace(job.config.search, seed=seed))
        limit_s = None
        if any(WAYS[name].has_equal_time for name in job.names):
            limit_s = _search(REFERENCE, job.recording, config).spent.wall_s
        for name in job.names:
            if WAYS[name].has_equal_time and limit_s is not None:
                outcomes.append(_search_for(limit_s, name, job.recording, config))
            else:
                outcomes.append(_search(name, job.recording, config, known))
    return outcomes


def _search_for(
    limit_s: float, name: str, recording: Recording, config: TuneConfig
) -> SearchOutcome:
    """A search with as many trials as take a given recorded time, as nearly as possible."""
    most = MOST_TRIALS * config.search.n_trials
    n_trials = config.search.n_trials
    found = _search(name, recording, config)
    n_before, before_s = 0, 0.0
    for _ in range(TIME_TRIES):
        # Windows of finalists and defaults take their time whatever the trials: two points tell.
        slope = (found.spent.wall_s - before_s) / (n_trials - n_before)
        step = (limit_s - found.spent.wall_s) / slope if slope > 0.0 else 0.0
        wanted = min(most, max(2, round(n_trials + step)))
        # A recording that is searched to its end has nothing more to try.
        is_spent = found.n_trials < n_trials and wanted > n_trials
        if is_spent or abs(wanted - n_trials) <= CLOSE_ENOUGH * n_trials:
            break
        n_before, before_s = n_trials, found.spent.wall_s
        n_trials = wanted
        search = replace(config.search, n_trials=n_trials)
        found = _search(name, recording, replace(config, search=search))
    return found


def _search(
    name: str, recording: Recording, config: TuneConfig, known: DeviceModels | None = None
) -> SearchOutcome:
    found = WAYS[name].search(recording, config, known)
    return _judge(name, recording, found, config.search)


def _judge(name: str, recording: Recording, found: Replayed, config: SearchConfig) -> SearchOutcome:
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
