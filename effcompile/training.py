"""From recordings to the models that are shipped for a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cost_models.device_models import DeviceModels, read_models, write_models
from effcompile.errors import UsageError
from effcompile.output_files import check_output
from effcompile.recordings import REPLAY, digest_of, recording_paths
from search.recording_file import read_recording
from search.recording_joining import joined
from search.training import train_models


def train_from(devices: Sequence[str], out: Path) -> DeviceModels:
    """Train on recordings and write one file.

    Args:
        devices: ``replay:NAME`` or ``replay:FILE`` each, all of one kind of device.
        out: The file.

    Raises:
        UsageError: No such recording.
        BadRecording: Damaged, of different devices, or too little to learn from.
    """
    check_output(out)
    paths: list[Path] = []
    for device in devices:
        if not device.startswith(REPLAY):
            raise UsageError(f"unknown --device {device!r}: expected replay:NAME or replay:FILE.")
        paths += recording_paths(device.removeprefix(REPLAY))
    recording = joined([read_recording(path) for path in paths])
    write_models(train_models(recording, digest=digest_of(paths)), out)
    return read_models(out)
