"""Tile sizes for GPU sketches that a block can launch.

Factors drawn one loop at a time seldom fit together: nineteen of twenty random tilings
ask for too many threads or registers, and each costs a whole replay to refuse. Here all
loops of one nest are drawn together and only fitting ones are replayed. The tiling is
``SSSRRSRS``: a spatial loop is split into two outer factors, threads and two inner ones; a
reduction loop into three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

SPATIAL_PARTS = 5
SECOND, THREAD, INNER, INNERMOST = 1, 2, 3, 4
N_TRIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLimits:
    """What the spatial factors of one nest may multiply to.

    Attributes:
        fewest_threads: Of the thread factors, where the loops have that many steps.
        most_threads: Of the thread factors: threads, or warps where they are tensorised.
        most_virtual: Of the second outer factors where those are virtual threads, which
            multiply what a thread holds; ``None`` where they are a second grid axis.
        most_results: Results held by one thread, or tensor tiles held by one warp.
        most_staged_tiles: Operand tiles that a block stages in static shared memory;
            ``None`` where a later check counts bytes.
    """

    fewest_threads: int
    most_threads: int
    most_virtual: int | None
    most_results: int
    most_staged_tiles: int | None = None


def draw_tiles(
    extents: Sequence[int],
    parts: Sequence[int],
    innermost: Sequence[int],
    *,
    limits: TileLimits,
    rng: np.random.Generator,
) -> list[list[int]] | None:
    """Factors for every loop of one nest, ``None`` if no fitting ones were found.

    Args:
        extents: Loop extents.
        parts: Into how many factors each is split.
        innermost: Largest last factor of each.
        limits: What fits together.
        rng: Source of the draw.
    """
    pairs = list(zip(extents, parts, strict=True))
    n_results = prod(extent for extent, n in pairs if n == SPATIAL_PARTS)
    for _ in range(N_TRIES):
        tiles = [_factors(extent, n, rng) for extent, n in pairs]
        if _fits(tiles, innermost, limits, min(limits.fewest_threads, n_results)):
            return tiles
    return None


def _fits(
    tiles: list[list[int]], innermost: Sequence[int], limits: TileLimits, fewest: int
) -> bool:
    if any(tile[-1] > limit for tile, limit in zip(tiles, innermost, strict=True)):
        return False
    spatial = [tile for tile in tiles if len(tile) == SPATIAL_PARTS]
    n_results = prod(tile[INNER] * tile[INNERMOST] for tile in spatial)
    if limits.most_virtual is not None:
        n_virtual = prod(tile[SECOND] for tile in spatial)
        if n_virtual > limits.most_virtual:
            return False
        n_results *= n_virtual
    if limits.most_staged_tiles is not None:
        depth = prod(prod(tile[1:]) for tile in tiles if len(tile) != SPATIAL_PARTS)
        if depth * sum(prod(tile[THREAD:]) for tile in spatial) > limits.most_staged_tiles:
            return False
    n_threads = prod(tile[THREAD] for tile in spatial)
    return fewest <= n_threads <= limits.most_threads and n_results <= limits.most_results


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
