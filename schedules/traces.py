"""Traces as text: compact JSON that replays exactly in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate

END_OF_SKETCH = ["EnterPostproc", [], [], []]
"""Stands between the instructions of a sketch and those of the post-processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A trace as plain data.

    Attributes:
        steps: Instructions in order, each ``[kind, inputs, attributes, outputs]``.
        decisions: ``[index of the step, what was decided]``.
    """

    steps: list[Any]
    decisions: list[tuple[int, Any]]


def read_trace(text: str) -> StoredTrace:
    """The parts of a stored trace, without replaying it.

    Raises:
        IllegalCandidate: The text is no trace.
    """
    try:
        steps, decisions = msgspec.json.decode(text, type=tuple[list[Any], list[tuple[int, Any]]])
    except msgspec.MsgspecError as error:
        raise IllegalCandidate(f"the text is no trace: {error}.") from None
    return StoredTrace(steps=steps, decisions=decisions)


def dump_trace(trace: Any) -> str:
    """Instructions and decisions, with those of the post-processors."""
    return msgspec.json.encode(trace.as_json(), enc_hook=_plain).decode()


def _plain(value: Any) -> Any:
    """TVM's strings are a subclass of ours; its boxed constants hold their number in ``value``."""
    return str(value) if isinstance(value, str) else value.value


def load_trace_onto(candidate: Candidate, schedule: Any) -> None:
    """Replay a candidate's trace.

    Raises:
        IllegalCandidate: The text is no trace, or an instruction does not fit.
    """
    from tvm.s_tir.schedule import Trace

    try:
        Trace.apply_json_to_schedule(msgspec.json.decode(candidate.decisions), schedule)
    # A foreign trace fails wherever it first disagrees with the program: in parsing,
    # in the type of an argument, in a primitive, or in a failed internal check.
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise IllegalCandidate(
            f"candidate {candidate.candidate_id} cannot be replayed: {_first_line(error)}. "
            "It was made for another workload, target or version; sample this space anew."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
