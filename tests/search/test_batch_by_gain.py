"""Batches chosen by expected hypervolume gain."""

from __future__ import annotations

import numpy as np

from search.config import SearchConfig
from search.evolutionary import Evolutionary, by_expected_gain
from search.strategy import Ranking
from tests.doubles import SimulatedSpace
from tests.search.makers import energy, history_of, taken
from tests.search.test_local_search import history_at
from tests.search.test_strategies import Oracle


def ranking(*points: tuple[float, float]) -> Ranking:
    """Exact predictions of (latency over 100 us, energy)."""
    slowdown, energies = np.array(points).T
    return Ranking(
        log_slowdown=np.log2(slowdown),
        log_spread=np.zeros(len(points)),
        energy_mj=energies,
        energy_spread_mj=np.zeros(len(points)),
    )


def test_what_widens_the_front_most_comes_first_and_the_rest_is_left() -> None:
    history = history_of(100.0)
    history.add_energy(taken(1, energy(20.0)))
    candidates = ranking((1.05, 19.0), (1.0, 15.0), (1.0, 25.0), (1.5, 1.0), (0.95, 18.0))
    # Up to 110 us and 20 mJ: 5 x 1, 10 x 5, nothing, too slow, and 15 x 2 of which 5 x 2
    # remain beside the second, which leaves nothing to the first.
    found = by_expected_gain(history, candidates, 5, band=0.1, rng=np.random.default_rng(0))
    assert found == [1, 4]


def test_nothing_is_chosen_before_energies_are_known() -> None:
    rng = np.random.default_rng(0)
    assert by_expected_gain(history_of(100.0), ranking((1.0, 1.0)), 3, band=0.1, rng=rng) == []
    known = history_of(100.0)
    known.add_energy(taken(1, energy(20.0)))
    blind = Ranking(log_slowdown=np.zeros(1))
    assert by_expected_gain(known, blind, 3, band=0.1, rng=rng) == []


def test_a_batch_by_gain_is_full_and_distinct() -> None:
    config = SearchConfig(population=48, batch_by="hypervolume")
    history = history_at((3, 5, 3, 5, 3, 5), (3, 2, 3, 5, 3, 5), (0, 0, 0, 0, 0, 0))
    found = Evolutionary(config).propose(
        history, SimulatedSpace(), 16, ranker=Oracle(), rng=np.random.default_rng(0)
    )
    assert len({one.candidate.candidate_id for one in found}) == 16
