from __future__ import annotations

from pathlib import Path

import pytest

from effcompile.measure import session_energy
from effcompile.measure.environment import cpu_target
from effcompile.measure.rapl import RaplMeter
from effcompile.measure.session_energy import SessionEnergy
from tests.rapl_folder import package


def test_joules_are_counted_over_wraps_of_the_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = package(tmp_path, 0, 500_000)
    monkeypatch.setattr(session_energy, "open_meter", lambda *a, **k: RaplMeter(tmp_path))
    energy = SessionEnergy(cpu_target(), "auto")
    total_uj = 0
    for _ in range(5):
        total_uj += 300_000
        counter.write_text(str((500_000 + total_uj) % 1_000_000))
        spent_j = energy.spent_j()
    assert spent_j == pytest.approx(1.5)


def test_a_counter_that_vanished_keeps_what_it_had_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = package(tmp_path, 0, 0)
    monkeypatch.setattr(session_energy, "open_meter", lambda *a, **k: RaplMeter(tmp_path))
    energy = SessionEnergy(cpu_target(), "auto")
    counter.write_text("250000")
    assert energy.spent_j() == pytest.approx(0.25)
    counter.unlink()
    assert energy.spent_j() == pytest.approx(0.25)


def test_without_a_meter_there_are_no_joules() -> None:
    assert SessionEnergy(cpu_target(), "none").spent_j() is None
