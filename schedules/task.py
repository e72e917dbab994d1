"""A workload to be tuned for one target, with its weight in the network."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.target import Target
from schedules.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of tuning.

    Attributes:
        workload: What is computed.
        target: Where.
        weight: How many times the network runs this workload in one inference.
    """

    workload: Workload
    target: Target
    weight: int = 1

    @property
    def task_id(self) -> str:
        """The workload's id; a run has one target, so this is unique in it."""
        return self.workload.workload_id
