"""The device code of masks on a CPU: blocks found, and pairs attended by a schedule's tiles."""

from __future__ import annotations

import ctypes
from math import prod
from pathlib import Path

import numpy as np

from schedules.attention_hopper import HopperSchedule
from schedules.cuda_kernel import device_code
from schedules.masked_attention_cuda import find_launch, tiles_pattern
from schedules.masked_problem import MaskedProblem
from tests.schedules.host_library import host_library

EMULATION = (Path(__file__).parent / "mask_emulation.hpp").read_text()
FIND = """
extern "C" void find(const tiles::mask_t* mask, const tiles::length_t* lengths, const int* starts,
                     int* index, int* rest, int columns, int rows, int planes) {
  for (int z = 0; z < planes; ++z)
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < columns; ++x)
        for (int warp = 0; warp < tiles::WARPS; ++warp)
          run_warp(warp, {x, y, z}, [=] { tiles::find({mask, lengths, starts}, index, rest); });
}
"""
# seen[head][row][key] counts how often a pair is attended, loads[head][tile] the blocks loaded.
WALK = """
using namespace attention;
static Plan plan;
static void attend(const Work& work, const Tile& tile, const Walk& walk, int step, int* seen) {
  for (int thread = 0; thread < 128 * WARPGROUPS; ++thread) {
    threadIdx.x = 128 + thread;
    int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
    Note note(work, tile, step, 0, row);
    float s[BN / 2] = {};
    note.mask(s, tile, step, 0, 0, column);
    for (int i = 0; i < BN / 2; ++i) {
      int at = i / 4 * 8 + column + i % 2, own = tile.row + row + i / 2 % 2 * 8;
      int key = walk.key(at / 64) + at % 64;
      if (s[i] == 0 && own < QUERIES)
        ++seen[((long long)tile.head * QUERIES + own) * (KEY_BLOCKS + 1) * GRAIN + key];
    }
  }
  threadIdx.x = 0;
}
extern "C" void walk(const int* index, const int* patterns, int n_blocks, int* seen, int* loads) {
  gridDim.x = n_blocks;
  for (int block = 0; block < n_blocks; ++block)
    run_warp(0, {block, 0, 0}, [=] {
      Sources sources{index, patterns, nullptr, nullptr};
      for (Work work(&plan, sources); work.some(); work.next()) {
        Tile tile = work.tile();
        Walk walk(work, tile);
        for (int step = 0; walk.some(step); ++step) {
          walk.take(step, 0);
          if (threadIdx.x != 0) continue;
          attend(work, tile, walk, step, seen);
          for (int part = 0; part < PARTS; ++part)
            loads[tile.head * QUERY_TILES + tile.row / BM] += walk.key(part) < KEYS;
        }
      }
    });
}
"""


def found_blocks(
    problem: MaskedProblem,
    folder: Path,
    *,
    mask: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    starts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Index, and patterns or ranges, as the device finds them; zeros where it writes nothing."""
    source = find_launch(problem).source.split("__device__ __forceinline__ void find_tiles(")[0]
    library = host_library(EMULATION + source + FIND, folder)
    index = np.zeros(problem.index_shape, np.int32)
    rest = np.zeros(problem.patterns_shape, np.int32)
    pointers = [_pointer(x) for x in (mask, lengths, starts, index, rest)]
    library.find(*pointers, *find_launch(problem).grid)
    return index, rest


def attended_pairs(
    problem: MaskedProblem,
    schedule: HopperSchedule,
    blocks: tuple[np.ndarray, np.ndarray],
    folder: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """How often pairs are attended, (heads, rows, keys); blocks loaded, (heads, query tiles)."""
    plain, pattern = problem.plain, tiles_pattern(problem, schedule)
    heads = plain.batch * plain.heads
    constants = {
        "BM": schedule.query_tile,
        "BN": schedule.key_tile,
        "STAGES": 1,
        "WARPGROUPS": schedule.warpgroups,
        "QUERIES": plain.queries,
        "KEYS": plain.keys,
        "HEADS": plain.heads,
        "BATCH_HEADS": heads,
        "VALUE_WIDTH": plain.value_part,
        "VALUE_PARTS": plain.value_parts,
        **pattern.constants,
    }
    text = "\n".join(f"constexpr int {name} = {value};" for name, value in constants.items())
    front = f"{text}\nconstexpr float SCALE_LOG2 = 1;\ntypedef half element;\n{pattern.tables}"
    code = f"namespace attention {{ {front} }}\n{device_code('attention_tiles.cuh')}\n{WALK}"
    n_columns = 64 * (-(-plain.keys // 64) + 1)
    seen = np.zeros((heads, plain.queries, n_columns), np.int32)
    loads = np.zeros((heads, -(-plain.queries // schedule.query_tile)), np.int32)
    index, patterns = (np.ascontiguousarray(x) for x in blocks)
    pointers = [_pointer(x) for x in (index, patterns, seen, loads)]
    n_blocks = min(schedule.blocks, 5)
    host_library(EMULATION + code, folder).walk(*pointers[:2], n_blocks, *pointers[2:])
    assert (seen[:, :, plain.keys :] == 0).all()
    assert prod(index.shape) == prod(problem.index_shape)
    return seen[:, :, : plain.keys], loads


def _pointer(array: np.ndarray | None) -> ctypes.c_void_p:
    return ctypes.c_void_p() if array is None else array.ctypes.data_as(ctypes.c_void_p)
