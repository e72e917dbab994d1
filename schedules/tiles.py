"""Tile sizes for GPU sketches that a block can launch.

Factors drawn one loop at a time seldom fit together: nineteen of twenty random tilings
ask for too many threads or registers, and each costs a whole replay to refuse. Here all
loops of one nest are drawn together and only fitting ones are replayed. The tiling is
``SSSRRSRS``: a spatial loop is split into block, virtual thread, thread and two inner
factors; a reduction loop into three.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

SPATIAL_PARTS = 5
VTHREAD, THREAD, INNER, INNERMOST = 1, 2, 3, 4
MOST_VTHREADS = 8
MOST_RESULTS_PER_THREAD = 128
N_TRIES = 64


def draw_tiles(
    extents: Sequence[int],
    parts: Sequence[int],
    innermost: Sequence[int],
    *,
    threads: tuple[int, int],
    rng: np.random.Generator,
) -> list[list[int]] | None:
    """Factors for every loop of one nest, ``None`` if no fitting ones were found.

    Args:
        extents: Loop extents.
        parts: Into how many factors each is split.
        innermost: Largest last factor of each.
        threads: Fewest and most threads of a block.
        rng: Source of the draw.
    """
    fewest = min(threads[0], prod(e for e, p in zip(extents, parts, strict=True) if p == 5))
    for _ in range(N_TRIES):
        tiles = [_factors(extent, n, rng) for extent, n in zip(extents, parts, strict=True)]
        if _fits(tiles, innermost, fewest, threads[1]):
            return tiles
    return None


def _fits(tiles: list[list[int]], innermost: Sequence[int], fewest: int, most: int) -> bool:
    if any(tile[-1] > limit for tile, limit in zip(tiles, innermost, strict=True)):
        return False
    spatial = [tile for tile in tiles if len(tile) == SPATIAL_PARTS]
    n_threads = prod(tile[THREAD] for tile in spatial)
    n_vthreads = prod(tile[VTHREAD] for tile in spatial)
    n_results = n_vthreads * prod(tile[INNER] * tile[INNERMOST] for tile in spatial)
    return (
        fewest <= n_threads <= most
        and n_vthreads <= MOST_VTHREADS
        and n_results <= MOST_RESULTS_PER_THREAD
    )


def _factors(extent: int, n_parts: int, rng: np.random.Generator) -> list[int]:
    factors = [1] * n_parts
    for prime in _primes(extent):
        factors[int(rng.integers(n_parts))] *= prime
    return factors


def _primes(number: int) -> list[int]:
    found = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found
