from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from cost_models.updating import (
    RoundErrors,
    UpdatingRule,
    has_drifted,
    measured_share,
    snr_db,
    threshold_db,
)

RULE = UpdatingRule(threshold_db=10.0, least_rows=4)
MEASURED = (90.0, 95.0, 105.0, 110.0)


def errors(
    *misses: float,
    measured: tuple[float, ...] = MEASURED,
    noise: float = math.nan,
    controls: int = 0,
) -> RoundErrors:
    values = np.array(measured)
    return RoundErrors(
        measured=values,
        predicted=values + np.resize(misses, len(values)),
        noise=np.full(len(values), noise),
        is_control=np.arange(len(values)) >= len(values) - controls,
    )


GOOD, BAD = errors(1.0, -1.0), errors(20.0, -20.0)


def test_nothing_known_measures_everything() -> None:
    assert measured_share([], RULE) == 1.0


def test_good_predictions_lower_the_share_to_the_floor() -> None:
    assert measured_share([GOOD], RULE) == 0.8
    assert measured_share([GOOD] * 3, RULE) == 0.4
    assert measured_share([GOOD] * 9, RULE) == 0.1


def test_bad_predictions_raise_it_again() -> None:
    assert measured_share([GOOD, GOOD, BAD], RULE) == 0.8
    assert measured_share([BAD, BAD], RULE) == 1.0


def test_centred_ratio_gives_a_predictor_of_the_mean_nothing_and_raw_is_fooled() -> None:
    mean = RoundErrors(
        measured=np.array(MEASURED),
        predicted=np.full(4, 100.0),
        noise=np.full(4, math.nan),
        is_control=np.zeros(4, dtype=bool),
    )
    assert snr_db(mean, "centred") == pytest.approx(0.0)
    # Squared values 40250, squared errors 250: 10 log10(161).
    assert snr_db(mean, "raw") == pytest.approx(10.0 * math.log10(161.0))
    assert measured_share([mean] * 3, RULE) == 1.0
    assert (
        measured_share([mean] * 3, UpdatingRule(form="raw", threshold_db=10.0, least_rows=4)) == 0.4
    )


def test_noise_of_the_measurements_lowers_what_is_asked_for() -> None:
    # Variance 62.5 over noise variance 25: ceiling 3.98 dB, 3 dB below it is 0.98.
    noisy = errors(5.0, -5.0, noise=5.0)
    assert threshold_db(noisy, RULE) == pytest.approx(10.0 * math.log10(2.5) - 3.0)
    assert threshold_db(errors(5.0, -5.0), RULE) == 10.0
    assert threshold_db(errors(5.0, noise=0.01), RULE) == 10.0
    assert measured_share([noisy], RULE) == 0.8
    assert measured_share([errors(5.0, -5.0)], RULE) == 1.0


def test_few_values_borrow_from_rounds_before_and_alone_say_nothing() -> None:
    pair = errors(0.1, measured=(90.0, 110.0))
    assert measured_share([pair], RULE) == 1.0
    assert measured_share([pair, pair], RULE) == 0.8


def test_equal_values_have_no_ratio() -> None:
    assert snr_db(errors(1.0, measured=(5.0, 5.0)), "centred") is None
    assert snr_db(errors(0.0), "centred") == math.inf


def test_drift_of_the_controls_starts_again() -> None:
    drifted = errors(12.0, controls=2)
    assert has_drifted([GOOD, GOOD], drifted, RULE)
    assert measured_share([GOOD] * 9 + [drifted], RULE) == 1.0
    # What follows is judged without the rounds before the drift.
    assert measured_share([GOOD] * 9 + [drifted, GOOD], RULE) == 0.8


def test_a_miss_of_picked_candidates_is_no_drift() -> None:
    assert not has_drifted([GOOD, GOOD], errors(12.0), RULE)
    assert not has_drifted([GOOD, GOOD], errors(1.5, controls=2), RULE)
    assert not has_drifted([], errors(12.0, controls=2), RULE)


@pytest.mark.parametrize("seed", range(20))
def test_the_share_stays_between_floor_and_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rounds = [(GOOD, BAD)[int(i)] for i in rng.integers(2, size=30)]
    shares = [measured_share(rounds[:n], RULE) for n in range(len(rounds) + 1)]
    assert all(0.1 <= share <= 1.0 for share in shares)
    assert all(abs(a - b) < 0.2 + 1e-9 for a, b in itertools.pairwise(shares))
