"""Masks of attention as blocks: they hold every pair, and little else."""

from __future__ import annotations

import numpy as np
import pytest

from schedules.mask_tiles import coarse_tiles, frame_tiles, mask_text, mask_tiles, tiles_of_text
from tests.schedules.masked_workloads import MASKS, dense, frames, sliding


@pytest.mark.parametrize("name", MASKS)
def test_blocks_hold_the_mask(name: str) -> None:
    mask = MASKS[name]
    tiles = mask_tiles(mask)
    np.testing.assert_array_equal(dense(tiles, *mask.shape[2:]), mask)
    text = mask_text(tiles)
    again = tiles_of_text(text, tiles.index.shape, tiles.patterns.shape)
    np.testing.assert_array_equal(again.index, tiles.index)
    np.testing.assert_array_equal(again.patterns, tiles.patterns)


def test_equal_blocks_share_a_pattern() -> None:
    tiles = mask_tiles(sliding(64 * 20, 64))
    assert len(tiles.patterns) == 4
    assert (tiles.index > 0).sum() == 3 * 20 - 2 and (tiles.index > 1).sum() == 2 * 19


def test_frames_need_no_dense_mask() -> None:
    lengths = [100, 28, 300, 64]
    for n_queries in (492, 200):
        wanted = mask_tiles(frames(lengths)[:, :, -n_queries:])
        found = frame_tiles(lengths, n_queries)
        np.testing.assert_array_equal(dense(found, n_queries, 492), dense(wanted, n_queries, 492))


def test_of_17_frames_47_percent_are_never_loaded() -> None:
    tiles = frame_tiles([1024] * 17, 17 * 1024)
    assert (tiles.index > 0).sum() * 2 * 17 == tiles.index.size * 18 and tiles.index.max() == 1
    assert len(mask_text(tiles)) < 4096


def test_coarse_blocks_end_with_the_keys() -> None:
    live = np.random.default_rng(0).random((1, 2, 2, 3)) < 0.5
    tiles = coarse_tiles(live, 200, 300, block=128)
    wanted = live.repeat(128, axis=2).repeat(128, axis=3)[:, :, :200, :300]
    np.testing.assert_array_equal(dense(tiles, 200, 300), wanted)
