"""CUDA text and launches of one convolution on Hopper: from decisions to a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from schedules.contraction import Side
from schedules.conv_layout import (
    SUM_PADDING,
    ConvSchedule,
    arena,
    n_steps,
    n_tiles,
    unit_channels,
)
from schedules.convolution import Convolution, Direction
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.judged_space import ceil_div
from schedules.matmul_cuda import COPIER_AND_MULTIPLIER_REGISTERS, K_STEP, WARPGROUP
from schedules.product_ending import parameters, partial_sums, product_launches
from schedules.wgmma import wgmma_shared
from schedules.workload import Workload

HEADERS = (
    *("hopper.cuh", "early_launch.cuh", "ampere.cuh", "product_ending.cuh"),
    *("conv.cuh", "conv_halo.cuh", "conv_ending.cuh"),
)
REGISTERS = {
    **COPIER_AND_MULTIPLIER_REGISTERS,
    (1, 3): (24, 136),
    (1, 4): (24, 104),
    (2, 2): (24, 104),
}
"""Of copying and multiplying threads, by multiplying warpgroups and blocks per multiprocessor."""


def conv_cuda(workload: Workload, problem: Convolution, schedule: ConvSchedule) -> Any:
    """The ``PrimFunc``: one launch, or two if a second one adds the parts of the sums."""
    split = partial_sums(problem.product, schedule.splits)
    return cuda_program(workload, launches(problem, schedule), workspaces=split)


def launches(problem: Convolution, schedule: ConvSchedule) -> list[CudaLaunch]:
    """See :func:`conv_cuda`."""
    return product_launches(
        problem.product, schedule.splits, partial(_convolution, problem, schedule), early=True
    )


def _convolution(
    problem: Convolution, schedule: ConvSchedule, ending: str, sides: list[Side]
) -> CudaLaunch:
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    constants = _constants(problem, schedule)
    source = (
        f"{ending}\n{config_text(problem, schedule.tile_column, constants)}\n"
        f"__device__ __forceinline__ void convolution({parameters(sides)}, "
        f"const CUtensorMap& a, const CUtensorMap& b, unsigned char* raw) {{\n"
        f"  effcompile_conv::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    tiles = int(n_tiles(problem, asdict(schedule)))
    return CudaLaunch(
        function="convolution",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(
            *(side.buffer for side in sides),
            _images_map(problem, schedule),
            _weights_map(problem, schedule),
        ),
        grid=(tiles * schedule.splits * schedule.cluster,),
        block=(WARPGROUP * (schedule.multipliers + 1),),
        shared_bytes=int(arena(problem, asdict(schedule)).shared_bytes),
        min_blocks=schedule.blocks_per_core,
        early=True,
        cluster=schedule.cluster,
    )


def _images_map(problem: Convolution, schedule: ConvSchedule) -> TensorMap:
    """Channels, x, y, image; the stride is the box's step."""
    height, width, channels = problem.height, problem.width, problem.channels
    unit = unit_channels(channels)
    return TensorMap(
        buffer=problem.product.a.buffer,
        shape=(channels, width.extent, height.extent, problem.images),
        strides_bytes=(
            2 * problem.pixel_step,
            2 * problem.line_step,
            2 * problem.line_step * height.extent,
        ),
        box=(
            unit,
            _span(schedule.box_width, width, halo=schedule.halo),
            _span(schedule.box_height, height, halo=schedule.halo),
            schedule.box_images,
        ),
        steps=(1, _step(schedule.box_width, width), _step(schedule.box_height, height), 1),
        swizzle_bytes=_swizzle(unit),
    )


def _span(box: int, direction: Direction, *, halo: int) -> int:
    """Pixels of the images from the first to the last one that is copied."""
    reach = halo * (direction.kernel - 1) * direction.dilation
    return (box - 1) * direction.stride + 1 + reach


def _step(box: int, direction: Direction) -> int:
    return direction.stride if box > 1 else 1


def _weights_map(problem: Convolution, schedule: ConvSchedule) -> TensorMap:
    """Channels, place of the kernel, filter."""
    channels, unit = problem.channels, unit_channels(problem.channels)
    return TensorMap(
        buffer=problem.product.b.buffer,
        shape=(channels, problem.places, problem.filters),
        strides_bytes=(2 * channels, 2 * channels * problem.places),
        box=(unit, 1, schedule.tile_column),
        swizzle_bytes=_swizzle(unit),
    )


def _swizzle(unit: int) -> int:
    return 2 * unit if unit > 8 else 0


def _constants(problem: Convolution, schedule: ConvSchedule) -> dict[str, int]:
    height, width, unit = problem.height, problem.width, unit_channels(problem.channels)
    box = (schedule.box_images, schedule.box_height, schedule.box_width)
    held = arena(problem, asdict(schedule))
    channel_steps = ceil_div(problem.channels, unit)
    copier, multiplier = REGISTERS[schedule.multipliers, schedule.blocks_per_core]
    return {
        "IMAGES": problem.images,
        "HEIGHT": height.out,
        "WIDTH": width.out,
        "COLUMNS": problem.filters,
        "STRIDE_Y": height.stride,
        "STRIDE_X": width.stride,
        "DILATION_Y": height.dilation,
        "DILATION_X": width.dilation,
        "PADDING_Y": height.padding,
        "PADDING_X": width.padding,
        "KERNEL_X": width.kernel,
        "CHANNELS": unit,
        "CHANNEL_STEPS": channel_steps,
        "UNITS": problem.places * channel_steps,
        "PER_STAGE": K_STEP // unit,
        "LINE": 2 * unit,
        "PLACES": problem.places,
        "STEPS": n_steps(problem),
        "STEPS_PER_PART": int(held.steps),
        "BOX_IMAGES": box[0],
        "BOX_HEIGHT": box[1],
        "BOX_WIDTH": box[2],
        "ROW_LINE": held.row_line,
        "ROW_IMAGE": held.row_image,
        "TILE_ROW": held.rows,
        "TILE_COLUMN": schedule.tile_column,
        "TILES_IMAGE": ceil_div(problem.images, box[0]),
        "TILES_HEIGHT": ceil_div(height.out, box[1]),
        "TILES_WIDTH": ceil_div(width.out, box[2]),
        "TILES_COLUMN": ceil_div(problem.filters, schedule.tile_column),
        "COLUMNS_FIRST": schedule.columns_first,
        "SPLITS": schedule.splits,
        "CLUSTER": schedule.cluster,
        "STAGES": schedule.stages,
        "STAGE_BYTES": held.stage_bytes,
        "COPIED_BYTES": (held.copied_lines + schedule.tile_column) * K_STEP * 2,
        "BOX_STAGES": held.box_stages,
        "BOX_STAGE_BYTES": held.box_stage_bytes,
        "BOX_BYTES": held.copied_lines * K_STEP * 2,
        "ARENA_BYTES": held.arena_bytes,
        "SUM_LINE": schedule.tile_column + SUM_PADDING,
        "MULTIPLIERS": schedule.multipliers,
        "COPIER_REGISTERS": copier,
        "MULTIPLIER_REGISTERS": multiplier,
    }


def config_text(problem: Convolution, columns: int, constants: Mapping[str, int]) -> str:
    """``struct Config``: numbers, and the instruction that multiplies so many filters."""
    return "\n".join(
        [
            wgmma_shared("multiply_terms", n=columns, dtype=problem.product.dtype),
            "struct Config {",
            *(f"  static constexpr int {name} = {value};" for name, value in constants.items()),
            "  static __device__ __forceinline__ void multiply(",
            f"      float (&d)[{columns // 2}], hopper::u64 a, hopper::u64 b, int keep) {{",
            "    multiply_terms(d, a, b, keep);",
            "  }",
            "};",
        ]
    )
