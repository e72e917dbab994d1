"""How a convolution of overlapping windows divides its work, and how it lies in shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedules.conv_problem import ALIGNED_ELEMENTS
from schedules.convolution import Convolution
from schedules.judged_space import Grid, ceil_div

WARPGROUP_ROWS = 64
TERMS = 16
"""Of a sum, that one instruction adds."""
LINES = (16, 32, 64)
"""Terms of a row of the kernel that a swizzled line of weights can hold."""
MOST_COPIED = 256
"""Elements of a copied box in one direction."""
PIECE_BYTES = 2 * ALIGNED_ELEMENTS
WEIGHTS_ALIGNMENT = 1024
BOX_ALIGNMENT = 128
BARRIERS_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsSchedule:
    """Decisions of one program.

    Attributes:
        box_height: Rows of pixels of the output in a tile; they are as wide as it is.
        tile_column: Filters of a tile, a multiple of 8.
        multipliers: Warpgroups that multiply.
        stages: Tiles whose rows of the images are in flight.
        blocks_per_core: Blocks that share a multiprocessor.
        n_blocks: Of every tile of filters; each takes one tile of pixels after another.
    """

    box_height: int
    tile_column: int
    multipliers: int
    stages: int
    blocks_per_core: int
    n_blocks: int


def has_windows(problem: Convolution) -> bool:
    """Whether a pixel is one piece behind its neighbour, and rows of the kernel are whole steps."""
    width = problem.width
    plain = width.kernel == width.stride == 1 and width.padding == 0
    overlap = problem.pixel_step == ALIGNED_ELEMENTS < problem.channels
    return plain and overlap and problem.channels in LINES and box_pieces(problem) > 0


def row_pieces(problem: Convolution) -> int:
    """Pieces of 16 bytes of a row of the images."""
    return problem.line_step // ALIGNED_ELEMENTS


def box_pieces(problem: Convolution) -> int:
    """Pieces of the longest equal parts of a row that one copy can take; 0 if there are none."""
    pieces, most = row_pieces(problem), MOST_COPIED // ALIGNED_ELEMENTS
    fitting = [n for n in range(1, most + 1) if pieces % n == 0 and pieces // n <= MOST_COPIED]
    return max(fitting, default=0)


def row_parts(problem: Convolution) -> int:
    """Warpgroups' rows that a row of the output fills."""
    return int(ceil_div(problem.width.out, WARPGROUP_ROWS))


def image_rows(problem: Convolution, box_height: Grid) -> Grid:
    """Rows of the images under so many rows of the output."""
    height = problem.height
    return (box_height - 1) * height.stride + (height.kernel - 1) * height.dilation + 1


def n_boxes(problem: Convolution, box_height: Grid) -> Grid:
    """Tiles of pixels."""
    return problem.images * ceil_div(problem.height.out, box_height)


def n_turns(problem: Convolution, values: Mapping[str, Grid], n_cores: int) -> Grid:
    """Tiles of pixels that a block takes at most, if all blocks are on the device at a time."""
    column_tiles = ceil_div(problem.filters, values["tile_column"])
    slots = n_cores * values["blocks_per_core"] // column_tiles
    return ceil_div(n_boxes(problem, values["box_height"]), slots + (slots == 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsArena:
    """Bytes of shared memory, in this order; numbers, or arrays over points.

    Attributes:
        weights: All places of the kernel for the filters of a block.
        stage: Rows of the images of one tile.
        behind: Read behind the last row, for pixels that do not exist.
        shared: All of it, with alignment and barriers.
    """

    weights: Grid
    stage: Grid
    behind: int
    shared: Grid


def windows_arena(problem: Convolution, values: Mapping[str, Grid]) -> WindowsArena:
    """See :class:`WindowsArena`; values are those of the knobs, by name."""
    weights = _aligned(
        problem.places * values["tile_column"] * problem.channels * 2, WEIGHTS_ALIGNMENT
    )
    row_bytes = row_pieces(problem) * PIECE_BYTES
    stage = _aligned(image_rows(problem, values["box_height"]) * row_bytes, BOX_ALIGNMENT)
    reach = (row_parts(problem) * WARPGROUP_ROWS - 1) * PIECE_BYTES + problem.channels * 2
    behind = int(_aligned(max(0, reach - row_bytes), BARRIERS_BYTES))
    barriers = BARRIERS_BYTES * (values["stages"] + 1)
    held = weights + values["stages"] * stage + behind + barriers
    return WindowsArena(
        weights=weights, stage=stage, behind=behind, shared=held + WEIGHTS_ALIGNMENT
    )


def _aligned(n_bytes: Grid, alignment: int) -> Grid:
    return ceil_div(n_bytes, alignment) * alignment
