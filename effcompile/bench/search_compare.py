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
from effcompile.bench.search_outcomes import SearchOutcome, outcome_of
from effcompile.bench.search_ways import REFERENCE, WAYS
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from search.errors import BadRecording
from search.recording import RecordedTask, Recording
from search.training import train_models

TIME_TRIES = 3
CLOSE_ENOUGH = 0.03
"""Of equal time."""

MOST_TRIALS = 8
"""Times as many trials as the reference; whoever measures no energy may need them."""


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
    return outcome_of(name, recording, found, config.search)
