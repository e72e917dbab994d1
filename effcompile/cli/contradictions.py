"""Options of ``tune`` that cannot be given together."""

from __future__ import annotations

from typing import Any

from effcompile.errors import UsageError
from effcompile.recordings import REPLAY


def require_replay(device: str) -> None:
    """Nothing but a recording can be named.

    Raises:
        UsageError: Something else was.
    """
    if not device.startswith(REPLAY):
        raise UsageError(
            f"unknown --device {device!r}: expected replay:NAME or replay:FILE. "
            "The device to compile for is --target."
        )


def refuse_beside_replay(**given: Any) -> None:
    """Whatever a recording has decided already cannot be asked for.

    Raises:
        UsageError: Something of it was.
    """
    set_names = [
        name if name == "models" else _option(name)
        for name, value in given.items()
        if value and value != "auto"
    ]
    if set_names:
        raise UsageError(
            f"cannot use {', '.join(set_names)} with --device: the recording holds its own "
            "workloads, measured in one way on one device. Leave them out."
        )


def refuse_beside_predictions(**given: str | None) -> None:
    """What only means something where a device is measured.

    Raises:
        UsageError: Something of it was asked for.
    """
    set_names = [_option(name) for name, value in given.items() if value]
    if set_names:
        raise UsageError(
            f"cannot use {', '.join(set_names)} with --measure none: nothing is measured. "
            "Leave it out."
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
