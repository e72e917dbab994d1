"""One point of a design space, as data.

A candidate can be stored, compared, replayed and mutated. It says nothing about
results: those belong to trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from schedules.workload import content_id


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The name of a design space and the decisions taken in it.

    Attributes:
        space: Name of the design space, for example ``tvm`` or ``softmax``.
        decisions: Canonical JSON text: knob values, or a TVM trace.
    """

    space: str
    decisions: str

    @cached_property
    def candidate_id(self) -> str:
        """Content id: equal decisions in the same space give equal ids."""
        return content_id([self.space, self.decisions])
