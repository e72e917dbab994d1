"""Points of products that divide a sum among blocks to no purpose: numbers or whole grids."""

from __future__ import annotations

from collections.abc import Mapping

from schedules.judged_space import Grid
from schedules.target import Target

LARGE_CLUSTER = 8


def split_faults(
    *, steps: Grid, per_split: Grid, splits: Grid, works: Grid, slots: Grid
) -> dict[str, Grid]:
    """Why parts of a sum, which a second launch adds, are no choice of their own.

    Args:
        steps: Along the sum.
        per_split: Steps of one part of it.
        splits: Parts.
        works: Tiles times parts.
        slots: Blocks that the device holds at a time.
    """
    return {
        "a part of the sum would have no terms": per_split * (splits - 1) >= steps,
        "the device is full without splitting the sum": (splits > 1) & (works > 2 * slots),
    }


def cluster_faults(
    target: Target, values: Mapping[str, Grid], *, terms: Grid, depth: int, resident: Grid
) -> dict[str, Grid]:
    """Why blocks cannot share the terms of a sum, or should not, in clusters or in parts of it.

    Args:
        target: The device.
        values: Of the knobs ``cluster`` and ``splits``.
        terms: Of a block.
        depth: Terms in all.
        resident: Blocks that a multiprocessor holds.
    """
    cluster, splits = values["cluster"], values["splits"]
    return {
        "a block would have no terms": terms * (cluster * splits - 1) >= depth,
        "the device has no clusters": (cluster > 1) & (not target.has_clusters),
        "terms are shared within clusters or among them": (cluster > 1) & (splits > 1),
        "large clusters wait for room unless a multiprocessor holds two blocks": (
            (cluster >= LARGE_CLUSTER) & (resident < 2)
        ),
    }
