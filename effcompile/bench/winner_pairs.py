"""The finalists of searches on a recording, beside the fastest candidate of the same trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from effcompile.bench.in_processes import in_processes
from effcompile.bench.replayed import Replayed, latency_winner, replayed
from effcompile.config import TuneConfig
from schedules.candidate import Candidate
from search.recording import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerPair:
    """What one search found for one workload.

    Attributes:
        workload: Its name.
        task_id: Its id.
        seed: Of the search.
        latency_winner: The fastest of its trials in short bursts.
        finalists: Whom a run would now measure again, the best first; without the default.
    """

    workload: str
    task_id: str
    seed: int
    latency_winner: Candidate
    finalists: tuple[Candidate, ...]

    @property
    def is_same(self) -> bool:
        """Whether there is nobody but the fastest."""
        return set(self.finalists) <= {self.latency_winner}


def find_pairs(
    recording: Recording,
    config: TuneConfig,
    seeds: Sequence[int],
    watch: Callable[[str], None] = lambda text: None,
    *,
    processes: int = 1,
) -> list[WinnerPair]:
    """Search every task by itself with every seed, as a run of that task alone would.

    Args:
        recording: What is searched.
        config: How; its number of trials is per task.
        seeds: At least one.
        watch: Told what was searched.
        processes: Tasks searched at a time.
    """
    jobs = [(replace(recording, tasks=(task,)), config, tuple(seeds)) for task in recording.tasks]
    pairs = []
    for found in in_processes(_pairs_of_task, jobs, processes):
        watch(f"{found[0].workload}: {len(found)} searches")
        pairs += found
    return pairs


_FindJob = tuple[Recording, TuneConfig, tuple[int, ...]]


def _pairs_of_task(job: _FindJob) -> list[WinnerPair]:
    recording, config, seeds = job
    (task,) = recording.tasks
    pairs = []
    for seed in seeds:
        found = replayed(recording, replace(config, search=replace(config.search, seed=seed)))
        pairs.append(
            WinnerPair(
                workload=task.task.workload.name,
                task_id=task.task.task_id,
                seed=seed,
                latency_winner=latency_winner(found.histories[0]).candidate,
                finalists=_finalists(found, task.task.task_id),
            )
        )
    return pairs


def _finalists(found: Replayed, task_id: str) -> tuple[Candidate, ...]:
    final = found.winners[task_id].final
    trials = {one.trial_id: one for one in found.trials}
    if final is None:
        return (found.winners[task_id].trial.candidate,)
    return tuple(
        trials[one.trial_id].candidate
        for one in final.finalists
        if one.trial_id != final.default_trial_id
    )
