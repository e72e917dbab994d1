"""Finalists of searches on a recording, built and measured again on the device itself.

A recording tells what a search would have tried. Who of its finalists wins is decided as a run
decides it, by measuring them in turn; and since the best of several noisy numbers looks better
than it is, only further rounds tell what the choice saves against the fastest of the same trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from effcompile.bench.winner_choice import chosen_of
from effcompile.bench.winner_pairs import WinnerPair
from effcompile.bench.winner_rows import WinnerRow, row_of, row_of_same
from effcompile.config import MeasureConfig, TuneConfig, preset
from effcompile.errors import UsageError
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.runner import DeviceRunner
from schedules.candidate import Candidate
from schedules.target import Target
from schedules.task import Task
from search.ports import FinalEffort, FinalMeasurement
from search.recording import Recording
from search.trial import Build, Failure

LEAST_S = 14.0
"""With less time left no other workload is begun; one takes at most about that long."""


def winners_config() -> MeasureConfig:
    """Windows of two steps: rounds in turn tell the scatter, and take away drift."""
    return replace(
        preset("quick").measure,
        energy_window_ms=200.0,
        energy_precision=0.0,
        settle_ms=200.0,
        anchor_every=0,
    )


def measure_pairs(
    recording: Recording,
    pairs: Sequence[WinnerPair],
    *,
    target: Target,
    config: TuneConfig,
    work: Path,
    n_rounds: int,
    seconds: float,
    report: Callable[[Sequence[WinnerRow]], None],
) -> list[WinnerRow]:
    """Build the candidates of all pairs and measure each workload's in turn.

    About ``0.3 n_rounds`` seconds per candidate and comparison, and ten to begin. Where the fastest
    is alone or stays, the row needs no further measurement.

    Args:
        recording: Where the pairs come from.
        pairs: Of any of its workloads.
        target: The device here.
        config: How to build and measure.
        work: Folder of libraries, references and logs.
        n_rounds: Interleaved rounds of either comparison, each with one energy window per
            candidate.
        seconds: No workload is begun within the last :data:`LEAST_S` of them.
        report: Gets a workload's rows as soon as they are there.

    Raises:
        UsageError: The recording is of another kind of device.
    """
    here = {one.task.task_id: _here(one.task, target) for one in recording.tasks}
    rows = [row_of_same(pair) for pair in pairs if pair.is_same]
    report(rows)
    # In the order of the pairs: who is short of time puts the most telling first.
    by_task: dict[str, list[WinnerPair]] = {pair.task_id: [] for pair in pairs}
    for pair in pairs:
        if not pair.is_same:
            by_task[pair.task_id].append(pair)
    tasks = [here[task_id] for task_id, own in by_task.items() if own]
    end_s = time.monotonic() + seconds
    with _device(target, config, work) as (builder, runner):
        runner.warm_up(tasks)
        builds = {
            task.task_id: {
                one.candidate_id: builder.submit(task, one)
                for one in _distinct(by_task[task.task_id])
            }
            for task in tasks
        }
        for task in tasks:
            if time.monotonic() + LEAST_S > end_s:
                break
            built = {key: one.result() for key, one in builds[task.task_id].items()}
            comparing = _Comparing(task=task, built=built, runner=runner, n_rounds=n_rounds)
            slowdown = config.search.max_slowdown
            found = _rows(by_task[task.task_id], comparing, max_slowdown=slowdown)
            report(found)
            rows += found
    return rows


@contextmanager
def _device(
    target: Target, config: TuneConfig, work: Path
) -> Iterator[tuple[ProcessBuilder, DeviceRunner]]:
    builder = ProcessBuilder(config.build, work_dir=work)
    runner = DeviceRunner(target, config.measure, work_dir=work, build_config=config.build)
    try:
        builder.warm_up(target)
        yield builder, runner
    finally:
        runner.close()
        builder.close()


def _here(task: Task, target: Target) -> Task:
    """The task for the device here, which must take the same candidates."""
    old = task.target
    if (old.kind, old.arch, old.n_cores) != (target.kind, target.arch, target.n_cores):
        raise UsageError(
            f"cannot measure winners of {old.name} ({old.arch}, {old.n_cores} cores) on "
            f"{target.name} ({target.arch}, {target.n_cores} cores): their schedules would not "
            "fit. Name a recording of the device here."
        )
    return replace(task, target=target)


def _distinct(pairs: Sequence[WinnerPair]) -> list[Candidate]:
    """The candidates of some pairs, each once."""
    every = [one for pair in pairs for one in (pair.latency_winner, *pair.finalists)]
    return list({one.candidate_id: one for one in every}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparing:
    """Measures candidates of one task in turn."""

    task: Task
    built: Mapping[str, Build | Failure]
    runner: DeviceRunner
    n_rounds: int

    def __call__(self, candidates: Sequence[Candidate]) -> dict[str, FinalMeasurement | Failure]:
        """What came of each, by id; those that compile to the same code are measured once."""
        outcomes = {one.candidate_id: self.built[one.candidate_id] for one in candidates}
        builds = {one.binary_id: one for one in outcomes.values() if isinstance(one, Build)}
        effort = FinalEffort(n_rounds=self.n_rounds, n_energy_rounds=self.n_rounds)
        measured = self.runner.compare(self.task, list(builds.values()), effort)
        by_binary = dict(zip(builds, measured, strict=True))
        return {
            key: by_binary[one.binary_id] if isinstance(one, Build) else one
            for key, one in outcomes.items()
        }


def _rows(
    pairs: Sequence[WinnerPair], compare: _Comparing, *, max_slowdown: float
) -> list[WinnerRow]:
    """Let the finalists of one task compete, then measure winners beside the fastest again."""
    found = compare(_distinct(pairs))
    chosen = {pair.seed: chosen_of(pair, found, max_slowdown=max_slowdown) for pair in pairs}
    changed = [pair for pair in pairs if chosen[pair.seed] != pair.latency_winner]
    again = {
        one.candidate_id: one
        for pair in changed
        for one in (pair.latency_winner, chosen[pair.seed])
    }
    fresh = compare(list(again.values())) if changed else {}

    def row(pair: WinnerPair) -> WinnerRow:
        if pair in changed:
            return row_of(pair, chosen[pair.seed], fresh)
        if isinstance(found[pair.latency_winner.candidate_id], Failure):
            return row_of(pair, pair.latency_winner, found)
        return row_of_same(pair)

    return [row(pair) for pair in pairs]
