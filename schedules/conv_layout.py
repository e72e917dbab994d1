"""How a convolution's program divides its work, and how tiles lie in shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schedules.convolution import Convolution
from schedules.judged_space import Grid, ceil_div
from schedules.matmul_cuda import K_STEP

ALIGNMENT = 1024
BARRIERS_BYTES = 16
SHORT_LINES = {64: 1.0, 32: 1.1, 16: 1.4, 8: 2.5}
"""About how much longer a copied byte takes, by 16-bit channels of a line."""
SUM_PADDING = 8
"""Floats behind a row of sums, so that the rows of a warp lie in different banks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSchedule:
    """Decisions of one program.

    Attributes:
        box_images: Images of a tile of pixels.
        box_height: Its rows of pixels.
        box_width: Its pixels of a row.
        tile_column: Filters of a tile, a multiple of 8.
        multipliers: Warpgroups that multiply.
        stages: Steps in flight, of 64 terms each.
        blocks_per_core: Blocks that share a multiprocessor.
        cluster: Blocks that share the terms of a tile and add their parts themselves.
        splits: Likewise, with a second launch that adds them.
        columns_first: Whether neighbouring blocks have the same pixels, rather than filters.
        halo: Whether a box of the images is copied once for all places of the kernel.
    """

    box_images: int
    box_height: int
    box_width: int
    tile_column: int
    multipliers: int
    stages: int
    blocks_per_core: int
    cluster: int
    splits: int
    columns_first: int
    halo: int


def unit_channels(channels: int) -> int:
    """Terms that are copied as one line: the empty ones weighed against the cost of short lines."""
    return min(SHORT_LINES, key=lambda unit: ceil_div(channels, unit) * unit * SHORT_LINES[unit])


def n_steps(problem: Convolution) -> int:
    """Steps of 64 terms of one sum."""
    unit = unit_channels(problem.channels)
    n_units = problem.places * -(-problem.channels // unit)
    return -(-n_units // (K_STEP // unit))


def can_keep_halo(problem: Convolution) -> bool:
    """Whether lines under any place of the kernel are neighbours: no stride, long lines."""
    plain = problem.height.stride == problem.width.stride == 1
    return plain and problem.places > 1 and unit_channels(problem.channels) == K_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """How tiles lie in shared memory; numbers, or arrays over points.

    Attributes:
        pixels: Of the output.
        row_line: Rows of the product from one row of pixels to the next.
        row_image: Rows of the product from one image to the next.
        rows: Of the product, a multiple of 64 for every warpgroup.
        steps: Of 64 terms, of one block.
        copied_lines: Of the images, with each step, or once for all places of the kernel.
        stage_bytes: Of one stage in the ring of the steps.
        box_stages: Boxes of images in the ring of their own; 0 without one.
        box_stage_bytes: Of one of these.
        arena_bytes: Stages, or the sums in their place.
        shared_bytes: That, its alignment, and two barriers for every stage.
    """

    pixels: Grid
    row_line: Grid
    row_image: Grid
    rows: Grid
    steps: Grid
    copied_lines: Grid
    stage_bytes: Grid
    box_stages: Grid
    box_stage_bytes: Grid
    arena_bytes: Grid
    shared_bytes: Grid


def arena(problem: Convolution, values: Mapping[str, Grid]) -> Arena:
    """See :class:`Arena`; values are those of the knobs, by name."""
    halo, column, stages = values["halo"], values["tile_column"], values["stages"]
    images, high, wide = (values[f"box_{one}"] for one in ("images", "height", "width"))
    reach_y, reach_x = (
        (side.kernel - 1) * side.dilation for side in (problem.height, problem.width)
    )
    row_line = wide + halo * reach_x
    row_image = row_line * (high + halo * reach_y)
    used = (images - 1) * row_image + (high - 1) * row_line + wide
    rows = ceil_div(used, 64 * values["multipliers"]) * 64 * values["multipliers"]
    parts, places = values["cluster"] * values["splits"], problem.places
    chunks = ceil_div(n_steps(problem) // places, parts)
    steps = (1 - halo) * ceil_div(n_steps(problem), parts) + halo * chunks * places
    lines = ceil_div(reach_y * row_line + reach_x + rows, 8) * 8
    box_stages = halo * (2 - (chunks == 1))
    stage_bytes = (column + (1 - halo) * rows) * K_STEP * 2
    in_stages = stages * stage_bytes + box_stages * lines * K_STEP * 2
    sums = 4 * rows * (column + SUM_PADDING)
    arena_bytes = in_stages + (sums > in_stages) * (sums - in_stages)
    return Arena(
        pixels=images * high * wide,
        row_line=row_line,
        row_image=row_image,
        rows=rows,
        steps=steps,
        copied_lines=images * row_image,
        stage_bytes=stage_bytes,
        box_stages=box_stages,
        box_stage_bytes=lines * K_STEP * 2,
        arena_bytes=arena_bytes,
        shared_bytes=arena_bytes + ALIGNMENT + BARRIERS_BYTES * (stages + box_stages),
    )


def n_tiles(problem: Convolution, values: Mapping[str, Grid]) -> Grid:
    """Tiles of pixels times tiles of filters; ``values`` are those of the knobs, by name."""
    return (
        ceil_div(problem.images, values["box_images"])
        * ceil_div(problem.height.out, values["box_height"])
        * ceil_div(problem.width.out, values["box_width"])
        * ceil_div(problem.filters, values["tile_column"])
    )
