"""What every strategy must do, run over each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from schedules.candidate import Candidate
from schedules.space import DesignSpace
from search.config import SearchConfig
from search.evolutionary import Evolutionary
from search.feature_cache import FeatureCache
from search.history import TaskHistory
from search.learner import Learner, models_of
from search.random_search import RandomSearch
from search.stored import Proposal
from search.strategy import Ranker, Ranking, Strategy
from search.trial import TrialState
from tests.doubles import SimulatedSpace, energy_mj, latency_us, make_task, power_w
from tests.search.makers import build, energy, latency, taken, trial_of

CONFIG = SearchConfig(population=48)


class NoModels:
    def rank(self, space: DesignSpace, candidates: list[Candidate]) -> Ranking | None:
        return None


class Oracle:
    """Knows the landscape, as the best model would."""

    def rank(self, space: DesignSpace, candidates: list[Candidate]) -> Ranking | None:
        return Ranking(
            log_slowdown=np.log2([latency_us(one) / 100.0 for one in candidates]),
            energy_mj=np.array([energy_mj(one) for one in candidates]),
        )


def tried(space: SimulatedSpace, n: int, seed: int = 3) -> TaskHistory:
    history = TaskHistory(make_task(), position=0)
    for i, candidate in enumerate(space.sample(n, np.random.default_rng(seed))):
        trial = trial_of(
            i + 1, candidate=candidate, state=TrialState.OK, latency=latency(latency_us(candidate))
        )
        history.add(replace(trial, build=build(trial)))
    return history


@pytest.fixture(params=[RandomSearch(), Evolutionary(CONFIG)], ids=["random", "evolutionary"])
def strategy(request: pytest.FixtureRequest) -> Strategy:
    found: Strategy = request.param
    return found


def propose(
    strategy: Strategy, history: TaskHistory, n: int, *, ranker: Ranker | None = None, seed: int = 0
) -> list[Proposal]:
    rng = np.random.default_rng(seed)
    return strategy.propose(history, SimulatedSpace(), n, ranker=ranker or Oracle(), rng=rng)


class TestContract:
    @pytest.mark.parametrize("ranker", [NoModels(), Oracle()], ids=["untrained", "trained"])
    @pytest.mark.parametrize("n", [1, 2, 16, 64])
    def test_gives_as_many_new_distinct_candidates_as_asked(
        self, strategy: Strategy, n: int, ranker: Ranker
    ) -> None:
        history = tried(SimulatedSpace(), 40)
        ids = [p.candidate.candidate_id for p in propose(strategy, history, n, ranker=ranker)]
        assert len(set(ids)) == n
        assert not any(history.was_tried(one) for one in ids)

    def test_same_history_and_seed_give_the_same_proposals(self, strategy: Strategy) -> None:
        first = propose(strategy, tried(SimulatedSpace(), 40), 20, seed=5)
        assert propose(strategy, tried(SimulatedSpace(), 40), 20, seed=5) == first
        assert propose(strategy, tried(SimulatedSpace(), 40), 20, seed=6) != first

    @pytest.mark.parametrize("ranker", [NoModels(), Oracle()], ids=["untrained", "trained"])
    def test_a_small_space_is_searched_to_the_last_candidate(
        self, strategy: Strategy, ranker: Ranker
    ) -> None:
        space, history = SimulatedSpace(n_knobs=2, n_values=4), TaskHistory(make_task(), position=0)
        rng, n_found = np.random.default_rng(0), []
        for _ in range(20):
            got = strategy.propose(history, space, 5, ranker=ranker, rng=rng)
            history.reserve(one.candidate for one in got)
            n_found.append(len(got))
        assert sum(n_found) == 4 * 4
        assert n_found[-1] == 0

    def test_starts_without_any_history(self, strategy: Strategy) -> None:
        history = TaskHistory(make_task(), position=0)
        assert len(propose(strategy, history, 8, ranker=NoModels())) == 8


class TestEvolution:
    def test_small_rounds_ask_for_few_features(self) -> None:
        space, history = SimulatedSpace(), tried(SimulatedSpace(), 40)
        learner = Learner(
            [history],
            features=FeatureCache(lambda task, name: space),
            factory=models_of(SearchConfig()),
        )
        strategy, counts = Evolutionary(SearchConfig()), []
        for n in (4, 64):
            space.featured.clear()
            strategy.propose(
                history, space, n, ranker=learner.ranker(history), rng=np.random.default_rng(n)
            )
            counts.append(len(space.featured))
        # Two generations of 16 and 128, the trials themselves, samples, local moves.
        assert counts[0] <= 40 + 2 * 16 + 16
        assert counts[1] <= 2 * 128 + 80

    def test_follows_the_models_to_faster_candidates(self) -> None:
        history = tried(SimulatedSpace(), 40)
        picked = propose(Evolutionary(CONFIG), history, 16)
        mutated = [latency_us(one.candidate) for one in picked if one.origin == "mutate"]
        best_us = history.best_latency_us()
        assert best_us is not None
        assert np.median(mutated) < best_us

    def test_a_share_of_the_batch_is_random(self) -> None:
        config = replace(CONFIG, random_share=0.5)
        picked = propose(Evolutionary(config), tried(SimulatedSpace(), 40), 16)
        assert sum(one.origin == "sample" for one in picked) >= 8

    def test_a_share_of_the_batch_is_picked_for_low_energy(self) -> None:
        def mean_power(oracle: Ranker) -> float:
            picked = propose(Evolutionary(CONFIG), tried(SimulatedSpace(), 40), 16, ranker=oracle)
            return float(np.mean([power_w(one.candidate) for one in picked[:4]]))

        class LatencyOnly(Oracle):
            def rank(self, space: DesignSpace, candidates: list[Candidate]) -> Ranking | None:
                ranking = super().rank(space, candidates)
                assert ranking is not None
                return replace(ranking, energy_mj=None)

        assert mean_power(Oracle()) < mean_power(LatencyOnly())


class TestLearner:
    def learner(self, history: TaskHistory, space: SimulatedSpace) -> Learner:
        return Learner(
            [history],
            features=FeatureCache(lambda task, name: space),
            factory=models_of(SearchConfig()),
        )

    def test_ranks_unseen_candidates_nearly_as_they_will_be_measured(self) -> None:
        from cost_models.quality import spearman

        space = SimulatedSpace()
        learner = self.learner(tried(space, 300), space)
        unseen = space.sample(100, np.random.default_rng(99))
        ranking = learner.rank(tried(space, 300), space, unseen)
        assert ranking is not None
        measured = np.array([latency_us(one) for one in unseen])
        correlation = spearman(measured, ranking.log_slowdown)
        assert correlation is not None
        assert correlation > 0.8

    def test_knows_nothing_before_enough_trials(self) -> None:
        space = SimulatedSpace()
        history = tried(space, 5)
        learner = self.learner(history, space)
        assert learner.rank(history, space, space.sample(3, np.random.default_rng(0))) is None
        assert learner.energy_of(history, history.trials) is None

    def test_energy_falls_back_to_the_mean_power_until_the_model_is_fitted(self) -> None:
        space = SimulatedSpace()
        history = tried(space, 60)
        learner = self.learner(history, space)
        for trial in history.trials[:3]:
            value = power_w(trial.candidate) * latency_us(trial.candidate) * 1e-3
            history.add_energy(taken(trial.trial_id, energy(value)))
        mean = np.mean([power_w(trial.candidate) for trial in history.trials[:3]])
        constant = learner.energy_of(history, history.trials)
        assert constant is not None
        latencies_us = np.array([latency_us(trial.candidate) for trial in history.trials])
        np.testing.assert_allclose(constant.mean, mean * latencies_us * 1e-3)
        for trial in history.trials[3:40]:
            value = power_w(trial.candidate) * latency_us(trial.candidate) * 1e-3
            history.add_energy(taken(trial.trial_id, energy(value)))
        fitted = learner.energy_of(history, history.trials[40:])
        assert fitted is not None
        truth = np.array([energy_mj(trial.candidate) for trial in history.trials[40:]])
        simple = np.mean(np.abs(constant.mean[40:] - truth))
        assert np.mean(np.abs(fitted.mean - truth)) < 0.5 * simple

    def test_features_are_extracted_once_per_candidate(self) -> None:
        space = SimulatedSpace()
        history = tried(space, 40)
        learner = self.learner(history, space)
        unseen = space.sample(30, np.random.default_rng(1))
        for _ in range(3):
            learner.rank(history, space, unseen)
        assert len(space.featured) == len(set(space.featured)) == 70
        assert space.n_feature_calls == 2

    def test_equal_histories_give_equal_predictions_bit_for_bit(self) -> None:
        space = SimulatedSpace()
        unseen = space.sample(30, np.random.default_rng(1))
        answers = []
        for _ in range(2):
            history = tried(space, 60)
            ranking = self.learner(history, space).rank(history, space, unseen)
            assert ranking is not None
            answers.append(ranking.log_slowdown)
        np.testing.assert_array_equal(answers[0], answers[1])
