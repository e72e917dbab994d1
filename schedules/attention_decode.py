"""The family of attention with few queries: knobs behind the design-space protocol."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import numpy as np

from schedules.attention_decode_costs import Needs, launch_cycles, needs
from schedules.attention_decode_cuda import attention_decode
from schedules.attention_decode_problem import decode_problem
from schedules.attention_decode_schedule import (
    Combine,
    DecodeSchedule,
    Release,
    shared_bytes,
)
from schedules.covering import required, unless_empty
from schedules.judged_space import promising
from schedules.knobs import Knob, KnobSpace, Value, Values, first_fault
from schedules.limits import launch_refusal
from schedules.task import Task

CLUSTERS = (8, 16)
MOST_IN_CLUSTER = 16
MOST_REGISTERS = 240
# Bytes per multiprocessor; with fewer, memory waits for loads to be issued.
FEWEST_IN_FLIGHT = 24 * 1024
# What split counts aim at.
BLOCKS_PER_CORE = (0.5, 1, 2)
TILES_PER_SPLIT = (2, 4, 8, 16)
MOST_SPLITS = 256
PATIENCE = 1.15
# Up to so many, one warp per block may be enough; with more it was the slowest everywhere.
FEW_KEYS = 512


def attention_decode_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    if not task.target.has_async_copies or decode_problem(task.workload) is None:
        return None
    return unless_empty(AttentionDecodeSpace(task))


class AttentionDecodeSpace(KnobSpace):
    """How blocks and warps share the keys, and how much each has in flight.

    Attributes:
        patience: How many times the least estimate that of a drawn point may be.
    """

    name = "attention_decode"

    def __init__(self, task: Task, *, patience: float = PATIENCE) -> None:
        self._problem = required(
            decode_problem(task.workload),
            task,
            family=self.name,
            expected="few query rows per key head, and queries, keys and values of one 16-bit "
            "dtype whose widths are multiples of 8",
        )
        self._workload, self._target = task.workload, task.target
        self.patience = patience

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:  # type: ignore[override]
        """Splits and rows follow the problem."""
        rows = tuple(n for n in (8, 16, 32) if n == 8 or n < 2 * self._problem.group_rows)
        plenty = self._problem.plain.keys > FEW_KEYS
        combines = ("last_block", *(["cluster"] if self._target.has_clusters else []))
        releases = ("late", *(["at_once"] if self._target.has_clusters else []))
        return (
            Knob(name="splits", values=self._split_counts()),
            Knob(name="warps", values=(2, 4, 8) if plenty else (1, 2, 4, 8)),
            Knob(name="tiles", values=(1, 2, 4)),
            Knob(name="in_flight", values=(1, 2, 3, 4, 6, 8)),
            Knob(name="rows", values=rows),
            Knob(name="combine", values=combines),
            Knob(name="release", values=releases),
        )

    def _split_counts(self) -> tuple[int, ...]:
        """One, what gives every multiprocessor whole blocks, and what few keys allow."""
        per_group = self._target.n_cores / self._problem.groups
        n_tiles = -(-self._problem.plain.keys // 16)
        wanted = {int(load * per_group) for load in BLOCKS_PER_CORE}
        wanted |= {n_tiles // share for share in TILES_PER_SPLIT}
        wanted |= set(CLUSTERS) if self._target.has_clusters else set()
        most = min(MOST_SPLITS, n_tiles, int(BLOCKS_PER_CORE[-1] * per_group))
        return tuple(sorted({1} | {n for n in wanted if 1 < n <= most}))

    @property
    def points(self) -> list[dict[str, Value]]:
        """Points that are drawn: those whose estimate is not much above the least one."""
        return self._judged[0]

    @property
    def estimates(self) -> np.ndarray:
        """See :class:`KnobSpace`."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[list[dict[str, Value]], np.ndarray]:
        """Points that are drawn, and their estimates."""
        legal = list(self._legal())
        cycles = np.array([self._cycles(self.schedule(one)) for one in legal])
        drawn = np.flatnonzero(promising(cycles, self.patience))
        return [legal[i] for i in drawn], cycles[drawn]

    def schedule(self, values: Values) -> DecodeSchedule:
        """The decisions that knob values stand for."""
        return DecodeSchedule(
            warps=int(values["warps"]),
            tiles=int(values["tiles"]),
            in_flight=int(values["in_flight"]),
            loads="tiles" if self._target.has_clusters else "pieces",
            rows=int(values["rows"]),
            splits=int(values["splits"]),
            combine=cast("Combine", values["combine"]),
            early=self._target.has_clusters,
            release=cast("Release", values["release"]),
        )

    def refusal(self, values: Values) -> str | None:
        """Limits of the device, and points that another point already stands for."""
        schedule, problem = self.schedule(values), self._problem
        needed = self.needs(schedule)
        steps, shares = needed.steps, needed.shares
        faults = {
            "more than a fifth of the warps would have no keys": 4 * shares > 5 * max(steps, 1),
            "more steps would be in flight than a warp has": (
                schedule.in_flight > max(1, -(-steps // shares))
            ),
            "nothing is to be combined": schedule.splits == 1 and schedule.combine != "last_block",
            "blocks of a group would wait for others to end": (
                schedule.splits > 1 and needed.waves > 1
            ),
            f"a cluster holds {MOST_IN_CLUSTER} blocks at most": (
                schedule.combine == "cluster" and schedule.splits > MOST_IN_CLUSTER
            ),
            f"more than {MOST_REGISTERS} registers per thread": needed.registers > MOST_REGISTERS,
            "steps are no whole pages, and pages no whole steps": self._crosses_pages(schedule),
            "memory would be idle": needed.flying_bytes < self._wanted_in_flight(),
            "no block of the kernel behind fits beside those of this one": (
                schedule.release == "at_once" and not needed.leaves_room
            ),
        }
        return first_fault(faults) or launch_refusal(
            self._target,
            threads_per_block=schedule.n_threads,
            registers_per_thread=needed.registers,
            shared_bytes=shared_bytes(problem, schedule),
        )

    def _crosses_pages(self, schedule: DecodeSchedule) -> bool:
        pages = self._problem.pages
        if pages is None:
            return False
        longer, shorter = sorted((pages.tokens, schedule.step_keys), reverse=True)
        return longer % shorter > 0

    def program(self, values: Values) -> Any:
        """The bound program."""
        return attention_decode(self._workload, self._problem, self.schedule(values))

    def numbers(self, values: Values) -> list[float]:
        """log2 of cycles, threads, blocks, waves, bytes in flight, steps; registers; balance."""
        schedule = self.schedule(values)
        needed = self.needs(schedule)
        share = needed.steps / needed.shares
        return [
            float(np.log2(self._cycles(schedule))),
            float(np.log2(schedule.n_threads)),
            float(np.log2(needed.blocks)),
            float(np.log2(needed.waves)),
            float(np.log2(needed.flying_bytes)),
            float(np.log2(share)),
            float(needed.registers),
            share / float(np.ceil(share)),
            needed.waves / float(np.ceil(needed.waves)),
        ]

    def needs(self, schedule: DecodeSchedule) -> Needs:
        """What a point occupies on the task's device."""
        return needs(self._problem, self._target, schedule)

    def _cycles(self, schedule: DecodeSchedule) -> float:
        return launch_cycles(self._problem, self._target, schedule, self.needs(schedule))

    def _wanted_in_flight(self) -> float:
        """What memory needs to be busy, or a quarter of all there is to load."""
        plain = self._problem.plain
        n_bytes = 2 * self._problem.groups * plain.keys * (plain.width + plain.value_width)
        return min(FEWEST_IN_FLIGHT, n_bytes / 4 / self._target.n_cores)
