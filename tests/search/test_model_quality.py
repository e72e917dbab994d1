"""What is said of energy models rests on predictions stored before measuring."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.model_quality import model_quality
from search.trial import EnergyMeasurement, Verdict
from tests.search.makers import energy, history_of, taken


def test_every_number_uses_only_what_was_known_before() -> None:
    history = history_of(*[100.0 + i for i in range(9)])
    # Round 0: the default at 0.2 mJ per us. Round 1: eight candidates at 0.1.
    history.add_energy(taken(1, energy(20.0)))
    for i in range(2, 10):
        measured = 10.0 + 0.1 * (i - 1)
        plan = {"predicted_mj": measured + 0.05, "spread_mj": 0.1}
        history.add_energy(replace(taken(i, energy(measured), **plan), round_index=1))
    model, constant = model_quality([history], model="power")
    assert (model.model, constant.model) == ("power", "constant")
    assert model.n_predictions == constant.n_predictions == 8
    assert model.spearman == pytest.approx(1.0)
    assert model.coverage == 1.0
    # Constant power knows the default alone and predicts twice what comes.
    assert constant.mape == pytest.approx(1.0)
    assert constant.coverage is None


def test_unusable_measurements_and_runs_without_predictions_say_nothing() -> None:
    history = history_of(100.0, 101.0)
    lost = EnergyMeasurement(energy_mj=None, meter="none", verdict=Verdict.METER_LOST)
    history.add_energy(taken(2, lost, predicted_mj=1.0))
    assert [one.n_predictions for one in model_quality([history], model="power")] == [0, 0]
