"""Who gets an energy measurement, for each policy."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from search.config import EnergyPolicyName, SearchConfig
from search.energy_policy import EnergyCandidate, EnergyState, ModelError
from search.policies import make_policy
from search.policy_worth import expected_gain

CONFIG = SearchConfig(energy_top=2, energy_random=1, energy_warmup=3)


def state(*energies_mj: float, **fields: object) -> EnergyState:
    made = EnergyState(
        candidates=[
            EnergyCandidate(trial_id=i, latency_us=1.0 + 0.01 * i, energy_mj=one, spread_mj=0.1)
            for i, one in enumerate(energies_mj)
        ]
    )
    return replace(made, **fields)


def pick(
    name: EnergyPolicyName, seen: EnergyState, config: SearchConfig = CONFIG, seed: int = 0
) -> list[tuple[int, bool]]:
    policy = make_policy(replace(config, energy_policy=name))
    return [(p.trial_id, p.is_control) for p in policy.pick(seen, np.random.default_rng(seed))]


def wanted(name: EnergyPolicyName, seen: EnergyState) -> list[int]:
    return [trial_id for trial_id, is_control in pick(name, seen) if not is_control]


def errors(n: int, *, miss: float, round_index: int = 1) -> list[ModelError]:
    """Predictions that are off by +miss and -miss, of energies from 10 mJ on."""
    return [
        ModelError(
            round_index=round_index,
            trial_id=100 + i,
            predicted_mj=10.0 + i + miss * (-1) ** i,
            measured_mj=10.0 + i,
            is_control=False,
            spread_mj=0.1,
            ci95_mj=0.01,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("name", get_args(EnergyPolicyName))
class TestEveryPolicy:
    def test_picks_are_distinct_candidates(self, name: EnergyPolicyName) -> None:
        seen = state(*range(30, 1, -1), incumbent_mj=20.0, errors=errors(12, miss=0.1))
        ids = [trial_id for trial_id, _ in pick(name, seen)]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= set(range(29))

    def test_no_candidates_no_picks(self, name: EnergyPolicyName) -> None:
        assert pick(name, state()) == []

    def test_depends_on_state_and_generator_alone(self, name: EnergyPolicyName) -> None:
        seen = state(*range(30, 1, -1), n_measured=10, incumbent_mj=20.0)
        assert pick(name, seen, seed=1) == pick(name, seen, seed=1)

    def test_the_first_round_measures_the_predicted_best(self, name: EnergyPolicyName) -> None:
        assert wanted(name, state(5.0, 1.0, 3.0, 2.0))[:1] == [1]


def test_top_measures_the_predicted_best_and_random_controls() -> None:
    picks = pick("top", state(5.0, 1.0, 3.0, 2.0, 4.0))
    assert picks[:2] == [(1, False), (3, False)]
    assert len(picks) == 3
    assert picks[2][0] in (0, 2, 4)
    assert picks[2][1] is True
    assert pick("top", state(1.0)) == [(0, False)]


def test_controls_differ_with_the_generator_only() -> None:
    seen = state(*range(1, 30))
    assert len({tuple(pick("top", seen, seed=seed)) for seed in range(8)}) > 1


def test_measure_all_leaves_nobody_out() -> None:
    assert wanted("measure_all", state(3.0, 2.0, 1.0, n_measured=99)) == [2, 1, 0]


def test_never_stops_after_its_warm_up() -> None:
    assert wanted("never", state(3.0, 2.0, 1.0, n_measured=1)) == [2, 1]
    assert pick("never", state(3.0, 2.0, 1.0, n_measured=3)) == []


class TestSnr:
    def test_measures_everything_before_errors_are_known(self) -> None:
        assert len(pick("snr", state(*range(1, 11)))) == 10

    def test_good_rounds_lower_the_share_of_the_new_candidates(self) -> None:
        good = [*errors(8, miss=0.1), *errors(8, miss=0.1, round_index=2)]
        seen = state(*range(1, 11), errors=good)
        # Two good rounds: 1 - 2 x 0.2 of ten, and one control.
        assert wanted("snr", seen) == list(range(6))
        assert len(pick("snr", seen)) == 7

    def test_old_candidates_do_not_raise_the_number(self) -> None:
        seen = state(*range(1, 11), errors=errors(8, miss=0.1))
        aged = [replace(one, is_new=one.trial_id >= 5) for one in seen.candidates]
        # 0.8 of five new ones, and the best-looking of all ten are taken.
        assert wanted("snr", replace(seen, candidates=aged)) == [0, 1, 2, 3]

    def test_bad_rounds_keep_it_up(self) -> None:
        seen = state(*range(1, 11), errors=errors(6, miss=5.0))
        assert len(wanted("snr", seen)) == 10


class TestOverlap:
    def seen(self, *energies_mj: float, **fields: object) -> EnergyState:
        given = {"incumbent_mj": 10.0, "incumbent_ci95_mj": 0.1, "n_measured": 20, **fields}
        return state(*energies_mj, **given)

    def test_only_those_that_may_beat_the_incumbent(self) -> None:
        # Uncalibrated: two spreads of 0.1 reach 10.25 down to 10.05, below 10.1; 10.4 stays above.
        assert wanted("overlap", self.seen(10.4, 10.25, 12.0)) == [1]

    def test_errors_larger_than_stated_widen_the_intervals(self) -> None:
        # 19 misses of 0.5 at a stated spread of 0.1: five spreads.
        known = errors(19, miss=0.5)
        assert wanted("overlap", self.seen(10.4, 12.0, errors=known)) == [0]

    def test_the_slow_cannot_win_and_are_left_to_the_controls(self) -> None:
        assert wanted("overlap", self.seen(9.0, 8.0, limit_us=1.005)) == [0]

    def test_one_a_round(self) -> None:
        assert wanted("overlap", self.seen(9.0, 8.0, 7.0)) == [2]

    def test_random_picks_stop_once_they_are_a_tenth(self) -> None:
        known = [replace(one, is_control=True) for one in errors(2, miss=0.1)]
        picks = pick("overlap", self.seen(20.0, 21.0, 22.0, n_measured=20, errors=known))
        assert picks == []
        assert pick("overlap", self.seen(20.0, 21.0, 22.0, n_measured=9)) == []

    def test_nothing_promising_leaves_the_controls(self) -> None:
        picks = pick("overlap", self.seen(20.0, 21.0, 22.0))
        assert [is_control for _, is_control in picks] == [True]

    def test_warms_up_before_it_trusts(self) -> None:
        assert wanted("overlap", self.seen(20.0, 21.0, 22.0, n_measured=1)) == [0, 1]


class TestWorth:
    """An incumbent of 10 +- 0.1 mJ, and two places in the finals for predicted ones."""

    def seen(self, *energies_mj: float, **fields: object) -> EnergyState:
        given = {"incumbent_mj": 10.0, "incumbent_ci95_mj": 0.1, "n_measured": 5, **fields}
        made = state(*energies_mj, **given)
        return replace(made, candidates=[replace(one, is_new=False) for one in made.candidates])

    def wanted(self, seen: EnergyState) -> list[int]:
        picks = pick("worth", seen, replace(CONFIG, n_finalists=4))
        return [trial_id for trial_id, is_control in picks if not is_control]

    def test_whom_the_finals_measure_anyway_is_left_to_them(self) -> None:
        assert self.wanted(self.seen(9.0, 8.0)) == []
        assert self.wanted(self.seen(9.0, 8.0, 9.5)) == [1]

    def test_gains_below_the_incumbent_s_interval_are_not_looked_for(self) -> None:
        # At equal energy a spread of 0.1 promises 0.04 mJ.
        assert self.wanted(self.seen(9.95, 9.96, 9.97, 10.0)) == []
        assert self.wanted(self.seen(9.8, 9.81, 9.82, 10.0)) == [0]

    def test_errors_beyond_what_was_stated_raise_what_others_promise(self) -> None:
        calm, rough = errors(5, miss=0.1), errors(5, miss=1.0)
        assert self.wanted(self.seen(10.0, 10.0, 10.0, errors=calm)) == []
        assert self.wanted(self.seen(10.0, 10.0, 10.0, errors=rough)) == [0]

    def test_the_slow_and_the_new_are_not_asked(self) -> None:
        seen = self.seen(9.0, 8.0, 7.0, 6.0)
        assert self.wanted(replace(seen, limit_us=1.005)) == []
        new = [replace(one, is_new=True) for one in seen.candidates]
        assert self.wanted(replace(seen, candidates=new)) == []

    def test_warms_up_while_predictions_state_no_error(self) -> None:
        mute = self.seen(20.0, 21.0, 22.0, n_measured=1)
        mute = replace(mute, candidates=[replace(c, spread_mj=0.0) for c in mute.candidates])
        assert self.wanted(mute) == [0, 1]
        assert self.wanted(replace(mute, n_measured=3)) == []
        first = replace(mute, incumbent_mj=None, n_measured=0)
        assert self.wanted(first) == [0, 1, 2]

    def test_a_prior_needs_one_window_to_begin(self) -> None:
        assert self.wanted(self.seen(20.0, 21.0, incumbent_mj=None, n_measured=0)) == [0]

    def test_the_expected_gain_is_that_of_a_normal_distribution(self) -> None:
        drawn = np.random.default_rng(0).normal(9.5, 2.0, size=400_000)
        by_hand = np.maximum(0.0, 10.0 - drawn).mean()
        assert expected_gain(10.0, 9.5, 2.0) == pytest.approx(by_hand, rel=0.01)
        assert expected_gain(10.0, 9.5, 0.0) == 0.5
        assert expected_gain(10.0, 10.5, 0.0) == 0.0
