"""A recording in a file: compressed, written whole or not at all, checked when it is read."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import msgspec

from search.errors import BadRecording
from search.recording import RECORDING_VERSION, Recording


def write_recording(recording: Recording, path: Path) -> None:
    """Write the file whole or not at all."""
    data = lzma.compress(msgspec.msgpack.encode(recording), preset=9)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_recording(path: Path) -> Recording:
    """The recording in a file.

    Raises:
        BadRecording: Missing, damaged, or of another version.
    """
    try:
        data = lzma.decompress(path.read_bytes())
        version = msgspec.msgpack.decode(data, type=_Version).schema_version
        if version != RECORDING_VERSION:
            raise BadRecording(
                f"cannot read recording {path}: its version is {version}, this program reads "
                f"{RECORDING_VERSION}. Record the run again with: effcompile record RUN --out FILE"
            )
        return _checked(msgspec.msgpack.decode(data, type=Recording), path)
    except (OSError, lzma.LZMAError, EOFError, msgspec.DecodeError) as error:
        raise BadRecording(
            f"cannot read recording {path}: {error}. Name a file that effcompile record wrote."
        ) from error


def _checked(recording: Recording, path: Path) -> Recording:
    """The recording, if it holds tasks, and each space a row of features for every candidate."""
    if not recording.tasks:
        raise BadRecording(
            f"cannot read recording {path}: it holds no task, expected at least one. "
            "Name another file that effcompile record wrote."
        )
    for task in recording.tasks:
        for space in task.spaces:
            if len(space.columns) % (4 * max(1, len(space.candidates))):
                raise BadRecording(
                    f"cannot read recording {path}: space {space.name} of "
                    f"{task.task.workload.name} holds {len(space.columns)} bytes of features "
                    f"for {len(space.candidates)} candidates, expected the same number for each. "
                    "Record the run again."
                )
    return recording


class _Version(msgspec.Struct):
    schema_version: int
