"""Recordings of one kind of device as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from search.errors import BadRecording
from search.recording import (
    RecordedBinary,
    RecordedSpace,
    RecordedTask,
    Recording,
    packed_features,
)


def joined(recordings: Sequence[Recording]) -> Recording:
    """Several recordings of one kind of device as one.

    A task of several keeps what each tried; but boards of one kind differ by some per cent, so
    what another board measured of it is left out: the one with more energies stays.

    Raises:
        BadRecording: They come from different targets.
    """
    targets = {one.task.target for recording in recordings for one in recording.tasks}
    if len(targets) != 1:
        names = ", ".join(sorted({target.name for target in targets})) or "none"
        raise BadRecording(
            f"cannot replay recordings of different devices together: found {names}. "
            "Name a single recording."
        )
    tasks: dict[str, RecordedTask] = {}
    for recording in recordings:
        for one in recording.tasks:
            known = tasks.get(one.task.task_id)
            tasks[one.task.task_id] = one if known is None else _joined_task(known, one)
    meters = tuple(facts for one in recordings for facts in one.meters)
    first = recordings[0].device
    common = {
        name: value
        for name, value in first.items()
        if all(one.device.get(name) == value for one in recordings)
    }
    return replace(
        recordings[0],
        command="; ".join(dict.fromkeys(one.command for one in recordings)),
        device=common,
        tasks=tuple(tasks.values()),
        meters=meters,
    )


def _joined_task(first: RecordedTask, second: RecordedTask) -> RecordedTask:
    if first.board != second.board:
        return max(first, second, key=lambda one: one.n_energies)
    binaries = {one.binary_id: one for one in first.binaries}
    for one in second.binaries:
        known = binaries.get(one.binary_id)
        binaries[one.binary_id] = one if known is None else _joined_binary(known, one)
    spaces = {one.name: one for one in first.spaces}
    for space in second.spaces:
        known_space = spaces.get(space.name)
        spaces[space.name] = space if known_space is None else _joined_space(known_space, space)
    return replace(
        first,
        binaries=tuple(binaries.values()),
        spaces=tuple(spaces.values()),
        peers=second.peers or first.peers,
    )


def _joined_binary(first: RecordedBinary, second: RecordedBinary) -> RecordedBinary:
    return replace(
        first,
        windows=(*first.windows, *second.windows),
        finals=(*first.finals, *second.finals),
    )


def _joined_space(first: RecordedSpace, second: RecordedSpace) -> RecordedSpace:
    known = {one.candidate.candidate_id for one in first.candidates}
    new = [i for i, one in enumerate(second.candidates) if one.candidate.candidate_id not in known]
    if not new:
        return first
    features = [first.features(), second.features()]
    if features[0].shape[1] != features[1].shape[1]:
        raise BadRecording(
            f"cannot replay recordings together: one holds {features[0].shape[1]} features of each "
            f"candidate of space {first.name}, another {features[1].shape[1]}; they were made by "
            "different versions. Name a single recording, or record the older run again."
        )
    rows = np.concatenate([features[0], features[1][new]])
    candidates = (*first.candidates, *(second.candidates[i] for i in new))
    return replace(first, candidates=candidates, columns=packed_features(rows))
