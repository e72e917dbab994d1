"""Tile sizes for GPU sketches that a block can launch.

Factors drawn one loop at a time seldom fit together: nineteen of twenty random tilings
ask for too many threads or registers, and each costs a whole replay to refuse. Here all
loops of one nest are drawn together and only fitting ones are replayed. The tiling is
``SSSRRSRS``: a spatial loop is split into two outer factors, threads and two inner ones; a
reduction loop into three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        most_staged: Operand elements (or tiles) that a block stages in shared memory, as a
            matrix product would: the sum of its spatial sides times its depth.
    """

    fewest_threads: int
    most_threads: int
    most_virtual: int | None
    most_results: int
    most_staged: int


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
    tiles = [_draw_factors(extent, n, rng) for extent, n in zip(extents, parts, strict=True)]
    fitting = np.flatnonzero(_fits(tiles, extents, innermost, limits))
    if not len(fitting):
        return None
    return [[int(factor) for factor in tile[fitting[0]]] for tile in tiles]


def _draw_factors(extent: int, n_parts: int, rng: np.random.Generator) -> np.ndarray:
    """Every prime of the extent goes to a random part: shape (N_TRIES, n_parts), int64."""
    primes = np.array(_primes(extent), dtype=np.int64)
    places = rng.integers(n_parts, size=(N_TRIES, len(primes)))
    chosen = places[:, None, :] == np.arange(n_parts)[None, :, None]
    factors: np.ndarray = np.where(chosen, primes, 1).prod(axis=2)
    return factors


def _fits(
    tiles: list[np.ndarray],
    extents: Sequence[int],
    innermost: Sequence[int],
    limits: TileLimits,
) -> np.ndarray:
    """Which of the tries fit, shape (N_TRIES,)."""
    spatial = [tile for tile in tiles if tile.shape[1] == SPATIAL_PARTS]
    sizes = [e for e, tile in zip(extents, tiles, strict=True) if tile.shape[1] == SPATIAL_PARTS]
    fits = np.ones(N_TRIES, dtype=bool)
    for tile, limit in zip(tiles, innermost, strict=True):
        fits &= tile[:, -1] <= limit
    n_results = _product(tile[:, INNER] * tile[:, INNERMOST] for tile in spatial)
    if limits.most_virtual is not None:
        n_virtual = _product(tile[:, SECOND] for tile in spatial)
        fits &= n_virtual <= limits.most_virtual
        n_results = n_results * n_virtual
    first_inside = THREAD if limits.most_virtual is None else SECOND
    depth = _product(tile[:, 1:].prod(axis=1) for tile in tiles if tile.shape[1] != SPATIAL_PARTS)
    width = np.sum([tile[:, first_inside:].prod(axis=1) for tile in spatial], axis=0)
    fits &= depth * width <= limits.most_staged
    n_threads = _product(tile[:, THREAD] for tile in spatial)
    fewest = min(limits.fewest_threads, prod(sizes))
    fits &= (fewest <= n_threads) & (n_threads <= limits.most_threads)
    return np.asarray(fits & (n_results <= limits.most_results))


def _product(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Elementwise product; ones for no columns."""
    result = np.ones(N_TRIES, dtype=np.int64)
    for column in columns:
        result = result * column
    return result


def _primes(number: int) -> list[int]:
    found = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found
