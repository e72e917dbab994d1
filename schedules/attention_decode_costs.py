"""What points of attention with few queries occupy, and about how long they take.

Times are cycles of a multiprocessor, of a launch between others of its kind. The rates were fitted
to 97 points of three workloads on an H200 (root mean square error 9 %; fitted to two of them, 6 to
10 % on the third); points are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass

from schedules.attention_decode_problem import DecodeProblem
from schedules.attention_decode_schedule import (
    DecodeSchedule,
    n_passes,
    ring_bytes,
    shared_bytes,
    step_bytes,
)
from schedules.resident_blocks import resident_blocks
from schedules.target import Target

REGISTERS_BESIDE_DATA = 40
# Addresses of copies in pieces, per tile.
REGISTERS_OF_COPIES = 16
THREADS_PER_CORE = 2048

MEMORY_BYTES_PER_CYCLE = 18.5
CORE_BYTES_PER_CYCLE = 50.0
LATENCY_CYCLES = 1900.0
"""From asking for a step to its arrival, while memory is busy."""
STEP_CYCLES = 430.0
TILE_CYCLES = 45.0
"""Of 16 keys and values of 64 elements and 8 rows."""
START_CYCLES = 600.0
LAST_BLOCK_CYCLES = 3400.0
SPLIT_CYCLES = 145.0
ALONE_CYCLES = 7700.0
"""Where the kernel behind finds no room beside this one."""
LATE_CYCLES = 6700.0
"""Where it finds room late; in clusters of two that is as good as at once."""
CROWDED_CYCLES = 7000.0
"""Where larger clusters, which lie in one part of the device, want most of its multiprocessors."""
CROWDED_SHARE = 0.75
PREFETCH_CYCLES_PER_BYTE = 0.021
"""What the kernel behind asks the second cache for takes bandwidth from this one."""
OVERLAP_POWER = 4
"""Of the longer of reading and waiting, which hides most of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a point occupies.

    Attributes:
        registers: Of a thread, estimated.
        blocks: Of the launch.
        resident: Blocks that a multiprocessor holds at once, by the estimate of registers; at
            least 1.
        waves: Blocks over those that all multiprocessors hold at once.
        steps: That the warps of a group of rows share.
        shares: These warps.
        flying_bytes: Of keys and values that are being loaded, per multiprocessor of the device.
        per_core: Blocks of the busiest multiprocessor.
    """

    registers: int
    blocks: int
    resident: int
    waves: float
    steps: int
    shares: int
    flying_bytes: float
    per_core: int

    @property
    def leaves_room(self) -> bool:
        """Whether blocks of the kernel behind fit beside those of this one, everywhere."""
        return self.resident >= 2 * self.per_core


def needs(problem: DecodeProblem, target: Target, schedule: DecodeSchedule) -> Needs:
    """What a point occupies on a device."""
    registers = _registers(problem, schedule)
    blocks = schedule.splits * problem.groups * n_passes(problem, schedule)
    fitting = resident_blocks(
        target,
        threads=schedule.n_threads,
        registers=registers,
        shared_bytes=shared_bytes(problem, schedule),
        most_threads=THREADS_PER_CORE,
    )
    resident = max(1, int(fitting))
    slots = resident * target.n_cores
    return Needs(
        registers=registers,
        blocks=blocks,
        resident=resident,
        waves=blocks / slots,
        steps=-(-problem.plain.keys // schedule.step_keys),
        shares=schedule.warps * schedule.splits,
        flying_bytes=min(blocks, slots) * ring_bytes(problem, schedule) / target.n_cores,
        per_core=-(-blocks // target.n_cores),
    )


def _registers(problem: DecodeProblem, schedule: DecodeSchedule) -> int:
    plain, row_tiles = problem.plain, schedule.rows // 8
    totals = row_tiles * (4 * -(-plain.value_width // 16) + 4)
    queries = row_tiles * 2 * -(-plain.width // 16)
    scores = schedule.tiles * row_tiles * (6 + 4 * (problem.mask is not None))
    addresses = REGISTERS_OF_COPIES * schedule.tiles * (schedule.loads == "pieces")
    return REGISTERS_BESIDE_DATA + totals + queries + scores + addresses


def launch_cycles(
    problem: DecodeProblem, target: Target, schedule: DecodeSchedule, needed: Needs
) -> float:
    """Estimated cycles of a point; the sequences are taken to have all their keys."""
    reading = _bytes_of_tokens(problem) / target.n_cores / MEMORY_BYTES_PER_CYCLE
    waiting = _waiting_cycles(problem, target, schedule, needed)
    both = reading**OVERLAP_POWER + waiting**OVERLAP_POWER
    streaming = float(both ** (1 / OVERLAP_POWER))
    combining = _combining_cycles(target, schedule, needed)
    return START_CYCLES + streaming + combining + _succession_cycles(schedule, needed)


def _bytes_of_tokens(problem: DecodeProblem) -> int:
    plain = problem.plain
    return 2 * problem.groups * plain.keys * (plain.width + plain.value_width)


def _waiting_cycles(
    problem: DecodeProblem, target: Target, schedule: DecodeSchedule, needed: Needs
) -> float:
    """Of a multiprocessor for its steps, if memory were never the limit."""
    width = problem.plain.width + problem.plain.value_width
    computing = STEP_CYCLES + TILE_CYCLES * schedule.tiles * schedule.rows / 8 * width / 128
    period = max(computing, (LATENCY_CYCLES + computing) / schedule.in_flight)
    n_bytes = step_bytes(problem, schedule)
    warps = schedule.warps * min(needed.per_core, needed.resident)
    rate = min(warps * n_bytes / period, CORE_BYTES_PER_CYCLE)
    steps = needed.blocks * schedule.warps * -(-needed.steps // needed.shares)
    return steps * n_bytes / min(needed.blocks, target.n_cores) / rate


def _combining_cycles(target: Target, schedule: DecodeSchedule, needed: Needs) -> float:
    if schedule.combine == "cluster":
        is_crowded = needed.blocks > CROWDED_SHARE * target.n_cores and not _is_pair(schedule)
        return CROWDED_CYCLES * is_crowded
    return LAST_BLOCK_CYCLES + SPLIT_CYCLES * schedule.splits if schedule.splits > 1 else 0.0


def _is_pair(schedule: DecodeSchedule) -> bool:
    return schedule.combine == "cluster" and schedule.splits == 2


def _succession_cycles(schedule: DecodeSchedule, needed: Needs) -> float:
    """What the way to the kernel behind adds on devices where it may start early."""
    if not schedule.early:
        return 0.0
    if not needed.leaves_room:
        return ALONE_CYCLES
    is_late = schedule.release == "late" and not _is_pair(schedule)
    return PREFETCH_CYCLES_PER_BYTE * needed.flying_bytes + LATE_CYCLES * is_late
