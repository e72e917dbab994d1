from __future__ import annotations

import msgspec
import pytest

from effcompile.gains import gain_of
from effcompile.manifest import Gain
from search.ports import FinalMeasurement
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
