from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from effcompile.config import MeasureConfig
from effcompile.measure.environment import cpu_target
from effcompile.measure.module_runner import ModuleRunner
from search.ports import FinalMeasurement
from search.trial import Failure, TrialState, Verdict
from tests.effcompile.tiny_artifact import write_tiny

pytestmark = pytest.mark.slow


def write(path: Path) -> Path:
    write_tiny(path)
    return path


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[ModuleRunner]:
    config = MeasureConfig(n_repeats=5, repeat_ms=0.5, meter="none", timeout_s=10.0)
    made = ModuleRunner(cpu_target(), config, work_dir=tmp_path)
    yield made
    made.close()


def test_modules_are_measured_in_turn_and_a_damaged_one_drops_out(
    runner: ModuleRunner, tmp_path: Path
) -> None:
    good, damaged = write(tmp_path / "good.effc"), tmp_path / "damaged.effc"
    damaged.write_bytes(good.read_bytes()[:-100])
    x = np.ones((4, 64), dtype=np.float32)
    first, bad, same = runner.compare([good, damaged, good], "main", [x], 3)
    assert isinstance(first, FinalMeasurement), first
    assert isinstance(same, FinalMeasurement)
    assert first.latency_ratios == (1.0, 1.0, 1.0)
    assert len(same.latency_ratios) == 3
    assert first.energy.verdict is Verdict.UNMEASURED
    assert isinstance(bad, Failure)
    assert bad.state is TrialState.RUN_ERROR
    assert "BadArtifact" in bad.message


def test_short_floats_reach_the_module(runner: ModuleRunner, tmp_path: Path) -> None:
    half = np.ones(8, dtype=ml_dtypes.bfloat16)
    (measured,) = runner.compare([write(tmp_path / "m.effc")], "half", [half], 1)
    assert isinstance(measured, FinalMeasurement), measured


def test_an_unknown_entry_names_those_there_are(runner: ModuleRunner, tmp_path: Path) -> None:
    x = np.ones((4, 64), dtype=np.float32)
    (found,) = runner.compare([write(tmp_path / "m.effc")], "decode", [x], 1)
    assert isinstance(found, Failure)
    assert "main" in found.message
