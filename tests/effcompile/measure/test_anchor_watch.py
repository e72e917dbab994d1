from __future__ import annotations

import pytest

from effcompile.measure.anchor_watch import Anchor, AnchorWatch
from search.trial import EnergyMeasurement, Verdict

REFERENCE = Anchor(energy_mj=10.0, ci95_mj=0.03)


def taken(energy_mj: float | None, verdict: Verdict = Verdict.OK) -> EnergyMeasurement:
    return EnergyMeasurement(
        energy_mj=energy_mj,
        ci95_mj=0.04,
        power_w=None if energy_mj is None else 20 * energy_mj,
        meter="simulated",
        verdict=verdict,
    )


class Device:
    """Anchors with given energies, counted."""

    def __init__(self, *anchors: EnergyMeasurement) -> None:
        self.anchors = list(anchors)
        self.n_taken = 0

    def measure(self) -> EnergyMeasurement:
        self.n_taken += 1
        return self.anchors.pop(0)

    def watch(self, *, every: int, is_fresh: bool = True) -> AnchorWatch:
        return AnchorWatch(self.measure, REFERENCE, every=every, is_fresh=is_fresh)


def test_anchors_are_taken_every_so_many_windows() -> None:
    device = Device(*[taken(10.0)] * 3)
    watch = device.watch(every=4)
    counts = []
    for _ in range(12):
        watch.before_window()
        counts.append(device.n_taken)
    assert counts == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_without_anchors_none_are_taken() -> None:
    device = Device()
    watch = device.watch(every=0, is_fresh=False)
    for _ in range(5):
        watch.before_window()
    assert watch.drift == 1.0


def test_a_device_opened_again_is_compared_with_the_runs_first_anchor_at_once() -> None:
    watch = Device(taken(10.5)).watch(every=10, is_fresh=False)
    watch.before_window()
    assert watch.drift == pytest.approx(1.05)


def test_drift_is_divided_out_and_stored() -> None:
    watch = Device(taken(10.2)).watch(every=1, is_fresh=False)
    watch.before_window()
    found = watch.applied(taken(5.1))
    assert found.energy_mj == pytest.approx(5.0)
    assert found.power_w == pytest.approx(100.0)
    assert found.ci95_mj == pytest.approx(0.04 / 1.02)
    assert (found.anchor_mj, found.drift) == (10.2, pytest.approx(1.02))


def test_a_single_anchor_that_is_off_changes_nothing() -> None:
    watch = Device(taken(10.0), taken(10.3), taken(10.0), taken(10.3), taken(10.3)).watch(every=1)
    drifts = []
    for _ in range(6):
        watch.before_window()
        drifts.append(watch.drift)
    # Three of the latest five make a drift.
    assert drifts[:5] == [1.0] * 5
    assert drifts[5] == pytest.approx(1.03)


def test_a_difference_inside_the_noise_changes_nothing() -> None:
    # sqrt(0.03^2 + 0.04^2) = 0.05 mJ.
    watch = Device(taken(10.049)).watch(every=1, is_fresh=False)
    watch.before_window()
    assert watch.applied(taken(5.0)).energy_mj == 5.0
    assert watch.applied(taken(5.0)).drift == 1.0


def test_a_device_that_changed_altogether_gives_no_numbers() -> None:
    watch = Device(taken(12.0)).watch(every=1, is_fresh=False)
    watch.before_window()
    found = watch.applied(taken(5.0))
    assert (found.verdict, found.energy_mj, found.power_w) == (Verdict.DRIFTED, None, None)
    assert "+20.0%" in found.reason


def test_an_anchor_that_may_not_be_used_changes_nothing() -> None:
    watch = Device(taken(None, Verdict.FOREIGN_LOAD)).watch(every=1, is_fresh=False)
    watch.before_window()
    assert watch.applied(taken(5.0)).drift == 1.0
