"""Points of a tiled product whose order of tiles another point already stands for."""

from __future__ import annotations

from schedules.divided_sums import split_faults
from schedules.knobs import first_fault


def order_fault(
    *,
    steps: int,
    per_split: int,
    splits: int,
    works: int,
    slots: int,
    group: int,
    row_tiles: int,
    persistent: bool,
) -> str | None:
    """Why splitting the sum, grouping tiles or staying on the device is no choice of its own.

    Args:
        steps: Along the sum.
        per_split: Steps of one part of it.
        splits: Parts.
        works: Tiles times parts.
        slots: Blocks that the device holds at a time.
        group: Tiles that follow each other down the rows.
        row_tiles: Tiles down the rows.
        persistent: Whether blocks take one work after another.
    """
    faults = {
        **split_faults(steps=steps, per_split=per_split, splits=splits, works=works, slots=slots),
        "a group would hold more tiles than there are": group > 1 and group >= 2 * row_tiles,
        "every block has one tile anyway": persistent and works <= slots,
    }
    return first_fault(faults)
