"""Which candidates are expected to push the latency-energy front out furthest.

        energy
          |  +-------------------- reference
          |  |######
          |  o##########          # area that a new point x adds below the front o
          |        x####
          |           o####
          +------------------------ latency

What a candidate will measure is uncertain: the gain is the mean over draws from the
models' errors. Candidates are taken one after the other, each against a front that holds
the draws of those before it, so a batch does not buy the same improvement twice.
"""

from __future__ import annotations

import numpy as np

N_DRAWS = 16


def pick_by_gain(
    latency: np.ndarray,
    energy: np.ndarray,
    front: np.ndarray,
    reference: tuple[float, float],
    n: int,
) -> list[int]:
    """Indices of at most ``n`` candidates by expected gain, the largest first.

    Stops early when nobody is expected to add anything.

    Args:
        latency: Draws of each candidate's latency, shape (n_draws, n_candidates).
        energy: Draws of its energy, same shape.
        front: Known points, latency and energy, shape (n_points, 2).
        reference: Latency and energy beyond which nothing counts.
        n: Candidates wanted.
    """
    fronts = [staircase(front, reference) for _ in latency]
    picked: list[int] = []
    while len(picked) < n:
        gains = np.mean(
            [
                gain_of(stairs, reference[0], *draw)
                for stairs, *draw in zip(fronts, latency, energy, strict=True)
            ],
            axis=0,
        )
        gains[picked] = -1.0
        best = int(np.argmax(gains))
        if gains[best] <= 0.0:
            break
        picked.append(best)
        fronts = [
            staircase(np.vstack([stairs[1:], [latency[i, best], energy[i, best]]]), reference)
            for i, stairs in enumerate(fronts)
        ]
    return picked


def staircase(points: np.ndarray, reference: tuple[float, float]) -> np.ndarray:
    """Steps of the front inside the reference, shape (n_steps + 1, 2).

    Each row says from which latency on which energy is reached; the first is the
    reference's energy from minus infinity on.
    """
    steps = [(-np.inf, reference[1])]
    for latency, energy in sorted(map(tuple, points)):
        if latency < reference[0] and energy < steps[-1][1]:
            steps.append((latency, energy))
    return np.array(steps, dtype=np.float64)


def gain_of(
    stairs: np.ndarray, last_latency: float, latency: np.ndarray, energy: np.ndarray
) -> np.ndarray:
    """Area that each point, shape (n,), adds below a staircase up to a last latency."""
    edges = np.append(stairs[:, 0], last_latency)
    starts = np.maximum(edges[None, :-1], latency[:, None])
    widths = np.maximum(0.0, edges[None, 1:] - starts)
    heights = np.maximum(0.0, stairs[None, :, 1] - energy[:, None])
    return np.asarray((widths * heights).sum(axis=1))
