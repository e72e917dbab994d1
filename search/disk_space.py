"""Whether the disk still takes what a trial leaves behind."""

from __future__ import annotations

import shutil
from pathlib import Path

from search.errors import DiskFull

LEAST_FREE_BYTES = 1 << 20
"""Below this, compilers and kernels fail for want of space, whatever they say."""


def require_space(folder: Path) -> None:
    """Tell a trial that failed by itself from one that failed for want of space.

    Raises:
        DiskFull: Next to nothing is free where the run is kept.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < LEAST_FREE_BYTES:
        raise DiskFull(
            f"a trial failed with {free_bytes // 1024} KiB free in {folder}, at least "
            f"{LEAST_FREE_BYTES // 1024} are needed; it is not recorded. Free some space, then "
            "run the same command again: every finished trial is kept."
        )
