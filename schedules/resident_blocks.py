"""How many blocks of a kernel a multiprocessor holds at a time, for grids of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from schedules.limits import launch_refusal
from schedules.target import Target

RESERVED_SHARED_BYTES = 1024
"""What the driver takes of the shared memory for every block."""
CLUSTERED_SHARE = 0.9
"""Of the multiprocessors, that clusters of more than two blocks fill."""


def resident_refusal(
    target: Target, *, threads: int, shared_bytes: int, blocks_per_core: int
) -> str | None:
    """Why so many blocks do not fit on a multiprocessor with their shared memory.

    Args:
        target: Whose limits.
        threads: Per block.
        shared_bytes: Per block.
        blocks_per_core: That shall run at a time.
    """
    return launch_refusal(
        target,
        threads_per_block=threads,
        registers_per_thread=1,
        shared_bytes=shared_bytes * blocks_per_core + RESERVED_SHARED_BYTES * (blocks_per_core - 1),
    )


def resident_blocks(
    target: Target, *, threads: Any, registers: Any, shared_bytes: Any, most_threads: int
) -> np.ndarray:
    """Blocks per multiprocessor: the least that threads, registers and shared memory allow.

    Args:
        target: Whose limits.
        threads: Per block; like the two that follow, a number or an array over points.
        registers: Per thread.
        shared_bytes: Per block.
        most_threads: Of a multiprocessor.
    """
    memory = target.shared_memory_per_block_bytes + RESERVED_SHARED_BYTES
    limits = np.broadcast_arrays(
        most_threads // threads,
        target.registers_per_block // (registers * threads),
        memory // (shared_bytes + RESERVED_SHARED_BYTES),
    )
    found: np.ndarray = np.minimum.reduce(limits)
    return found
