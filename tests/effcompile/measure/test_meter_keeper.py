from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from effcompile.errors import WorkerRaised
from effcompile.measure.meter_keeper import MeterKeeper
from search.meter_facts import MeterFacts
from tests.meter_facts import facts


@dataclass
class Device:
    """A device process that is opened, asked to learn its meter, and sometimes replaced."""

    meter: str = "simulated"
    fails: bool = False
    n_openings: int = 1
    requests: list[Any] = field(default_factory=list)

    def opened(self) -> Any:
        return SimpleNamespace(meter=self.meter)

    def call(self, method: str, argument: Any, *, answer: Any, timeout_s: float) -> MeterFacts:
        assert (method, answer) == ("learn_meter", MeterFacts)
        self.requests.append(argument)
        if self.fails:
            raise WorkerRaised("the meter is gone", kind="MeterUnavailable")
        return argument.known or facts(15.0)


def test_a_session_calibrates_once_and_tells_it() -> None:
    keeper, device, told = MeterKeeper(), Device(), []
    keeper.on_learnt = told.append
    for _ in range(3):
        keeper.require(device, lambda: "anchor.so")
    assert len(device.requests) == 1
    assert told == [facts(15.0)] and keeper.facts == facts(15.0)


def test_a_process_that_replaced_another_is_handed_the_calibration() -> None:
    keeper, device, told = MeterKeeper(), Device(), []
    keeper.on_learnt = told.append
    keeper.require(device, lambda: "anchor.so")
    device.n_openings = 2
    keeper.require(device, lambda: "anchor.so")
    assert device.requests[1].known == facts(15.0)
    assert device.requests[1].reference.energy_mj == 15.0
    assert len(told) == 1


def test_a_continued_run_compares_with_the_first_sessions_anchor() -> None:
    keeper, device = MeterKeeper(), Device()
    keeper.continue_from(facts(14.0))
    keeper.require(device, lambda: "anchor.so")
    assert device.requests[0].reference.energy_mj == 14.0
    assert device.requests[0].known is None


def test_without_a_meter_nothing_is_built_or_asked() -> None:
    device = Device(meter="none")
    MeterKeeper().require(device, lambda: pytest.fail("no anchor is needed"))
    assert device.requests == []


def test_a_calibration_that_fails_is_told_and_not_tried_for_every_window(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper, device = MeterKeeper(), Device(fails=True)
    for _ in range(2):
        keeper.require(device, lambda: "anchor.so")
    assert len(device.requests) == 1
    assert "not calibrated" in caplog.text and "the meter is gone" in caplog.text
