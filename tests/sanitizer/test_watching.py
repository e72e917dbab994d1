"""Watched processes with a stand-in for ``compute-sanitizer``: killed, restarted, late, silent."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from schedules.workload import TensorSpec, Workload
from tests.sanitizer import tools, watching
from tests.sanitizer.plans import Plan, PlannedRun, write_plan
from tests.sanitizer.table import rows_of, table_of
from tests.sanitizer.watching import Result, Watch

# It runs nothing: it goes through a plan as its candidates' names say.
STAND_IN = f"""#!{sys.executable}
import json, sys, time
words = sys.argv[1:]
if words == ["--help"]:
    print("  --port arg   first port\\n  --padding arg   bytes")
    sys.exit()
assert "--port" in words and "--num-cuda-barriers" not in words
program = words[words.index("-m") + 1 :]
print("========= COMPUTE-SANITIZER")
if program[0] == "tests.sanitizer.faulty":
    print("@@ begin 0\\n========= Invalid read\\n=========     at memcheck+0x10\\n@@ end 0")
    print("========= ERROR SUMMARY: 1 error")
    sys.exit()
n_errors = 0
for index, run in enumerate(json.load(open(program[1]))["runs"]):
    if index < int(program[2]):
        continue
    print(f"@@ begin {{index}}")
    if run["problem"] == "dies":
        sys.exit(1)
    if run["problem"] == "hangs":
        sys.stdout.flush()
        time.sleep(60)
    if run["problem"] == "reads too far":
        print("========= Invalid read\\n=========     at main_kernel+0x10\\n=========")
        n_errors += 1
    print(f"@@ end {{index}}" + " output y: wrong" * (run["problem"] == "wrong"))
print(f"========= ERROR SUMMARY: {{n_errors}} errors")
"""
X = TensorSpec(name="x", shape=(1,), dtype="float32")
WORKLOAD = Workload(op="copy", name="copy", inputs=(X,), outputs=(X,), program="", program_hash="")


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    stand_in = tmp_path / "compute-sanitizer"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("COMPUTE_SANITIZER", str(stand_in))
    tools._said.cache_clear()
    return Watch(tmp_path / "raw", {}, seconds=30)


def run(watch: Watch, folder: Path, *problems: str) -> Result:
    made = (
        PlannedRun(problem=one, decisions="{}", workload=WORKLOAD, data="", library="")
        for one in problems
    )
    plan = Plan(family="copy", runs=tuple(made))
    write_plan(plan, folder / "plan.json")
    return watch.family(plan, folder / "plan.json", "memcheck", 0)


def test_what_is_right_is_clean(watch: Watch, tmp_path: Path) -> None:
    result = run(watch, tmp_path, "right", "right")
    assert [one.is_clean for one in result.outcomes.values()] == [True, True]
    assert result.troubles == []


def test_a_candidate_that_takes_the_process_along_leaves_the_others(
    watch: Watch, tmp_path: Path
) -> None:
    result = run(watch, tmp_path, "right", "dies", "reads too far", "wrong", "right")
    assert [one.is_clean for one in result.outcomes.values()] == [True, False, False, False, True]
    assert not result.outcomes[1].ended
    assert result.outcomes[2].findings == ["Invalid read\nat main_kernel+0x10"]
    assert result.outcomes[3].wrong == "output y: wrong"
    assert result.troubles == ["the tool counted None errors"]
    (row,) = rows_of([result])
    assert not row.is_clean
    assert "| `copy` | 5 | 1 reported, 1 wrong, 1 not run |" in table_of([row], ["memcheck"])


def test_a_process_that_hangs_is_stopped_and_followed_by_another(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PROCESS_S", 0.7)
    result = run(watch, tmp_path, "hangs", "right")
    assert [one.is_clean for one in result.outcomes.values()] == [False, True]
    assert result.troubles == ["stopped after 1 s"]


def test_without_time_nothing_is_run(watch: Watch, tmp_path: Path) -> None:
    spent = Watch(tmp_path / "raw", {}, seconds=0)
    result = run(spent, tmp_path, "right")
    assert (result.outcomes, result.troubles) == ({}, ["no time left"])
    (row,) = rows_of([result])
    assert str(row.cells["memcheck"]) == "1 not run"


def test_a_tool_that_does_not_report_a_faulty_kernel_is_not_trusted(
    watch: Watch, tmp_path: Path
) -> None:
    result = watch.faulty(tmp_path / "faulty.cubin", "memcheck", 0)
    assert rows_of([result])[0].is_clean
    result.outcomes[0].findings.clear()
    assert not rows_of([result])[0].is_clean
