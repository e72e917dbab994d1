"""Winners of searches on a recording, measured again beside the fastest of the same trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from effcompile.bench import winners
from effcompile.bench.winner_pairs import WinnerPair, find_pairs
from effcompile.bench.winner_rows import WinnerRow
from effcompile.bench.winners import measure_pairs
from effcompile.bench.winners_file import read_pairs, write_pairs
from effcompile.bench.winners_mean import mean_saving
from effcompile.config import TuneConfig
from effcompile.errors import UsageError
from schedules.candidate import Candidate
from schedules.target import Target, known_target
from schedules.task import Task
from search.config import SearchConfig
from search.final import Ratio
from search.ports import FinalEffort
from search.recording import Recording
from search.trial import Build, Failure, TrialState
from tests.doubles import SimulatedBuilder, SimulatedRunner, energy_mj, latency_us
from tests.simulated_recording import simulated_recording

CONFIG = TuneConfig(
    search=SearchConfig(n_trials=30, round_size=10, population=16, max_slowdown=0.3)
)
TARGET = known_target("h200")


class WarmRunner(SimulatedRunner):
    def warm_up(self, tasks: object) -> None:
        pass


@contextmanager
def simulated_device(
    target: Target, config: TuneConfig, work: Path
) -> Iterator[tuple[SimulatedBuilder, WarmRunner]]:
    yield SimulatedBuilder(), WarmRunner()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return simulated_recording(tmp_path_factory.mktemp("run"), n_trials=120)


@pytest.fixture(scope="module")
def pairs(recording: Recording) -> list[WinnerPair]:
    return find_pairs(recording, CONFIG, seeds=(0, 1))


def measured(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    **changed: object,
) -> list[WinnerRow]:
    monkeypatch.setattr(winners, "_device", simulated_device)
    given = {"target": TARGET, "n_rounds": 5, "seconds": 100.0, **changed}
    told: list[WinnerRow] = []
    rows = measure_pairs(
        recording, pairs, config=CONFIG, work=tmp_path, report=told.extend, **given
    )
    assert told == rows
    return rows


def test_every_workload_has_a_pair_per_seed_and_they_survive_a_file(
    pairs: list[WinnerPair], tmp_path: Path
) -> None:
    assert [(one.workload, one.seed) for one in pairs] == [
        (name, seed) for name in ("matmul", "softmax") for seed in (0, 1)
    ]
    write_pairs(pairs, tmp_path / "pairs.json")
    assert read_pairs(tmp_path / "pairs.json") == pairs
    (tmp_path / "other").write_text("{}")
    with pytest.raises(UsageError, match="--find-only"):
        read_pairs(tmp_path / "other")


def least_energy(pair: WinnerPair) -> Candidate:
    """What should be chosen of a pair, going by what the simulated device does."""
    known = [pair.latency_winner, *pair.finalists]
    limit_us = 1.3 * min(map(latency_us, known))
    return min((one for one in known if latency_us(one) <= limit_us), key=energy_mj)


def test_the_ratio_is_that_of_the_least_energy_over_the_fastest(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rows = measured(recording, pairs, monkeypatch, tmp_path)
    assert len(rows) == len(pairs)
    by_key = {(row.workload, row.seed): row for row in rows}
    for pair in pairs:
        row = by_key[pair.workload, pair.seed]
        assert row.energy is not None
        assert row.burst is not None
        fast, frugal = pair.latency_winner, least_energy(pair)
        assert row.energy.median == pytest.approx(energy_mj(frugal) / energy_mj(fast))
        assert row.burst.median == pytest.approx(latency_us(frugal) / latency_us(fast))
        assert row.energy.median <= 1.0
    mean = mean_saving(rows)
    assert mean is not None
    assert mean.n_workloads == 2
    assert 0.0 < mean.saved_percent <= mean.best_percent


def test_no_workload_is_begun_that_would_end_too_late(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rows = measured(recording, pairs, monkeypatch, tmp_path, seconds=1.0)
    assert all(row.is_same for row in rows)
    assert len(rows) < len(pairs)


def test_another_kind_of_device_is_refused(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="would not fit"):
        measured(recording, pairs, monkeypatch, tmp_path, target=known_target("a100"))
    # A card with the same cores takes the same schedules.
    other = replace(TARGET, name="another H200")
    assert measured(recording, pairs, monkeypatch, tmp_path, target=other)


def test_a_candidate_beside_itself_is_a_row_without_a_measurement(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    same = [replace(pair, finalists=(pair.latency_winner,)) for pair in pairs[:1]]
    (row,) = measured(recording, same, monkeypatch, tmp_path, seconds=1.0)
    assert row.is_same
    assert row.energy == Ratio(median=1.0, low=1.0, high=1.0)
    mixed = measured(recording, [*same, *pairs[2:]], monkeypatch, tmp_path)
    assert len(mixed) == 3
    mean = mean_saving(mixed)
    assert mean is not None and mean.n_workloads == 2


def test_the_fastest_stays_where_every_finalist_takes_more(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pair = next(one for one in pairs if least_energy(one) != one.latency_winner)
    hungry = replace(pair, latency_winner=least_energy(pair), finalists=(pair.latency_winner,))
    assert not hungry.is_same
    (row,) = measured(recording, [hungry], monkeypatch, tmp_path)
    assert row.is_same


def test_a_fastest_candidate_that_fails_is_told(
    recording: Recording,
    pairs: list[WinnerPair],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    class Broken(WarmRunner):
        def compare(self, task: Task, builds: Sequence[Build], effort: FinalEffort) -> list[Any]:
            fastest, *others = super().compare(task, builds, effort)
            del fastest
            return [Failure(state=TrialState.RUN_ERROR, message="launch failed"), *others]

    monkeypatch.setattr(f"{__name__}.WarmRunner", Broken)
    (row,) = measured(recording, pairs[:1], monkeypatch, tmp_path)
    assert "launch failed" in row.error
    assert row.energy is None


def test_the_mean_counts_every_workload_once() -> None:
    def row(workload: str, seed: int, ratio: float) -> WinnerRow:
        energy = Ratio(median=ratio, low=ratio - 0.01, high=ratio + 0.01)
        return WinnerRow(workload=workload, seed=seed, energy=energy)

    mean = mean_saving([row("a", 0, 0.8), row("a", 1, 0.6), row("b", 0, 0.9)])
    assert mean is not None
    assert mean.saved_percent == pytest.approx((30.0 + 10.0) / 2)
    assert (mean.best, mean.best_percent) == ("a", pytest.approx(30.0))
    assert mean.ci95_percent == pytest.approx(2.0**0.5 / 2)
    assert mean_saving([WinnerRow(workload="a", seed=0)]) is None
