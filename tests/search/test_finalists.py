"""Who is measured again before one may win."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.config import SearchConfig
from search.finalists import pick_finalists
from search.history import TaskHistory
from tests.search.makers import energy, history_of, taken

CONFIG = SearchConfig(n_finalists=4, max_slowdown=0.05)


def history() -> TaskHistory:
    """The default and six binaries within the limit; 2, 3 and 4 have energies."""
    found = history_of(200.0, 100.0, 101.0, 102.0, 103.0, 104.0, 104.5)
    for trial_id, value in ((2, 20.0), (3, 21.0), (4, 22.0)):
        found.add_energy(taken(trial_id, energy(value)))
    return found


def ids(expected_mj: dict[int, float]) -> list[int]:
    return [trial.trial_id for trial in pick_finalists(history(), CONFIG, expected_mj)]


def test_without_predictions_measured_energies_come_first() -> None:
    assert ids({}) == [2, 3, 4, 5]


def test_low_predictions_get_at_most_half_of_the_places() -> None:
    assert ids({5: 1.0, 6: 2.0, 7: 3.0}) == [2, 3, 5, 6]


def test_high_predictions_displace_nobody() -> None:
    assert ids({5: 99.0, 6: 98.0}) == [2, 3, 4, 6]


@pytest.mark.parametrize("expected_mj", [{}, {6: 1.0, 7: 2.0}])
@pytest.mark.parametrize(("n_finalists", "has_place"), [(1, False), (2, True), (3, True)])
def test_the_fastest_has_a_place_however_hungry_one_window_calls_it(
    expected_mj: dict[int, float], n_finalists: int, *, has_place: bool
) -> None:
    found = history()
    found.add_energy(taken(2, energy(50.0)))
    config = replace(CONFIG, n_finalists=n_finalists)
    chosen = [one.trial_id for one in pick_finalists(found, config, expected_mj)]
    assert chosen[0] == 3
    assert (2 in chosen) == has_place
    assert len(chosen) == n_finalists
