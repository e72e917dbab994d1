"""Winners of searches on a recording, built and measured again on the device itself.

A recording tells what a search would have chosen; only fresh, interleaved measurements tell
what the choice saves against the fastest candidate of the same trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from effcompile.bench.winner_pairs import WinnerPair
from effcompile.bench.winner_rows import WinnerRow, row_of, row_of_same
from effcompile.config import MeasureConfig, TuneConfig, preset
from effcompile.errors import UsageError
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.runner import DeviceRunner
from schedules.candidate import Candidate
from schedules.target import Target
from schedules.task import Task
from search.ports import FinalEffort
from search.recording import Recording
from search.trial import Build, Failure

LEAST_S = 8.0
"""With less time left no other workload is begun; one takes about that long."""


def winners_config() -> MeasureConfig:
    """Windows of three steps: rounds in turn tell the scatter, and take away drift."""
    return replace(
        preset("quick").measure,
        energy_window_ms=300.0,
        energy_precision=0.0,
        settle_ms=300.0,
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

    About ``0.4 n_rounds`` seconds per candidate, and ten to begin. Pairs of a candidate with
    itself are rows without a measurement.

    Args:
        recording: Where the pairs come from.
        pairs: Of any of its workloads.
        target: The device here.
        config: How to build and measure.
        work: Folder of libraries, references and logs.
        n_rounds: Interleaved rounds, each with one energy window per candidate.
        seconds: No workload is begun within the last eight of them.
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
            outcomes = {key: one.result() for key, one in builds[task.task_id].items()}
            found = _measured(task, by_task[task.task_id], outcomes, runner, n_rounds)
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
    every = [one for pair in pairs for one in (pair.latency_winner, pair.energy_winner)]
    return list({one.candidate_id: one for one in every}.values())


def _measured(
    task: Task,
    pairs: Sequence[WinnerPair],
    outcomes: dict[str, Build | Failure],
    runner: DeviceRunner,
    n_rounds: int,
) -> list[WinnerRow]:
    # Candidates may compile to the same code; it is measured once.
    built = {one.binary_id: one for one in outcomes.values() if isinstance(one, Build)}
    effort = FinalEffort(n_rounds=n_rounds, n_energy_rounds=n_rounds)
    measured = runner.compare(task, list(built.values()), effort)
    by_binary = dict(zip(built, measured, strict=True))
    by_candidate = {
        key: by_binary[one.binary_id] if isinstance(one, Build) else one
        for key, one in outcomes.items()
    }
    return [row_of(pair, by_candidate) for pair in pairs]
