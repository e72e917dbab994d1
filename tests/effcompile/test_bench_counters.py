"""Hardware counters: what ncu printed is read, named and judged; what fails says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from effcompile.bench.counters_csv import METRICS, ProfiledKernel, read_kernels
from effcompile.bench.counters_entries import ProfiledEntry, entries_of
from effcompile.bench.counters_rows import limit_of, rows_of
from effcompile.bench.counters_table import markdown
from effcompile.bench.counters_target import launch_all
from effcompile.errors import CountersUnavailable, UsageError
from schedules.target import Target
from tests.effcompile.cli.commands import call_main
from tests.effcompile.tiny_artifact import write_tiny

PRINTED = (Path(__file__).parent / "ncu_raw.csv").read_text()
H200 = Target(kind="cuda", arch="sm_90a", name="NVIDIA H200", n_cores=132)


def kernels_of(index: int) -> list[ProfiledKernel]:
    return [one for one in read_kernels(PRINTED) if one.range_name == f"entry{index}"]


def work_folder(tmp_path: Path) -> Path:
    """As ``bench kernels --together`` leaves it, with two cases."""
    folder = tmp_path / "work" / "together"
    folder.mkdir(parents=True)
    write_tiny(folder / "tuned.effc", H200, library=b"code")
    (folder / "cases.json").write_text(json.dumps({"main": "softmax", "rows": "gemv"}))
    return folder.parent


def install_ncu(monkeypatch: pytest.MonkeyPatch, root: Path, script: str) -> None:
    """A program ``ncu`` that finds its arguments in ``$@`` and the log file in ``$log``."""
    program = root / "bin" / "ncu"
    program.parent.mkdir(parents=True)
    find_log = 'for one; do [ "$before" = --log-file ] && log=$one; before=$one; done'
    program.write_text(f"#!/bin/sh\n{find_log}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_PATH", str(root))


def test_launches_are_read_with_their_range_and_numbers() -> None:
    kernels = read_kernels(PRINTED)
    assert [one.range_name for one in kernels] == ["entry0"] * 3 + ["entry1"] * 6
    first = kernels[0]
    assert first.name == "softmax_kernel"
    assert set(first.counters) == set(METRICS)
    assert first.counters["dram_read_bytes"] == 134_231_040
    assert first.counters["time_ns"] == 63_872
    assert first.counters["waves"] == 7.76
    assert first.n_samples["long_scoreboard"] == 2636


def test_no_table_is_no_kernel_and_another_unit_is_refused() -> None:
    assert read_kernels("==PROF== Disconnected from process 4242\n") == []
    with pytest.raises(CountersUnavailable, match=r"gpu__time_duration.sum is in ms, expected ns"):
        read_kernels(PRINTED.replace('"ns"', '"ms"'))


@pytest.mark.parametrize("text", ["n/a", "nan", "inf", ""])
def test_what_was_not_counted_is_no_number(text: str) -> None:
    (first, *_) = read_kernels(PRINTED.replace('"63,872"', f'"{text}"'))
    assert "time_ns" not in first.counters
    assert first.counters["registers"] == 32


def test_innermost_of_several_ranges_counts() -> None:
    outer = '""<default domain>:outer:none:none:none:none:none:none""'
    text = PRINTED.replace('""<default domain>:entry0', f'{outer}  ""<default domain>:entry0')
    assert [one.range_name for one in read_kernels(text)][:3] == ["entry0"] * 3


def test_rows_are_medians_and_samples_of_all_launches() -> None:
    (row,) = rows_of("softmax", kernels_of(0), n_launches=3)
    assert (row.limit, row.n_launches, row.registers) == ("dram", 3, 32)
    assert row.time_us == pytest.approx(63.872)
    assert row.dram_share == pytest.approx(0.7896)
    assert row.n_samples == 23_223
    # 2636 + 2710 + 2699 and 1910 + 1692 + 1778 of them.
    assert [one.reason for one in row.stalls] == ["long_scoreboard", "short_scoreboard"]
    assert [one.share for one in row.stalls] == pytest.approx([8045 / 23_223, 5380 / 23_223])


def test_warps_that_issue_are_not_stalled() -> None:
    kernels = read_kernels(PRINTED.replace('"160"', '"50,000"'))[:1]
    (row,) = rows_of("softmax", kernels, n_launches=1)
    assert [one.reason for one in row.stalls] == ["long_scoreboard", "short_scoreboard"]
    assert row.stalls[0].share < 0.06


def test_kernels_of_one_entry_point_are_told_apart_by_their_order() -> None:
    gemv, total = rows_of("gemv", kernels_of(1), n_launches=3)
    assert (gemv.kernel, gemv.limit, gemv.time_us) == ("gemv_dequant_kernel", "launch", 7.904)
    assert (total.kernel, total.limit, total.time_us) == ("gemv_dequant_kernel_1", "launch", 2.784)
    (wrong,) = rows_of("gemv", kernels_of(1), n_launches=4)
    assert wrong.error == "cannot tell kernels apart: found 6 kernels in 4 launches"


def test_counters_that_this_gpu_lacks_are_dashes() -> None:
    text = PRINTED.replace("sm__pipe_tensor_cycles_active", "sm__another")
    (row,) = rows_of("softmax", read_kernels(text)[:3], n_launches=3)
    assert (row.tensor_share, row.limit) == (None, "dram")
    assert "| 79 | - | 27 |" in markdown([row])


@pytest.mark.parametrize(
    ("dram", "tensor", "issue", "sm", "limit"),
    [
        (0.85, 0.0, 0.3, 0.98, "dram"),
        (0.61, 0.82, 0.65, 0.98, "tensor"),
        (0.2, None, 0.6, 0.5, "issue"),
        (0.59, 0.59, 0.59, 0.74, "launch"),
        (0.59, 0.59, 0.59, 0.75, "latency"),
        (None, None, None, None, "latency"),
    ],
)
def test_limit_is_the_busiest_full_unit_or_why_none_is(
    dram: float | None, tensor: float | None, issue: float | None, sm: float | None, limit: str
) -> None:
    assert limit_of({"dram": dram, "tensor": tensor, "issue": issue}, sm) == limit


def test_work_folders_know_their_cases_and_artifacts_their_entry_points(tmp_path: Path) -> None:
    work = work_folder(tmp_path)
    names = ["softmax", "gemv", "join", "same", "half"]
    assert [one.name for one in entries_of(work)] == names
    assert [one.entry for one in entries_of(work / "together" / "tuned.effc", ["gemv"])] == ["rows"]
    (work / "together" / "cases.json").unlink()
    assert [one.name for one in entries_of(work, ["main"])] == ["main"]


def test_nothing_to_profile_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no tuned.effc below"):
        entries_of(tmp_path)
    with pytest.raises(UsageError, match=r"no sofa in .*: expected one of softmax, gemv"):
        entries_of(work_folder(tmp_path), ["sofa"])
    write_tiny(tmp_path / "cpu.effc", library=b"code")
    with pytest.raises(UsageError, match="only kernels of a CUDA GPU"):
        entries_of(tmp_path / "cpu.effc")


def test_target_launches_inside_ranges_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    seen = []

    @contextmanager
    def opened(name: str) -> Iterator[None]:
        seen.append(name)
        yield
        seen.append("end")

    path = tmp_path / "tiny.effc"
    write_tiny(path)
    entries = [ProfiledEntry(artifact=str(path), entry=name) for name in ("main", "rows", "half")]
    (failed,) = launch_all(entries, 2, opened)
    assert failed.index == 1
    assert failed.error.startswith("OpenDimensions: cannot make inputs for rows")
    assert seen == ["entry0", "end", "entry2", "end"]


def test_command_prints_rows_and_keeps_what_ncu_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = work_folder(tmp_path)
    sample = tmp_path / "sample.csv"
    sample.write_text(PRINTED)
    failed = '{"index":2,"error":"BadInput: no"}'
    script = f"""cp {sample} "$log"; echo '{failed}'; echo "$@" > {tmp_path}/args"""
    install_ncu(monkeypatch, tmp_path / "cuda", script)
    wanted = ["--only", "softmax", "--only", "gemv", "--only", "join"]
    kept = ["--raw", tmp_path / "raw.csv", "--markdown", tmp_path / "table.md"]
    assert call_main("bench", "counters", work, *wanted, *kept, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["limit"], row["error"]) for row in rows] == [
        ("softmax", "dram", ""),
        ("gemv", "launch", ""),
        ("gemv", "launch", ""),
        ("join", "", "BadInput: no"),
    ]
    assert (tmp_path / "raw.csv").read_text() == PRINTED
    table = (tmp_path / "table.md").read_text().splitlines()
    assert table[2].startswith("| softmax | softmax_kernel | dram | 63.87 | 134.23 | 107.88 | 79 |")
    arguments = (tmp_path / "args").read_text()
    assert "--cache-control all --clock-control none" in arguments
    assert "--nvtx-include=entry2/" in arguments
    assert "entry3/" not in arguments
    assert all(metric in arguments for metric in METRICS.values())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo "==ERROR== ERR_NVGPUCTRPERM - no permission" > "$log"', "Run this as root"),
        ('echo "==ERROR== Profiling failed" > "$log"', "nothing: ==ERROR== Profiling failed. "),
        ('echo "ImportError: no torch" >&2; exit 1', "nothing: ImportError: no torch. "),
    ],
)
def test_refused_counters_are_one_message(
    script: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install_ncu(monkeypatch, tmp_path / "cuda", script)
    assert call_main("bench", "counters", work_folder(tmp_path)) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_ncu_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("effcompile.bench.counters_ncu.ncu_path", lambda: None)
    assert call_main("bench", "counters", work_folder(tmp_path)) == 1
    assert "found no ncu (Nsight Compute)" in capsys.readouterr().err


def test_columns_without_numbers_are_left_out_of_the_markdown() -> None:
    table = markdown(rows_of("softmax", kernels_of(0), n_launches=3))
    assert "error" not in table
    assert "long_scoreboard 35 %, short_scoreboard 23 % of 23223 samples" in table
