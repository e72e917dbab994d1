"""What is to be run of one family, as a file between the processes that build, run and judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from schedules.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """One candidate of one problem, built.

    Attributes:
        problem: Name of the problem in its family.
        decisions: Values of the knobs, as JSON.
        workload: What it computes.
        data: Folder of inputs and references.
        library: Shared library with ``main``.
    """

    problem: str
    decisions: str
    workload: Workload
    data: str
    library: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything to be run of one family, in order; ``refused`` are builds that failed."""

    family: str
    runs: tuple[PlannedRun, ...]
    refused: tuple[str, ...] = ()


def read_plan(path: Path) -> Plan:
    """A plan as :func:`write_plan` wrote it."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def write_plan(plan: Plan, path: Path) -> None:
    """One plan as JSON."""
    path.write_bytes(msgspec.json.encode(plan))
