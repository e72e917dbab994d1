from __future__ import annotations

import os
from pathlib import Path

import pynvml
import pytest

from effcompile.errors import MeterDenied, MeterUnavailable
from effcompile.measure.meters import NoMeter, open_meter, require_meter
from effcompile.measure.rapl import RaplMeter


def package(root: Path, index: int, energy_uj: int, range_uj: int = 999_999) -> Path:
    folder = root / f"intel-rapl:{index}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"package-{index}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return folder / "energy_uj"


def test_packages_are_added_up(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 100_000), package(tmp_path, 1, 200_000)
    meter = RaplMeter(tmp_path)
    first.write_text("103000")
    second.write_text("204000")
    assert meter.counter_mj() == 7.0


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 999_000)
    meter = RaplMeter(tmp_path)
    counter.write_text("1000")
    # 999,000 to 999,999 are 999 steps, one more to 0, then 1000.
    assert meter.counter_mj() == 2.0


def test_parts_of_a_package_are_not_counted_twice(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 0)
    core = tmp_path / "intel-rapl:0:0"
    core.mkdir()
    (core / "name").write_text("core\n")
    meter = RaplMeter(tmp_path)
    counter.write_text("5000")
    assert meter.counter_mj() == 5.0


def test_a_vanished_counter_is_a_lost_meter(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 0)
    meter = RaplMeter(tmp_path)
    counter.unlink()
    with pytest.raises(MeterUnavailable, match="cannot be read"):
        meter.counter_mj()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_forbidden_counter_says_how_to_get_the_right(tmp_path: Path) -> None:
    package(tmp_path, 0, 0).chmod(0)
    found = open_meter("auto", kind="llvm", rapl_root=tmp_path)
    assert isinstance(found, NoMeter)
    assert found.denied
    assert "chmod" in found.reason


def test_without_a_meter_the_reason_is_given(tmp_path: Path) -> None:
    found = open_meter("auto", kind="llvm", rapl_root=tmp_path)
    assert isinstance(found, NoMeter)
    assert str(tmp_path) in found.reason


def test_a_meter_of_another_device_is_refused() -> None:
    found = open_meter("nvml", kind="llvm")
    assert isinstance(found, NoMeter)
    assert "rapl" in found.reason


def deny_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that answers, and refuses the energy counter to this user."""

    def refused(handle: object) -> int:
        raise pynvml.NVMLError_NoPermission()

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refused)


def test_without_nvml_rights_energy_stays_unmeasured_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deny_nvml(monkeypatch)
    found = open_meter("auto", kind="cuda", gpu_uuid="GPU-0")
    assert isinstance(found, NoMeter)
    assert found.denied
    assert "may not be read" in found.reason


def test_nvml_asked_for_by_name_without_rights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    deny_nvml(monkeypatch)
    with pytest.raises(MeterDenied, match=r"meter nvml: .*may not be read.*--meter auto"):
        require_meter("nvml", kind="cuda", gpu_uuid="GPU-0")


def test_meter_asked_for_by_name_that_is_not_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match="no processor energy counter"):
        require_meter("rapl", kind="llvm", rapl_root=tmp_path)
    require_meter("auto", kind="llvm", rapl_root=tmp_path)
    require_meter("none", kind="llvm", rapl_root=tmp_path)


def test_meter_asked_for_by_name_that_works_is_accepted(tmp_path: Path) -> None:
    package(tmp_path, 0, 0)
    require_meter("rapl", kind="llvm", rapl_root=tmp_path)
