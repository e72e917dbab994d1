from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from effcompile import measuring
from effcompile.building import measured_entries
from effcompile.config import MeasureConfig
from effcompile.gains import gain_of
from effcompile.manifest import Gain
from effcompile.measuring import ArtifactMeasurement
from effcompile.signature import ArgumentSpec, EntryPoint
from search.ports import FinalMeasurement
from search.trial import Failure, TrialState
from tests.effcompile.made_run import energy, latency


def measured(latency_us: float, ratios: tuple[float, ...]) -> FinalMeasurement:
    return FinalMeasurement(
        latency=latency(latency_us), energy=energy(None, "none"), latency_ratios=ratios
    )


def test_ratios_come_from_the_rounds_and_survive_json() -> None:
    gain = gain_of(measured(100, (1.0,) * 3), measured(80, (0.79, 0.80, 0.81)))
    assert gain.latency_ratio is not None
    assert gain.latency_ratio.median == pytest.approx(0.80)
    assert gain.latency_ratio.low < 0.79 and not gain.latency_ratio.is_tie
    assert gain.energy_ratio is None
    assert msgspec.json.decode(msgspec.json.encode(gain), type=Gain) == gain


def test_one_round_tells_no_ratio() -> None:
    gain = gain_of(measured(100, (1.0,)), measured(80, (0.8,)))
    assert gain.latency_ratio is None
    assert msgspec.json.decode(msgspec.json.encode(gain), type=Gain) == gain


def test_entry_that_cannot_be_measured_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(paths: list[Path], *, entry: str, **_: Any) -> list[ArtifactMeasurement]:
        lost = Failure(state=TrialState.RUN_ERROR, message="out of memory")
        is_lost = entry == "lost"
        return [
            ArtifactMeasurement(
                path=path,
                entry=entry,
                measurement=None if is_lost else measured(100, (1.0,) * 3),
                failure=lost if is_lost else None,
            )
            for path in paths
        ]

    def entry_point(name: str, *shape: int | str) -> EntryPoint:
        spec = ArgumentSpec(name="x", shape=shape, dtype="float32")
        return EntryPoint(name=name, inputs=(spec,), outputs=(spec,), parameters=())

    monkeypatch.setattr(measuring, "measure_artifacts", measure)
    entries = [entry_point("lost", 4), entry_point("open", "N"), entry_point("kept", 4)]
    with caplog.at_level(logging.WARNING):
        found = measured_entries(Path("a"), Path("b"), entries, MeasureConfig())
    assert [one.entry for one in found] == ["kept"]
    assert "lost: failed: out of memory" in caplog.text and "open" not in caplog.text
