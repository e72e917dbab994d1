"""Tune a set of workloads in one run within a time budget, for recordings.

Workloads take turns, a round each, so that one is drawn and built while another is measured,
and a run that is cut off has as much of each. Half of the candidates are drawn at random,
half are bred from the best; energy is measured of the fast ones and of others at random. Nobody
wins: there are no finalists. It ends by the clock, or once every workload has as many energies
as were asked for. Every few seconds a whole copy of the database lies in the
output folder, so what was measured survives, and the run goes on from there when it is
started again on the same GPU.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from effcompile.bench.reach import label
from effcompile.bench.workload_set import entry_name, workload_set
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.run_folder import RunFolder
from effcompile.tuning import tune_models
from schedules.counts import flops_of
from schedules.errors import EffcompileError
from schedules.workload import Workload
from search.database import Database
from search.errors import DefaultFailed
from search.events import EnergyMeasured, Event, Events, RunStarted
from search.stopping import StopRequest
from search.trial import TrialState

COPY_EVERY_S = 10.0
MOST_STARTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRow:
    """What a run has of one task.

    Attributes:
        task: Name of its kernel and the shapes of its inputs.
        n_trials: Trials that ended, all sessions together.
        n_ok: Of these, with a usable latency.
        n_energies: Trials with a usable energy.
        default_us: Latency of the default schedule, ``None`` if it did not run.
        best_us: Least latency.
    """

    task: str
    n_trials: int
    n_ok: int
    n_energies: int
    default_us: float | None
    best_us: float | None


class Deadline(StopRequest):
    """A wish to stop that comes by itself.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end_s = time.monotonic() + seconds

    @property
    def is_set(self) -> bool:
        """True once the time is over, or somebody asked."""
        return super().is_set or time.monotonic() >= self._end_s


def recording_config(config: TuneConfig, *, n_trials: int) -> TuneConfig:
    """Settings that fill a recording: wide choice, many energies, short windows.

    The model is the cheapest there is: who is measured goes by latency and luck, not by what
    some model of today believes. A round's windows take longer than the next one's builds, so
    that the device does not wait; what takes longest to compile is given up.
    """
    search = replace(
        config.search,
        n_trials=n_trials,
        round_size=48,
        random_share=0.5,
        task_order="even",
        energy_policy="top",
        energy_model="constant",
        # However slow: spaces of few points have not enough energies otherwise.
        energy_band=99.0,
        energy_top=23,
        energy_random=8,
    )
    measure = replace(
        config.measure,
        n_repeats=5,
        max_timing_ms=150.0,
        energy_window_ms=200.0,
        settle_ms=200.0,
        # The anchor follows the board's temperature, which follows the workload before.
        anchor_every=0,
    )
    build = replace(config.build, timeout_s=min(config.build.timeout_s, 8.0))
    return replace(config, search=search, measure=measure, build=build)


def record_workloads(
    out: Path,
    *,
    seconds: float,
    names: Sequence[str] = (),
    n_energies: int | None = None,
    config: TuneConfig,
    target: str = "auto",
    work: Path,
) -> list[RecordedRow]:
    """Tune workloads in turns until the time is over, or until there is enough.

    Args:
        out: Receives the database's copy; one that lies there is continued.
        seconds: For everything together.
        names: Which workloads; all of them if none is named.
        n_energies: Enough usable energies of each workload; ``None`` for no such end.
        config: Settings, see :func:`recording_config`; its trials are those of all workloads.
        target: See :func:`effcompile.tuning.tune_models`.
        work: Run folder with libraries, references and logs; may be deleted afterwards.

    Raises:
        UsageError: An unknown workload.
        DefaultFailed: One workload's default schedule does not run: leave it out.
    """
    known = workload_set()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"unknown workload {unknown[0]!r}: expected one of {', '.join(known)}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder, end_s = RunFolder(work), time.monotonic() + seconds
    if out.is_file() and not folder.database_path.is_file():
        folder.create()
        shutil.copyfile(out, folder.database_path)
    models = {entry_name(name): known[name]() for name in names or known}
    for start in range(MOST_STARTS):
        stop = Deadline(end_s - time.monotonic())
        watches: list[Events] = [_Copies(folder.database_path, out)]
        if n_energies is not None:
            watches.append(Enough(n_energies, stop, known=_energies_by_task(folder.database_path)))
        try:
            tune_models(
                models,
                folder.path,
                target=target,
                config=config,
                wanted=_computes,
                events=partial(_tell, watches),
                stop=stop,
            )
            break
        except DefaultFailed:
            raise
        except EffcompileError:
            # A device that was lost once may come back; what was measured is kept.
            if start == MOST_STARTS - 1 or time.monotonic() >= end_s:
                raise
        finally:
            if folder.database_path.is_file():
                copy_database(folder.database_path, out)
    return recorded_rows(out)


def _computes(workload: Workload) -> bool:
    """Not what a model does to change layouts around its operator: that moves and adds nothing."""
    return flops_of(workload) != 0.0


def _tell(watches: Sequence[Events], event: Event) -> None:
    for watch in watches:
        watch(event)


def _energies_by_task(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    with Database(path, read_only=True) as database:
        trials = {one.trial_id: one.task_id for one in database.trials()}
        return dict(Counter(trials[trial_id] for trial_id in _metered(database)))


class Enough:
    """Asks to stop once every task has enough usable energies.

    Args:
        n_energies: Enough.
        stop: Is asked, once.
        known: What tasks have from earlier sessions, by id.
    """

    def __init__(self, n_energies: int, stop: StopRequest, *, known: Mapping[str, int]) -> None:
        self._n_energies, self._stop = n_energies, stop
        self._known = dict(known)

    def __call__(self, event: Event) -> None:
        """See :data:`search.events.Events`."""
        if isinstance(event, RunStarted):
            self._known = {one.task_id: self._known.get(one.task_id, 0) for one in event.tasks}
        if isinstance(event, EnergyMeasured) and event.measurement.verdict.usable:
            self._known[event.task.task_id] += 1
            if min(self._known.values()) >= self._n_energies and not self._stop.is_set:
                self._stop.request()


class _Copies:
    """Keeps a copy of a database that is hardly older than :data:`COPY_EVERY_S`."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target
        self._copied_s = time.monotonic()

    def __call__(self, event: Event) -> None:
        del event
        if time.monotonic() - self._copied_s >= COPY_EVERY_S:
            copy_database(self._source, self._target)
            self._copied_s = time.monotonic()


def copy_database(source: Path, target: Path) -> None:
    """A whole copy of a database that may be in use, in one file, renamed into place."""
    beside = target.with_name(target.name + ".part")
    beside.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reader,
        closing(sqlite3.connect(beside)) as writer,
    ):
        reader.backup(writer)
        # A copy in write-ahead mode would be two files more.
        writer.execute("PRAGMA journal_mode = DELETE")
    beside.replace(target)


def _metered(database: Database) -> set[int]:
    """Trials with a usable energy."""
    return {
        one.trial_id
        for one in database.energies()
        if one.measurement is not None and one.measurement.verdict.usable
    }


def recorded_rows(path: Path) -> list[RecordedRow]:
    """What a run's database has of every task."""
    with Database(path, read_only=True) as database:
        trials = [one for one in database.trials() if one.state is not TrialState.PROPOSED]
        measured = _metered(database)
        tasks = database.tasks()
    rows = []
    for task in tasks:
        own = [one for one in trials if one.task_id == task.task_id]
        times = [
            (one.latency.latency_us, one.origin)
            for one in own
            if one.state is TrialState.OK and one.latency
        ]
        rows.append(
            RecordedRow(
                task=label(task),
                n_trials=len(own),
                n_ok=len(times),
                n_energies=len({one.trial_id for one in own} & measured),
                default_us=next((us for us, origin in times if origin == "default"), None),
                best_us=min((us for us, _ in times), default=None),
            )
        )
    return rows
