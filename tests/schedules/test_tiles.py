"""Drawn tile sizes multiply to their extents and fit their limits."""

from __future__ import annotations

from math import prod

import numpy as np

from schedules.tiles import TileLimits, draw_tiles

PLAIN = TileLimits(
    fewest_threads=32, most_threads=1024, most_virtual=8, most_results=128, most_staged=12288
)


def test_drawn_tiles_fit() -> None:
    rng = np.random.default_rng(0)
    drawn = [
        draw_tiles([512, 768, 96], [5, 5, 3], [64, 64, 64], limits=PLAIN, rng=rng)
        for _ in range(100)
    ]
    fitting = [tiles for tiles in drawn if tiles is not None]
    assert len(fitting) > 90
    for tiles in fitting:
        assert [prod(tile) for tile in tiles] == [512, 768, 96]
        rows, columns, _ = tiles
        assert 32 <= rows[2] * columns[2] <= 1024
        assert rows[1] * columns[1] <= 8
        assert prod(rows[1:2] + rows[3:] + columns[1:2] + columns[3:]) <= 128


def test_small_loops_need_not_fill_a_warp() -> None:
    tiles = draw_tiles([3], [5], [64], limits=PLAIN, rng=np.random.default_rng(0))
    assert tiles is not None
    assert prod(tiles[0]) == 3


def test_impossible_limits_give_none() -> None:
    prime = 65537
    assert draw_tiles([prime], [5], [64], limits=PLAIN, rng=np.random.default_rng(0)) is None


def test_staged_tiles_are_bounded() -> None:
    limits = TileLimits(
        fewest_threads=1, most_threads=16, most_virtual=None, most_results=32, most_staged=40
    )
    rng = np.random.default_rng(1)
    for _ in range(50):
        tiles = draw_tiles([64, 64, 64], [5, 5, 3], [4, 4, 4], limits=limits, rng=rng)
        if tiles is not None:
            rows, columns, depth = tiles
            assert (prod(rows[2:]) + prod(columns[2:])) * prod(depth[1:]) <= 40
