"""About how long points of a convolution of overlapping windows take, for whole grids of them.

Cycles of a multiprocessor. How fast elements are stored and tiles arrive was fitted to 54 points of
one network's first layer on an H200, with 16 images and with one (root mean square error 4 % and
6 % beside a common factor); other rates are those of convolutions on Hopper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schedules.conv_costs import (
    CACHE_BYTES_PER_CYCLE,
    MACS_PER_CYCLE,
    SHARED_BYTES_PER_CYCLE,
    START_CYCLES,
)
from schedules.conv_windows_layout import (
    TERMS,
    WARPGROUP_ROWS,
    n_turns,
    row_parts,
    windows_arena,
)
from schedules.convolution import Convolution
from schedules.judged_space import Grid, ceil_div
from schedules.target import Target

STORED_PER_CYCLE = 14.0
"""Elements of the output."""
ARRIVAL_CYCLES = 500.0
"""Of a tile's rows, where no other tile is multiplied meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsCosts:
    """Estimated cycles of the busiest multiprocessor.

    Attributes:
        total: All of it.
        arithmetic: Of the tensor cores.
        finish: Storing the output.
    """

    total: Grid
    arithmetic: Grid
    finish: Grid


def windows_costs(problem: Convolution, target: Target, values: Mapping[str, Grid]) -> WindowsCosts:
    """Estimated times of points that can run; values are those of the knobs, by name."""
    column, warpgroups = values["tile_column"], values["multipliers"]
    resident, held = values["blocks_per_core"], windows_arena(problem, values)
    turns = n_turns(problem, values, target.n_cores)
    parts = values["box_height"] * row_parts(problem)
    # Rows are read again for every 16 terms, so few columns leave the tensor cores waiting.
    instruction = np.maximum(
        WARPGROUP_ROWS * TERMS * column / MACS_PER_CYCLE,
        (WARPGROUP_ROWS + column) * TERMS * 2 / SHARED_BYTES_PER_CYCLE,
    )
    # The busiest warpgroup of a block decides, where parts cannot be divided evenly.
    busy = resident * turns * ceil_div(parts, warpgroups) * warpgroups
    arithmetic = busy * problem.places * problem.channels / TERMS * instruction
    finish = busy * WARPGROUP_ROWS * column / STORED_PER_CYCLE
    longest = np.maximum(arithmetic, finish)
    # A warpgroup stores what it multiplied; others go on meanwhile.
    hidden = longest + (arithmetic + finish - longest) / (resident * warpgroups)
    loaded = (resident * held.weights + held.stage) / CACHE_BYTES_PER_CYCLE
    waiting = ARRIVAL_CYCLES * turns / values["stages"]
    return WindowsCosts(
        total=START_CYCLES + loaded + waiting + hidden, arithmetic=arithmetic, finish=finish
    )
