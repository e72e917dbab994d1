"""A run folder to tune in, and one whose run has ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.trial import Trial
from tests.search.tuner_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A finished run; tests only look at it."""
    bench = Bench(tmp_path_factory.mktemp("whole"))
    bench.runner.delay_s = 0.001
    assert bench.tune() == "budget"
    return bench


@pytest.fixture(scope="session")
def unbroken(whole: Bench) -> list[Trial]:
    return [replace(trial, spent_s=0.0, loop_s=None) for trial in whole.trials()]
