"""Winners of searches on a recording, built and measured again on the device itself.

A recording tells what a search would have chosen; only fresh, interleaved measurements tell
what the choice saves against the fastest candidate of the same trials.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from effcompile import rounding
from effcompile.bench.replayed import latency_winner, replayed
from effcompile.config import MeasureConfig, TuneConfig, preset
from effcompile.errors import UsageError
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.runner import DeviceRunner
from schedules.candidate import Candidate
from schedules.target import Target
from schedules.task import Task
from search.comparison import ratio_of
from search.final import Ratio
from search.ports import FinalEffort, FinalMeasurement
from search.recording import Recording
from search.trial import Build, Failure

LEAST_S = 8.0
"""With less time left no other workload is begun; one takes about that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerPair:
    """What one search found for one workload.

    Attributes:
        workload: Its name.
        task_id: Its id.
        seed: Of the search.
        latency_winner: The fastest of its trials in short bursts.
        energy_winner: What it chose: least energy within the latency limit.
    """

    workload: str
    task_id: str
    seed: int
    latency_winner: Candidate
    energy_winner: Candidate

    @property
    def is_same(self) -> bool:
        """Whether the fastest was chosen."""
        return self.latency_winner == self.energy_winner


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerRow:
    """A pair measured again; ratios are energy winner over latency winner, round by round.

    Attributes:
        workload: Its name.
        seed: Of the search.
        latency_us: Of the latency winner, in short bursts.
        energy_mj: Of the latency winner.
        power_w: Of the latency winner.
        energy: Ratio, ``None`` if something was not measured.
        sustained: Ratio of times under lasting load.
        burst: Ratio of times in short bursts.
        is_same: True if both are the same candidate or compile to the same code; nothing is
            saved then, and nothing need be measured.
        verdicts: Of the two energy measurements.
        error: Why there are no numbers.
    """

    workload: str
    seed: int
    latency_us: float | None = None
    energy_mj: float | None = None
    power_w: float | None = None
    energy: Ratio | None = None
    sustained: Ratio | None = None
    burst: Ratio | None = None
    is_same: bool = False
    verdicts: str = ""
    error: str = ""

    def cells(self) -> dict[str, object]:
        """For a table: ratios as changes in per cent."""
        return {
            "workload": self.workload,
            "seed": self.seed,
            "fastest, us": self.latency_us,
            "mJ": self.energy_mj,
            "W": self.power_w,
            "energy": _change(self.energy),
            "sustained": _change(self.sustained),
            "burst": _change(self.burst),
            "same": "yes" if self.is_same else "",
            "verdicts": self.verdicts,
            "error": self.error,
        }


def _change(ratio: Ratio | None) -> str:
    return "" if ratio is None else rounding.change(ratio)


def winners_config() -> MeasureConfig:
    """Windows of three steps: rounds in turn tell the scatter, and take away drift."""
    return replace(
        preset("quick").measure,
        energy_window_ms=300.0,
        energy_precision=0.0,
        settle_ms=300.0,
        anchor_every=0,
    )


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
    for found in _each(jobs, processes):
        watch(f"{found[0].workload}: {len(found)} searches")
        pairs += found
    return pairs


_FindJob = tuple[Recording, TuneConfig, tuple[int, ...]]


def _each(jobs: Sequence[_FindJob], processes: int) -> Iterator[list[WinnerPair]]:
    if processes == 1:
        yield from map(_pairs_of_task, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_pairs_of_task, jobs)


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
                energy_winner=found.winners[task.task.task_id].trial.candidate,
            )
        )
    return pairs


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
    by_id = {one.task.task_id: _here(one.task, target) for one in recording.tasks}
    # In the order of the pairs: who is short of time puts the most telling first.
    tasks = [by_id[task_id] for task_id in dict.fromkeys(one.task_id for one in pairs)]
    rows = [_same(pair) for pair in pairs if pair.is_same]
    report(rows)
    pairs = [pair for pair in pairs if not pair.is_same]
    tasks = [task for task in tasks if any(pair.task_id == task.task_id for pair in pairs)]
    end_s = time.monotonic() + seconds
    with _device(target, config, work) as (builder, runner):
        wanted = {task.task_id: _wanted(task, pairs) for task in tasks}
        runner.warm_up(tasks)
        builds = {
            (task.task_id, one.candidate_id): builder.submit(task, one)
            for task in tasks
            for one in wanted[task.task_id]
        }
        for task in tasks:
            own = [pair for pair in pairs if pair.task_id == task.task_id]
            if time.monotonic() + LEAST_S > end_s:
                break
            outcomes = {
                one.candidate_id: builds[task.task_id, one.candidate_id].result()
                for one in wanted[task.task_id]
            }
            found = _measured(task, own, outcomes, runner, n_rounds)
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


def _wanted(task: Task, pairs: Sequence[WinnerPair]) -> list[Candidate]:
    """Distinct candidates of a task."""
    own = [pair for pair in pairs if pair.task_id == task.task_id]
    every = [one for pair in own for one in (pair.latency_winner, pair.energy_winner)]
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
    return [_row(pair, by_candidate) for pair in pairs]


def _same(pair: WinnerPair) -> WinnerRow:
    nothing = Ratio(median=1.0, low=1.0, high=1.0)
    return WinnerRow(
        workload=pair.workload,
        seed=pair.seed,
        energy=nothing,
        sustained=nothing,
        burst=nothing,
        is_same=True,
    )


def _row(pair: WinnerPair, found: dict[str, FinalMeasurement | Failure]) -> WinnerRow:
    fast = found[pair.latency_winner.candidate_id]
    frugal = found[pair.energy_winner.candidate_id]
    for one in (fast, frugal):
        if isinstance(one, Failure):
            return WinnerRow(
                workload=pair.workload,
                seed=pair.seed,
                error=f"{one.state.value}: {one.message[:200]}",
            )
    assert isinstance(fast, FinalMeasurement) and isinstance(frugal, FinalMeasurement)
    return WinnerRow(
        workload=pair.workload,
        seed=pair.seed,
        latency_us=fast.latency.latency_us,
        energy_mj=fast.energy.energy_mj,
        power_w=fast.energy.power_w,
        energy=_ratio(frugal.energy_ratios, fast.energy_ratios),
        sustained=_ratio(frugal.sustained_ratios, fast.sustained_ratios),
        burst=_ratio(frugal.latency_ratios, fast.latency_ratios),
        is_same=fast is frugal,
        verdicts=f"{fast.energy.verdict.value}, {frugal.energy.verdict.value}",
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio | None:
    """Ours over theirs, both over the same first build; rounds must all be there."""
    if len(ours) != len(theirs):
        return None
    return ratio_of([a / b for a, b in zip(ours, theirs, strict=True)])
