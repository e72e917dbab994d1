from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from effcompile.doctor import CHECKS, examine, machine, software
from effcompile.doctor.check import Check


@pytest.mark.timeout(180)
def test_every_check_answers_and_the_answers_are_json() -> None:
    findings = examine()
    assert len(findings) == len(CHECKS)
    assert not [check.found for check in findings if "the check itself failed" in check.found]
    assert all(check.advice for check in findings if check.status != "ok")
    text = msgspec.json.encode(findings)
    assert msgspec.json.decode(text, type=list[Check]) == findings


def test_a_check_that_dies_becomes_a_finding() -> None:
    def lost_driver() -> Check:
        raise OSError("libcuda is gone")

    found = examine([lost_driver, software.python])
    assert [check.status for check in found] == ["warn", "ok"]
    assert found[0].name == "lost driver"
    assert "OSError: libcuda is gone" in found[0].found


def test_bad_pin_names_the_version_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    fake = {"apache-tvm-ffi": "0.1.15.post2"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: fake.get(name) or real(name))
    check = software.tvm_pins()
    assert check.status == "fail"
    assert "apache-tvm-ffi 0.1.15.post2" in check.found
    assert "apache-tvm-ffi==0.1.14.post1" in check.advice


def test_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.1+cpu")
    assert software.torch().status == "fail"


def test_a_package_that_hides_ours_is_found(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__init__.py").write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from effcompile.doctor.software import one_installation\n"
        "check = one_installation()\n"
        f"assert check.status == 'fail' and {str(tmp_path)!r} in check.found, check\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_linker_that_cannot_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'cannot find crti.o' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    check = machine.linker()
    assert check.status == "fail" and "cannot find crti.o" in check.found
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "none of g++" in machine.linker().found


def test_unreadable_energy_counters_say_how_to_open_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = tmp_path / "intel-rapl:0" / "energy_uj"
    counter.parent.mkdir()
    counter.write_text("123\n")
    (counter.parent / "name").write_text("package-0\n")
    (counter.parent / "max_energy_range_uj").write_text("999999\n")
    monkeypatch.setattr(machine, "_RAPL", tmp_path)
    still = machine.cpu_energy()
    assert still.status == "warn" and "the counter stood still for 600 ms" in still.found
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    check = machine.cpu_energy()
    assert check.status == "warn" and f"sudo chmod a+r {counter}" in check.advice
