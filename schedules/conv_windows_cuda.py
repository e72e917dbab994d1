"""CUDA text and launch of a convolution of overlapping windows: from decisions to a program."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from schedules.conv_cuda import REGISTERS, config_text
from schedules.conv_problem import ALIGNED_ELEMENTS
from schedules.conv_windows_layout import (
    PIECE_BYTES,
    WindowsSchedule,
    box_pieces,
    image_rows,
    n_boxes,
    row_parts,
    row_pieces,
    windows_arena,
)
from schedules.convolution import Convolution
from schedules.cuda_kernel import CudaLaunch, TensorMap, cuda_program, device_code
from schedules.judged_space import ceil_div
from schedules.matmul_cuda import WARPGROUP
from schedules.product_ending import ending_sides, ending_text, parameters
from schedules.workload import Workload

HEADERS = (
    *("hopper.cuh", "early_launch.cuh", "quad.cuh", "product_ending.cuh", "product_store.cuh"),
    "conv_windows.cuh",
)


def windows_cuda(workload: Workload, problem: Convolution, schedule: WindowsSchedule) -> Any:
    """The ``PrimFunc``: one launch."""
    return cuda_program(workload, [launch(problem, schedule)])


def launch(problem: Convolution, schedule: WindowsSchedule) -> CudaLaunch:
    """See :func:`windows_cuda`."""
    sides = ending_sides(problem.product)
    names = ", ".join(f"p{i}" for i in range(len(sides)))
    config = config_text(problem, schedule.tile_column, _constants(problem, schedule))
    source = (
        f"{ending_text(problem.product)}\n{config}\n"
        f"__device__ __forceinline__ void convolution_of_windows({parameters(sides)}, "
        f"const CUtensorMap& a, const CUtensorMap& b, unsigned char* raw) {{\n"
        f"  effcompile_conv_windows::run<Config, Ending>(a, b, {{{names}}}, raw);\n}}\n"
    )
    return CudaLaunch(
        function="convolution_of_windows",
        source=source,
        headers=tuple(map(device_code, HEADERS)),
        arguments=(
            *(side.buffer for side in sides),
            _rows_map(problem, schedule),
            _weights_map(problem, schedule),
        ),
        grid=(schedule.n_blocks * _column_tiles(problem, schedule),),
        block=(WARPGROUP * (schedule.multipliers + 1),),
        shared_bytes=int(windows_arena(problem, asdict(schedule)).shared),
        min_blocks=schedule.blocks_per_core,
        early=True,
    )


def _column_tiles(problem: Convolution, schedule: WindowsSchedule) -> int:
    return int(ceil_div(problem.filters, schedule.tile_column))


def _rows_map(problem: Convolution, schedule: WindowsSchedule) -> TensorMap:
    """Part of a row, parts, rows, image."""
    pieces, height = box_pieces(problem), problem.height
    row_bytes = row_pieces(problem) * PIECE_BYTES
    parts = row_pieces(problem) // pieces
    return TensorMap(
        buffer=problem.product.a.buffer,
        shape=(pieces * ALIGNED_ELEMENTS, parts, height.extent, problem.images),
        strides_bytes=(pieces * PIECE_BYTES, row_bytes, row_bytes * height.extent),
        box=(pieces * ALIGNED_ELEMENTS, parts, image_rows(problem, schedule.box_height), 1),
        swizzle_bytes=0,
    )


def _weights_map(problem: Convolution, schedule: WindowsSchedule) -> TensorMap:
    """Terms under a row of the kernel, its rows, filter."""
    terms = problem.channels
    return TensorMap(
        buffer=problem.product.b.buffer,
        shape=(terms, problem.places, problem.filters),
        strides_bytes=(2 * terms, 2 * terms * problem.places),
        box=(terms, 1, schedule.tile_column),
        swizzle_bytes=2 * terms,
    )


def _constants(problem: Convolution, schedule: WindowsSchedule) -> dict[str, int]:
    height, box_height = problem.height, schedule.box_height
    held = windows_arena(problem, asdict(schedule))
    copier, multiplier = REGISTERS[schedule.multipliers, schedule.blocks_per_core]
    row_bytes = row_pieces(problem) * PIECE_BYTES
    return {
        "ROWS": problem.product.m,
        "COLUMNS": problem.filters,
        "SWAPPED": 0,
        "HEIGHT": height.out,
        "WIDTH": problem.width.out,
        "KERNEL_Y": height.kernel,
        "STRIDE_Y": height.stride,
        "DILATION_Y": height.dilation,
        "PADDING_Y": height.padding,
        "LINE": 2 * problem.channels,
        "ROW_BYTES": row_bytes,
        "ROW_PARTS": row_parts(problem),
        "BOX_HEIGHT": box_height,
        "BOXES": int(n_boxes(problem, box_height)),
        "BOXES_HEIGHT": int(ceil_div(height.out, box_height)),
        "TILE_COLUMN": schedule.tile_column,
        "TILES_COLUMN": _column_tiles(problem, schedule),
        "BLOCKS": schedule.n_blocks,
        "STAGES": schedule.stages,
        "PLACE_BYTES": schedule.tile_column * problem.channels * 2,
        "WEIGHTS_BYTES": int(held.weights),
        "STAGE_BYTES": int(held.stage),
        "COPIED_BYTES": int(image_rows(problem, box_height)) * row_bytes,
        "BEHIND_BYTES": held.behind,
        "MULTIPLIERS": schedule.multipliers,
        "COPIER_REGISTERS": copier,
        "MULTIPLIER_REGISTERS": multiplier,
    }
