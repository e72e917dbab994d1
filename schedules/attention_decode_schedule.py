"""Decisions of attention with few queries, and the memory they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schedules.attention_decode_problem import DecodeProblem

PANEL_ELEMENTS = 64
ROW_BYTES = 128
ALIGNMENT_BYTES = 1024
BARRIER_BYTES = 8
Combine = Literal["last_block", "cluster"]
Loads = Literal["tiles", "pieces"]
Release = Literal["at_once", "late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSchedule:
    """The decisions of one point.

    Attributes:
        warps: Of a block; those of all blocks take steps of keys in turn.
        tiles: Tiles of 16 keys that a warp takes in one step.
        in_flight: Steps of a warp that are being copied to shared memory at once.
        loads: Whether a step comes as ``tiles``, by the tensor memory accelerator (compute
            capability 9.0), or in ``pieces`` of 16 bytes, by the warp's lanes.
        rows: Query rows of a block, a multiple of 8; more need further passes over the keys.
        splits: Blocks that share the keys of a group of rows.
        combine: Who combines what these blocks found: the ``last_block`` to finish, or all of them
            as a ``cluster`` (compute capability 9.0). The last block is found by counters that
            live in the loaded module and are zero again after every call: calls of one module
            must not overlap.
        early: Whether blocks start before the kernel in front has ended, and ask the second
            cache for their first steps until it has (compute capability 9.0, ``tiles``).
        release: When the kernel behind may do so: ``at_once`` when all blocks of this one have
            started, or ``late``, when they have asked for their last keys.
    """

    warps: int
    tiles: int
    in_flight: int
    loads: Loads
    rows: int
    splits: int
    combine: Combine
    early: bool
    release: Release

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps

    @property
    def step_keys(self) -> int:
        """Keys of one step of a warp."""
        return 16 * self.tiles


def step_bytes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Shared memory of the keys and values of a warp's step, in panels of 64 elements."""
    return (panels(problem.plain.width) + panels(problem.plain.value_width)) * (
        schedule.step_keys * ROW_BYTES
    )


def panels(width: int) -> int:
    """Panels of 64 elements that hold a width."""
    return -(-width // PANEL_ELEMENTS)


def box_keys(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Keys that are copied as one tile: a step, or a page of it."""
    keys = schedule.step_keys
    return min(keys, problem.pages.tokens) if problem.pages else keys


def n_passes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Passes over the keys of a group."""
    return -(-problem.group_rows // schedule.rows)


def held_rows(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Rows of a block that exist."""
    return min(problem.group_rows, schedule.rows)


def partial_floats(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Of all blocks of one group and pass: values, a maximum and a sum per row."""
    rows = held_rows(problem, schedule)
    return _up_to_four(schedule.splits * rows * (problem.plain.value_width + 2))


def ring_bytes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Shared memory of a block for the steps that are in flight."""
    return schedule.warps * schedule.in_flight * step_bytes(problem, schedule)


def shared_bytes(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    """Dynamic shared memory of a block: steps in flight, later the results of its warps."""
    own = held_rows(problem, schedule) * (problem.plain.value_width + 4 + 2)
    results = _up_to_four(schedule.warps * own) + (schedule.combine == "cluster") * own
    barriers = BARRIER_BYTES * schedule.warps * schedule.in_flight
    return ALIGNMENT_BYTES + max(ring_bytes(problem, schedule) + barriers, 4 * results)


def _up_to_four(n: int) -> int:
    return -(-n // 4) * 4
