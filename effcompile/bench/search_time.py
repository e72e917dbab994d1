"""How long a search takes until it has a good point: seconds and trials, on a recorded device.

``cold``      The default way to search.
``warm``      Likewise, with models that all other workloads of the recording taught.
``recorded``  No search: the order in which the recorded run, half of it drawn at random, tried
              candidates of the whole spaces.

Seconds are those of the recorded builds on a number of processes, checks, timings and energy
windows, one round after the other. What no recording holds is left out: starting (imports,
references, calibration), models, proposals. Good is what comes within a share of the best that
the recording holds.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from effcompile.bench.replayed import Replayed
from effcompile.bench.search_outcomes import binary_of, excess, latency_us
from effcompile.bench.search_spent import BUILD_PROCESSES
from effcompile.bench.search_ways import WAYS
from effcompile.config import TuneConfig
from search.errors import BadRecording
from search.history import TaskHistory
from search.objective import choose
from search.recording import RecordedBinary, RecordedTask, Recording
from search.stored import EnergyRecord
from search.training import train_models
from search.trial import EnergyMeasurement, Trial

SEARCHES = {"cold": "V2", "warm": "warm"}
"""Names here to names of ways to search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """When something was true for the first time."""

    seconds: float
    n_trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTime:
    """One search of one workload.

    Attributes:
        workload: Its name.
        way: See the module.
        seed: Of the search.
        fast: When a candidate's latency was close to the least recorded; ``None`` for never.
        frugal: When the energy of what would have been chosen was close to the least recorded
            within the latency limit; ``None`` for never, and for ``recorded``.
        whole_s: Seconds of all trials.
    """

    workload: str
    way: str
    seed: int
    fast: Reached | None
    frugal: Reached | None
    whole_s: float


def bench_search_time(
    recording: Recording,
    *,
    config: TuneConfig,
    seeds: Sequence[int],
    within: float,
    watch: Callable[[str], None] = lambda text: None,
) -> list[SearchTime]:
    """Search every workload cold and warm with every seed.

    Args:
        recording: What is searched.
        config: Settings; the number of trials is per workload.
        seeds: At least one.
        within: What is close enough to the best, as a share.
        watch: Told what is done.
    """
    found: list[SearchTime] = []
    for task in recording.tasks:
        own = replace(recording, tasks=(task,))
        others = replace(recording, tasks=tuple(t for t in recording.tasks if t is not task))
        known = None
        with contextlib.suppress(BadRecording):  # too few other workloads: nothing is known
            known = train_models(others, digest="")
        found.append(_recorded_order(task, within))
        for seed, (way, name) in itertools.product(seeds, SEARCHES.items()):
            seeded = replace(config, search=replace(config.search, seed=seed))
            done = WAYS[name].search(own, seeded, known)
            limits = {"within": within, "max_slowdown": config.search.max_slowdown}
            found.append(_search_time(task, done, way=way, seed=seed, **limits))
        watch(task.task.workload.name)
    return found


def _search_time(
    task: RecordedTask, done: Replayed, *, way: str, seed: int, within: float, max_slowdown: float
) -> SearchTime:
    binaries = {one.binary_id: one for one in task.binaries}
    limit_us = _least_us(task) * (1.0 + within)
    fast = frugal = None
    now_s = 0.0
    for now_s, history in _moments(task, done):
        now = Reached(seconds=now_s, n_trials=len(history.trials))
        best_us = history.best_latency_us()
        if fast is None and best_us is not None and best_us <= limit_us:
            fast = now
        choice = None if frugal else choose(history.points(), max_slowdown=max_slowdown)
        if choice is not None:
            trial = next(t for t in history.trials if t.trial_id == choice.point.trial_id)
            above = excess(task, binary_of(trial, binaries), max_slowdown)
            if above is not None and above <= within:
                frugal = now
    name = task.task.workload.name
    return SearchTime(workload=name, way=way, seed=seed, fast=fast, frugal=frugal, whole_s=now_s)


def _least_us(task: RecordedTask) -> float:
    return min(map(latency_us, _usable(task)))


def _usable(task: RecordedTask) -> list[RecordedBinary]:
    return [one for one in task.binaries if one.latency is not None and one.failure is None]


def _moments(task: RecordedTask, done: Replayed) -> Iterator[tuple[float, TaskHistory]]:
    """Seconds and what is known then, after every trial and every energy window.

    Rounds do not overlap here, as they do on a device: a round's builds begin when the last
    window of the round before has closed.
    """
    (finished,) = done.histories
    builds_s, now_s = _build_seconds(task), 0.0
    binaries = {one.binary_id: one for one in task.binaries}
    windows = [one for one in done.energies if one.phase == "search"]
    usual_s = _usual_window_s(windows)
    history = TaskHistory(task.task, position=0)
    for index, group in itertools.groupby(finished.trials, key=lambda one: one.round_index):
        trials = list(group)
        ready_s = _ready([builds_s.get(one.candidate.candidate_id, 0.0) for one in trials], now_s)
        for trial, built_s in zip(trials, ready_s, strict=True):
            now_s = max(now_s, built_s) + _run_s(trial, binaries)
            history.add(trial)
            yield now_s, history
        for record in windows:
            if record.round_index == index and record.measurement is not None:
                now_s += _load_s(record.measurement) or usual_s
                history.add_energy(record)
                yield now_s, history


def _ready(builds_s: Sequence[float], begin_s: float) -> list[float]:
    """When each build is done, begun in this order on :data:`BUILD_PROCESSES` processes."""
    free_s = [begin_s] * BUILD_PROCESSES
    done_s = []
    for build_s in builds_s:
        done_s.append(heapq.heappop(free_s) + build_s)
        heapq.heappush(free_s, done_s[-1])
    return done_s


def _build_seconds(task: RecordedTask) -> dict[str, float]:
    every = [task.default, *(one for space in task.spaces for one in space.candidates)]
    return {one.candidate.candidate_id: one.build_s for one in every}


def _run_s(trial: Trial, binaries: dict[str, RecordedBinary]) -> float:
    """Checking and timing; a twin of an earlier binary was not run."""
    if trial.build is None or trial.same_as is not None:
        return 0.0
    return binaries[trial.build.binary_id].run_s


def _usual_window_s(windows: Sequence[EnergyRecord]) -> float:
    """What a window takes that was asked for and that the recording does not hold."""
    known = [_load_s(one.measurement) for one in windows if one.measurement]
    taken = [one for one in known if one > 0.0]
    return float(np.mean(taken)) if taken else 0.0


def _load_s(window: EnergyMeasurement) -> float:
    return (window.load_ms or window.window_ms) / 1000.0


def _recorded_order(task: RecordedTask, within: float) -> SearchTime:
    limit_us = _least_us(task) * (1.0 + within)
    good = {one.binary_id for one in _usable(task) if latency_us(one) <= limit_us}
    every = [one for space in task.spaces for one in space.candidates]
    builds_s: dict[str, float] = {}
    for one in (task.default, *every):
        builds_s[one.binary_id] = builds_s.get(one.binary_id, 0.0) + one.build_s
    fast, now_s = None, 0.0
    for n_trials, binary in enumerate(task.binaries, start=1):
        now_s += builds_s.get(binary.binary_id, 0.0) / BUILD_PROCESSES + binary.run_s
        if fast is None and binary.binary_id in good:
            fast = Reached(seconds=now_s, n_trials=n_trials)
        now_s += sum(map(_load_s, binary.windows))
    return SearchTime(
        workload=task.task.workload.name,
        way="recorded",
        seed=0,
        fast=fast,
        frugal=None,
        whole_s=now_s,
    )
