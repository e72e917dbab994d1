"""Runs the tiles and masks of head-wise attention on the CPU."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from schedules.cuda_kernel import device_code
from schedules.headwise_attention import HeadwiseSpace, headwise_pattern
from tests.schedules.host_library import host_library

HARNESS = """
#include <cmath>
#include <algorithm>
using std::min; using std::max;
#define __device__
#define __forceinline__ inline
struct uint4 { unsigned x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float __int_as_float(unsigned) { return -INFINITY; }
static void __syncwarp() {}
static struct { int x; } blockIdx, gridDim, threadIdx;
namespace hopper {}
namespace attention { typedef unsigned short element; CONSTANTS }
CODE
using namespace attention;
// seen[head][row][key] counts how often a pair is attended; stored[head][row] counts row stores;
// steps[block] the key steps of a block.
extern "C" void walk(const int* modes, int n_blocks, int* seen, int* stored, int* steps) {
  static Plan plan;
  Sources sources{modes, nullptr};
  for (int lane = 0; lane < 32; ++lane) plan.read(sources, lane);
  for (int lane = 0; lane < 32; ++lane) plan.rank(lane);
  gridDim.x = n_blocks;
  for (blockIdx.x = 0; blockIdx.x < n_blocks; ++blockIdx.x) {
    for (Work work(&plan, sources); work.some(); work.next()) {
      Tile tile = work.tile();
      steps[blockIdx.x] += tile.count;
      for (int row = tile.row; row < min(tile.row + BM, QUERIES); ++row)
        ++stored[tile.head * QUERIES + row];
      for (int step = 0; step < tile.count; ++step)
        for (int group = 0; group < WARPGROUPS; ++group) {
          Rule rule(tile, step, tile.row + 64 * group);
          for (int column = 0; column < 8; column += 2) {
            float s[BN / 2] = {};
            if (rule.needed()) rule.apply(s, 0, column);
            for (int i = 0; i < BN / 2; ++i) {
              int key = tile.key(step) + column + i / 4 * 8 + i % 2;
              if (s[i] != 0 || key >= KEYS || i % 4 >= 2) continue;
              int first = tile.row + 64 * group;
              for (int row = first; row < min(first + 64, QUERIES); ++row)
                ++seen[((long long)tile.head * QUERIES + row) * KEYS + key];
            }
          }
        }
    }
  }
}
"""


def walk(space: HeadwiseSpace, values: Any, n_blocks: int, folder: Path) -> Any:
    """Pairs, rows and steps that the device's tiles and masks amount to, by the device's code."""
    problem, schedule = space._headwise, space.schedule(values)
    dense = problem.dense
    constants = {
        "BM": schedule.query_tile,
        "BN": schedule.key_tile,
        "WARPGROUPS": schedule.warpgroups,
        "CLUSTER": schedule.cluster,
        "QUERIES": dense.queries,
        "KEYS": dense.keys,
        "HEADS": dense.heads,
        "BATCH_HEADS": dense.batch * dense.heads,
        "VALUE_WIDTH": dense.value_width,
        **headwise_pattern(problem).constants,
    }
    text = " ".join(f"constexpr int {name} = {value};" for name, value in constants.items())
    code = HARNESS.replace("CONSTANTS", text).replace("CODE", device_code("attention_headwise.cuh"))
    library = host_library(code, folder, "-O1")
    heads = dense.batch * dense.heads
    seen = np.zeros((heads, dense.queries, dense.keys), np.int32)
    stored = np.zeros((heads, dense.queries), np.int32)
    steps = np.zeros(n_blocks, np.int32)
    modes = np.array(problem.modes, np.int32)
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (modes, seen, stored, steps)]
    library.walk(pointers[0], n_blocks, *pointers[1:])
    return seen, stored, steps
