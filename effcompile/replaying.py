"""Tuning on a recorded device, and recording runs for it. Replaying needs no TVM and no GPU."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

import effcompile
from effcompile.config import BuildConfig, TuneConfig
from effcompile.errors import UsageError
from effcompile.output_files import check_output
from effcompile.recordings import SUFFIX, digest_of, recording_paths
from effcompile.run_folder import RunFolder
from effcompile.tuning import Run
from schedules.candidate import Candidate
from schedules.task import Task
from search.database import Database
from search.events import Events, ignore
from search.identity import PREDICTED_BY, REPLAYED, Identity, search_settings
from search.learner import ModelFactory
from search.ports import Runner
from search.recorder import FeaturesOf, record
from search.recording import RecordedTask, Recording
from search.recording_file import read_recording, write_recording
from search.recording_joining import joined
from search.replay import ReplayBuilder, ReplayRunner, ReplaySpace
from search.stopping import StopRequest
from search.tuner import tune


def record_runs(
    runs: Sequence[Path],
    out: Path,
    *,
    command: str = "",
    watch: Callable[[str], None] = lambda text: None,
) -> Recording:
    """Write what runs tried and measured into one file.

    Args:
        runs: Their folders, copies of their databases, or recordings made before; all on one kind
            of device.
        out: The recording.
        command: How the runs were made, for people; guessed from their settings if empty.
        watch: Told what is done: features of a thousand candidates of TVM's space take a minute.

    Raises:
        UsageError: Not a run folder, or the recording cannot be written.
        BadRecording: Nothing was measured in one, or their devices differ.
    """
    check_output(out)
    with _features(watch) as features_of:
        recording = joined([_recorded(run, features_of) for run in runs])
    if command:
        recording = replace(recording, command=command)
    write_recording(recording, out)
    return recording


def _recorded(run: Path, features_of: FeaturesOf) -> Recording:
    from effcompile.bench.workload_set import standard_name

    if run.suffix == SUFFIX:
        return read_recording(run)
    if not run.is_file():
        RunFolder(run).require()
    with Database(run, read_only=True) as database:
        identity = database.identity()
        settings = identity.settings if identity else {}
        if identity and identity.versions.get(PREDICTED_BY):
            raise UsageError(
                f"cannot record {run}: its numbers were predicted, not measured. Record a run "
                "that was tuned on a device."
            )
        if identity and identity.device.get(REPLAYED):
            raise UsageError(
                f"cannot record {run}: its numbers are those of a recording, measured before. "
                "Record a run that was tuned on a device."
            )
        return record(
            database,
            features_of=features_of,
            command=_command(settings),
            name_of=standard_name,
        )


@contextmanager
def _features(watch: Callable[[str], None]) -> Iterator[FeaturesOf]:
    """Features of candidates, from build processes: replaying a trace takes a tenth of a second."""
    from effcompile.measure.builder import ProcessBuilder
    from effcompile.measure.shared_space import shared_spaces

    with tempfile.TemporaryDirectory(prefix="effcompile-record-") as folder:
        builder = ProcessBuilder(BuildConfig(), work_dir=Path(folder))
        opened, _ = shared_spaces(builder)

        def features_of(task: Task, name: str, candidates: Sequence[Candidate]) -> np.ndarray:
            watch(f"{task.workload.name}: features of {len(candidates)} candidates of {name}")
            return opened(task, name).features(candidates)

        try:
            yield features_of
        finally:
            builder.close()


def _command(settings: dict[str, object]) -> str:
    """The command that made a run, as far as its settings tell."""
    words = ["effcompile", "tune", "MODEL"]
    for option, name in (("--seed", "search.seed"), ("--energy-policy", "search.energy_policy")):
        if name in settings:
            words += [option, str(settings[name])]
    return shlex.join(words)


def open_recording(name: str) -> Recording:
    """The shipped or given recordings behind a name, joined.

    Raises:
        UsageError: No such recording.
        BadRecording: Damaged, or of different devices.
    """
    return joined([read_recording(path) for path in recording_paths(name)])


def tune_recorded(
    name: str,
    out: Path,
    *,
    config: TuneConfig | None = None,
    events: Events = ignore,
    stop: StopRequest | None = None,
) -> Run:
    """Tune the workloads of a recording, or continue the run that is there.

    Args:
        name: What follows ``replay:``; see :func:`effcompile.recordings.recording_paths`.
        out: Run folder.
        config: Settings of the search; how to build and measure was decided when recording.
        events: Receives what happens.
        stop: Asked between trials whether to stop.

    Raises:
        UsageError: No such recording.
        BadRecording: Damaged, or of different devices.
        IdentityMismatch: The folder belongs to another run.
    """
    config = config or TuneConfig()
    paths = recording_paths(name)
    recording = joined([read_recording(path) for path in paths])
    measuring = {
        key: value for key, value in recording.settings.items() if key.startswith("measure.")
    }
    identity = Identity(
        model_hash=digest_of(paths),
        target=recording.tasks[0].task.target,
        device={**recording.device, REPLAYED: "true"},
        settings={**search_settings(config.search), **measuring},
        versions={**recording.versions, "replayed_by": effcompile.__version__},
    )
    folder = RunFolder(out)
    folder.create()
    with Database(folder.database_path) as database:
        database.claim(identity, config_json=msgspec.json.encode(config).decode())
        stopped_by = replay(recording, database, config=config, events=events, stop=stop)
    return Run(path=folder.path, stopped_by=stopped_by)


def replay(
    recording: Recording,
    database: Database,
    *,
    config: TuneConfig,
    events: Events = ignore,
    stop: StopRequest | None = None,
    runner: Runner | None = None,
    space_names: Callable[[RecordedTask], Sequence[str]] | None = None,
    models: ModelFactory | None = None,
) -> str:
    """Run the loop on a recording; returns why it ended.

    Args:
        recording: What is searched.
        database: Where it is noted.
        config: Settings of the search.
        events: Receives what happens.
        stop: Asked between trials whether to stop.
        runner: Answers instead of the recording's own.
        space_names: Spaces of a task to search; all that were recorded unless given.
        models: Makes cost models; those that ``config`` names, with nothing known beforehand,
            unless given: what is shipped for the device has seen the answers.
    """
    spaces = {
        (one.task.task_id, space.name): ReplaySpace(space)
        for one in recording.tasks
        for space in one.spaces
    }
    names = {one.task.task_id: (space_names or _every_space)(one) for one in recording.tasks}
    return tune(
        [one.task for one in recording.tasks],
        spaces=lambda task, name: spaces[task.task_id, name],
        space_names=lambda task: names[task.task_id],
        builder=ReplayBuilder(recording),
        runner=runner or ReplayRunner(recording),
        database=database,
        config=config.search,
        events=events,
        models=models,
        stop=stop,
    )


def _every_space(task: RecordedTask) -> list[str]:
    return [space.name for space in task.spaces]
