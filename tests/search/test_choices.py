"""Which task, which space, which energy: the small decisions between rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.budget import round_size, seconds_left
from search.config import SearchConfig
from search.history import TaskHistory
from search.space_shares import split_round
from search.task_scheduler import cost_share, next_task
from tests.doubles import make_task
from tests.search.makers import energy, finished, history_of, taken, trial_of


def schedule(histories: list[TaskHistory], rounds: list[int]) -> str | None:
    for position, history in enumerate(histories):
        history.position = position
    counts = {one.task.task_id: n for one, n in zip(histories, rounds, strict=True)}
    chosen = next_task(histories, counts, max_slowdown=0.02)
    return None if chosen is None else chosen.task.workload.name


class TestTaskScheduler:
    def test_every_task_gets_a_first_round_the_heaviest_first(self) -> None:
        light, heavy = history_of(10.0, name="light"), history_of(10.0, name="heavy", weight=5)
        assert schedule([light, heavy], [0, 0]) == "heavy"
        assert schedule([light, heavy], [0, 1]) == "light"

    def test_the_task_that_still_improves_goes_before_one_that_stands(self) -> None:
        moving = history_of(10.0, 9.0, 8.0, 7.0, name="moving")
        standing = history_of(9.0, 9.0, 9.0, 9.0, name="standing")
        assert schedule([standing, moving], [3, 3]) == "moving"

    def test_a_task_with_few_rounds_goes_before_an_equal_one_with_many(self) -> None:
        few, many = history_of(9.0, 9.0, name="few"), history_of(9.0, 9.0, name="many")
        assert schedule([many, few], [8, 2]) == "few"

    def test_exhausted_tasks_are_left_out(self) -> None:
        one, other = history_of(10.0, name="one", weight=9), history_of(10.0, name="other")
        one.exhausted = True
        assert schedule([one, other], [1, 1]) == "other"
        other.exhausted = True
        assert schedule([one, other], [1, 1]) is None

    def test_even_turns_go_by_rounds_alone(self) -> None:
        moving = history_of(10.0, 5.0, 1.0, name="moving", weight=9)
        standing = history_of(9.0, 9.0, name="standing")
        counts = {moving.task.task_id: 3, standing.task.task_id: 2}
        for expected in ("standing", "moving"):
            chosen = next_task([moving, standing], counts, max_slowdown=0.02, even=True)
            assert chosen is not None
            assert chosen.task.workload.name == expected
            counts[standing.task.task_id] = 4


class TestTaskSchedulerByEnergy:
    def history(self, name: str, *energies_mj: float, window_ms: float = 100.0) -> TaskHistory:
        """Equal latencies, one energy per round, the default's first."""
        found = history_of(*[100.0] * len(energies_mj), name=name)
        for i, value in enumerate(energies_mj):
            measured = replace(energy(value), window_ms=window_ms)
            found.add_energy(taken(i + 1, measured))
        return found

    def test_falling_energy_goes_before_equal_latency(self) -> None:
        falling = self.history("falling", 20.0, 18.0, 16.0, 14.0)
        standing = self.history("standing", 14.0, 14.0, 14.0, 14.0)
        assert schedule([standing, falling], [3, 3]) == "falling"

    def test_equal_savings_go_to_the_task_whose_rounds_are_short(self) -> None:
        quick = self.history("quick", 20.0, 18.0, 16.0, 14.0)
        slow = self.history("slow", 20.0, 18.0, 16.0, 14.0, window_ms=5000.0)
        assert schedule([slow, quick], [3, 3]) == "quick"

    def test_one_task_without_energy_makes_latency_decide(self) -> None:
        falling = self.history("falling", 20.0, 18.0, 16.0, 14.0)
        faster = history_of(100.0, 90.0, 80.0, 70.0, name="faster")
        assert schedule([falling, faster], [3, 3]) == "faster"

    def test_an_unmeasured_choice_draws_the_mean_power(self) -> None:
        # The new best at 50 us draws 0.2 mJ per us: 10 mJ, half of what it was.
        halved = history_of(100.0, 100.0, 50.0, name="halved")
        halved.add_energy(taken(1, energy(20.0)))
        standing = history_of(100.0, 100.0, 100.0, name="standing")
        standing.add_energy(taken(1, energy(20.0)))
        assert schedule([standing, halved], [2, 2]) == "halved"


class TestSpaceShares:
    def history(self, **best_us: float) -> TaskHistory:
        history = TaskHistory(make_task(), position=0)
        for i, (space, value) in enumerate(best_us.items()):
            history.add(finished(trial_of(i + 1, space=space), value))
        return history

    def test_the_preferred_space_gets_most_until_each_has_a_latency(self) -> None:
        shares = split_round(9, ["own", "tvm"], self.history(own=10.0))
        assert shares == {"own": 6, "tvm": 3}
        shares = split_round(8, ["own", "other", "tvm"], self.history())
        assert shares == {"own": 5, "other": 2, "tvm": 1}

    def test_the_faster_space_gets_more_and_the_slower_one_is_not_given_up(self) -> None:
        shares = split_round(20, ["own", "tvm"], self.history(own=10.0, tvm=20.0))
        assert shares["own"] > 15
        assert shares["tvm"] >= 1

    def test_estimates_stand_for_latencies_that_are_not_measured(self) -> None:
        cycles = {"slow": 2000.0, "fast": 1000.0}
        shares = split_round(16, ["slow", "fast", "tvm"], self.history(), cycles)
        assert shares["fast"] > 3 * shares["slow"]
        # 2000 cycles took 2 us: 1000 are expected to take 1.
        shares = split_round(16, ["slow", "fast"], self.history(slow=2.0), cycles)
        assert shares["fast"] > 10

    def test_a_space_without_estimates_waits_for_the_others(self) -> None:
        cycles = {"own": 1000.0}
        assert split_round(8, ["own", "tvm"], self.history(), cycles) == {"own": 8, "tvm": 0}
        # Shares are of all trials, and no space is given up.
        history = self.history()
        for i in range(24):
            history.add(finished(trial_of(i + 1, space="own"), 1.0))
        assert split_round(8, ["own", "tvm"], history, cycles)["tvm"] > 0

    def test_a_default_that_competes_speaks_for_the_space_it_comes_from(self) -> None:
        def with_default(latency_us: float) -> TaskHistory:
            history = self.history(own=1.0)
            history.add(finished(trial_of(9, space="default", origin="default"), latency_us))
            return history

        cycles = {"own": 1000.0}
        assert split_round(8, ["own", "tvm"], with_default(1.0), cycles)["tvm"] >= 3
        assert split_round(8, ["own", "tvm"], with_default(9.0), cycles)["tvm"] == 0

    @pytest.mark.parametrize("n", [1, 2, 3, 7, 64])
    def test_shares_add_up(self, n: int) -> None:
        shares = split_round(n, ["a", "b", "c"], self.history(a=1.0, b=9.0, c=1.1))
        assert sum(shares.values()) == n


class TestBudget:
    def test_tasks_that_hardly_matter_get_small_rounds(self) -> None:
        config = SearchConfig(n_trials=120)
        assert round_size(config, n_tasks=11, cost_share=0.5) == 8
        assert round_size(config, n_tasks=11, cost_share=0.006) == 3
        assert round_size(SearchConfig(n_trials=12), n_tasks=6, cost_share=0.006) == 1
        assert round_size(SearchConfig(round_size=5), n_tasks=11, cost_share=0.006) == 5

    def test_the_share_of_a_task_is_that_of_its_best_latency_with_its_weight(self) -> None:
        small, large = history_of(4.0, 1.0, name="small"), history_of(99.0, name="large")
        assert cost_share(small, [small, large]) == pytest.approx(0.01)
        empty = TaskHistory(make_task(), position=0)
        assert cost_share(empty, [empty]) == 1.0

    def test_a_configured_round_size_is_used(self) -> None:
        assert round_size(SearchConfig(round_size=5), n_tasks=3) == 5

    @pytest.mark.parametrize(
        ("n_trials", "n_tasks", "expected"),
        [
            (257, 1, 16),  # 256 left for one task, a sixteenth of them
            (65, 1, 8),  # a sixteenth were 4, but no round below 8
            (120, 12, 8),  # 9 per task, but no round below 8
            (24, 12, 1),  # one trial per task after the defaults
            (5, 12, 1),  # not even the defaults fit
        ],
    )
    def test_about_sixteen_rounds_per_task(
        self, n_trials: int, n_tasks: int, expected: int
    ) -> None:
        assert round_size(SearchConfig(n_trials=n_trials), n_tasks=n_tasks) == expected

    def test_time_left_follows_the_pace_and_the_limit(self) -> None:
        assert seconds_left(elapsed_s=10.0, n_done=5, n_left=20, limit_s=None) == 40.0
        assert seconds_left(elapsed_s=10.0, n_done=5, n_left=20, limit_s=25.0) == 15.0
        assert seconds_left(elapsed_s=10.0, n_done=0, n_left=20, limit_s=None) is None
