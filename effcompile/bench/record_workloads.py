"""Tune a set of workloads within a time budget, for recordings.

Half of the candidates are drawn at random, half are bred from the best; energy is
measured of the fast ones and of others at random. After every round a whole copy of
the database lies in the output folder, so a run that is cut off at any moment keeps what
it has, and goes on from there when it is started again, on this machine or another.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from effcompile.bench.workload_set import workload_set
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from effcompile.run_folder import RunFolder
from effcompile.tuning import tune_models
from schedules.errors import EffcompileError
from search.database import Database
from search.events import Event, RoundStarted
from search.trial import TrialState

# Finalists, the last windows, and the start of processes, which no budget of trials holds.
CLOSING_S = 20.0
LEAST_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRow:
    """One workload's run.

    Attributes:
        workload: Its name.
        n_trials: Trials that ended, all sessions together.
        n_ok: Of these, with a usable latency.
        n_energies: Trials with a usable energy.
        seconds: Of this session.
        stopped_by: Why it ended, or what failed.
    """

    workload: str
    n_trials: int
    n_ok: int
    n_energies: int
    seconds: float
    stopped_by: str


def recording_config(config: TuneConfig, *, n_trials: int) -> TuneConfig:
    """Settings that fill a recording: wide choice, many energies, few finalists."""
    search = replace(
        config.search,
        n_trials=n_trials,
        round_size=32,
        random_share=0.5,
        energy_policy="top",
        energy_band=0.5,
        energy_top=9,
        energy_random=4,
        n_finalists=3,
        n_final_rounds=3,
    )
    return replace(config, search=search)


def record_workloads(
    out: Path,
    *,
    seconds: float,
    names: Sequence[str] = (),
    config: TuneConfig,
    target: str = "auto",
    work: Path,
    report: Callable[[RecordedRow], None] = lambda row: None,
) -> list[RecordedRow]:
    """Tune each workload for an equal share of the time that is left.

    Args:
        out: Receives ``NAME.sqlite``; those that lie there are continued.
        seconds: For everything together.
        names: Which workloads; all of them if none is named.
        config: Settings, see :func:`recording_config`.
        target: See :func:`effcompile.tuning.tune_models`.
        work: Folder of libraries, references and logs; may be deleted afterwards.
        report: Told of each workload when it ends.

    Raises:
        UsageError: An unknown workload.
    """
    known = workload_set()
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise UsageError(f"unknown workload {unknown[0]!r}: expected one of {', '.join(known)}.")
    chosen = list(names or known)
    out.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + seconds
    rows = []
    for position, name in enumerate(chosen):
        share_s = (end_s - time.monotonic()) / (len(chosen) - position) - CLOSING_S
        if share_s < LEAST_S:
            # Better some workloads well than all of them hardly.
            share_s = end_s - time.monotonic() - CLOSING_S
        if share_s < LEAST_S:
            break
        search = replace(config.search, max_seconds=share_s)
        row = _record(name, out, work, replace(config, search=search), target)
        rows.append(row)
        report(row)
    return rows


def _record(name: str, out: Path, work: Path, config: TuneConfig, target: str) -> RecordedRow:
    folder, copy = RunFolder(work / name), out / f"{name}.sqlite"
    if copy.is_file() and not folder.database_path.is_file():
        folder.create()
        shutil.copyfile(copy, folder.database_path)
    begin_s = time.monotonic()

    def keep(event: Event) -> None:
        if isinstance(event, RoundStarted):
            copy_database(folder.database_path, copy)

    try:
        run = tune_models(
            {"main": workload_set()[name]()},
            folder.path,
            target=target,
            config=config,
            events=keep,
        )
        stopped_by = run.stopped_by
    except EffcompileError as error:
        # One workload that cannot be tuned must not cost the others their time.
        stopped_by = f"{type(error).__name__}: {error}"
    if folder.database_path.is_file():
        copy_database(folder.database_path, copy)
    return _row(name, copy, time.monotonic() - begin_s, stopped_by)


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


def _row(name: str, path: Path, seconds: float, stopped_by: str) -> RecordedRow:
    if not path.is_file():
        return RecordedRow(
            workload=name, n_trials=0, n_ok=0, n_energies=0, seconds=seconds, stopped_by=stopped_by
        )
    with Database(path, read_only=True) as database:
        trials = [one for one in database.trials() if one.state is not TrialState.PROPOSED]
        measured = {
            one.trial_id
            for one in database.energies()
            if one.measurement is not None and one.measurement.verdict.usable
        }
    return RecordedRow(
        workload=name,
        n_trials=len(trials),
        n_ok=sum(one.state is TrialState.OK for one in trials),
        n_energies=len(measured),
        seconds=seconds,
        stopped_by=stopped_by,
    )
