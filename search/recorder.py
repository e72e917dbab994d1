"""From the database of a run to a recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from schedules.candidate import Candidate
from schedules.task import Task
from schedules.workload import Workload
from search.database import Database
from search.errors import BadRecording
from search.identity import Identity
from search.meter_facts import METER_NOTE, MeterFacts
from search.peer import PEER_NOTE, Peer
from search.recording import (
    RecordedBinary,
    RecordedCandidate,
    RecordedSpace,
    RecordedTask,
    Recording,
    packed_features,
)
from search.stored import EnergyRecord
from search.trial import Failure, Trial, TrialState

FeaturesOf = Callable[[Task, str, Sequence[Candidate]], np.ndarray]
"""Early features of candidates of a task's space, shape (n, n_features)."""

NameOf = Callable[[Workload], str]
"""What people call a workload."""

LONGEST_MESSAGE = 300


def record(
    database: Database,
    *,
    features_of: FeaturesOf,
    command: str,
    name_of: NameOf = lambda workload: workload.name,
) -> Recording:
    """Everything a run tried, without its libraries and logs.

    Args:
        database: Of a run; only read.
        features_of: Gives what strategies and models see of a candidate.
        command: How the run was made, for people.
        name_of: Names the workloads.

    Raises:
        BadRecording: Nothing was measured in the run.
    """
    identity, sessions = database.identity(), database.sessions()
    trials = [one for one in database.trials() if one.state is not TrialState.PROPOSED]
    energies = database.energies()
    peers = {(one.task_id, one.name): one for one in database.notes(PEER_NOTE, Peer)}
    tasks = []
    for task in database.tasks():
        own = [one for one in trials if one.task_id == task.task_id]
        if any(one.origin == "default" and one.state is TrialState.OK for one in own):
            recorded = _record_task(task, own, energies, features_of)
            named = replace(task.workload, name=name_of(task.workload))
            tasks.append(
                replace(
                    recorded,
                    task=replace(task, workload=named),
                    peers=tuple(one for one in peers.values() if one.task_id == task.task_id),
                    board=_board(identity),
                )
            )
    if identity is None or not tasks:
        raise BadRecording(
            f"cannot record {database.path}: no task has a default schedule that ran. "
            "Finish the run first with: effcompile tune"
        )
    return Recording(
        command=command,
        created_utc=sessions[0].started_utc if sessions else "",
        device=identity.device,
        settings=identity.settings,
        versions=identity.versions,
        meters=tuple(database.notes(METER_NOTE, MeterFacts)),
        tasks=tuple(tasks),
    )


def _board(identity: Identity | None) -> str:
    return identity.device.get("gpu_uuid", "") if identity else ""


def _record_task(
    task: Task,
    trials: Sequence[Trial],
    energies: Sequence[EnergyRecord],
    features_of: FeaturesOf,
) -> RecordedTask:
    searched = [one for one in trials if one.origin != "default"]
    names = dict.fromkeys(one.candidate.space for one in searched)
    default = next(one for one in trials if one.origin == "default" and one.state is TrialState.OK)
    return RecordedTask(
        task=task,
        default=_candidate(default),
        spaces=tuple(
            _space(
                task, name, [one for one in searched if one.candidate.space == name], features_of
            )
            for name in names
        ),
        binaries=_binaries([default, *searched], energies),
    )


def _space(
    task: Task, name: str, trials: Sequence[Trial], features_of: FeaturesOf
) -> RecordedSpace:
    candidates = tuple(_candidate(one) for one in trials)
    rows = features_of(task, name, [one.candidate for one in candidates])
    return RecordedSpace(name=name, candidates=candidates, columns=packed_features(rows))


def _candidate(trial: Trial) -> RecordedCandidate:
    if trial.build is None:
        return RecordedCandidate(
            candidate=trial.candidate, failure=_short(trial.failure), build_s=trial.spent_s
        )
    return RecordedCandidate(
        candidate=trial.candidate, binary_id=trial.build.binary_id, build_s=trial.build.build_s
    )


def _binaries(
    trials: Sequence[Trial], energies: Sequence[EnergyRecord]
) -> tuple[RecordedBinary, ...]:
    binary_of: dict[int, str] = {}
    found: dict[str, RecordedBinary] = {}
    for trial in trials:
        if trial.build is None:
            continue
        binary_of[trial.trial_id] = trial.build.binary_id
        if trial.same_as is None:
            found.setdefault(
                trial.build.binary_id,
                RecordedBinary(
                    binary_id=trial.build.binary_id,
                    stats=trial.build.stats,
                    latency=trial.latency,
                    failure=_short(trial.failure),
                    run_s=max(0.0, trial.spent_s - trial.build.build_s),
                ),
            )
    for energy in energies:
        binary = found.get(binary_of.get(energy.trial_id, ""))
        if binary is None or energy.measurement is None:
            continue
        taken = energy.measurement
        if energy.phase == "final":
            binary = replace(binary, finals=(*binary.finals, taken))
        else:
            binary = replace(binary, windows=(*binary.windows, taken))
        found[binary.binary_id] = binary
    return tuple(found.values())


def _short(failure: Failure | None) -> Failure | None:
    """A failure without what only its own machine has."""
    if failure is None:
        return None
    return replace(failure, message=failure.message.strip()[:LONGEST_MESSAGE], log_path=None)
