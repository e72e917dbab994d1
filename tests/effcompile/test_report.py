"""Reports of a run folder: collected numbers, tables, page, JSON."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from effcompile.report import charts
from effcompile.report.collect import collect
from effcompile.report.html import render_html, write_html
from effcompile.report.payback import payback_of
from effcompile.report.records import RunReport, Spent
from effcompile.report.terminal import render
from search.database import Database
from search.errors import DatabaseMissing
from search.identity import Identity
from tests.effcompile.made_run import NO_METER, TARGET, make_run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return collect(make_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def unmetered(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    return collect(make_run(tmp_path_factory.mktemp("run"), measures_energy=False))


def printed(report: RunReport, width: int = 100) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(report))
    return console.export_text()


def test_outcomes_come_from_the_final_comparison(report: RunReport) -> None:
    matmul, softmax, conv = report.tasks
    assert matmul.is_final and matmul.space == "tvm" and not matmul.is_tie
    assert matmul.comparison.latency_ratio is not None
    assert matmul.comparison.latency_ratio.median == pytest.approx(0.921)
    assert matmul.comparison.energy_mj is not None
    assert matmul.comparison.energy_mj.value == pytest.approx(400 * 0.16 * 0.858)
    assert softmax.is_tie and softmax.chosen_trial_id == softmax.default_trial_id
    assert not conv.is_final and conv.comparison.latency_ratio is None


def test_a_run_without_tasks_still_names_its_device(tmp_path: Path) -> None:
    with Database(tmp_path / "trials.sqlite") as database:
        database.claim(Identity(model_hash="m", target=TARGET), config_json="{}")
    report = collect(tmp_path)
    assert (report.device, report.arch, report.tasks) == (TARGET.name, TARGET.arch, ())


def test_convergence_never_rises_and_failures_are_counted(report: RunReport) -> None:
    for task in report.tasks:
        best = [step.latency_us for step in task.improvements]
        assert best == sorted(best, reverse=True)
        n_failed = sum(kind.count for kind in task.failures)
        assert n_failed + len(task.points) == task.n_trials == 31
    assert report.tasks[0].failures[0].example in (
        "too much <shared> data",
        "12 of 8192 elements differ",
    )


def test_search_cost_and_payback(report: RunReport) -> None:
    assert report.spent.window_energy_j == 5200
    # 5200 J over 830 mJ * (1 - 0.886) per run.
    assert report.payback.n_runs == pytest.approx(5200 / (0.830 * 0.114))


def test_payback_falls_back_to_tasks_and_ignores_ties(report: RunReport) -> None:
    payback = payback_of(report.spent, (), report.tasks)
    # Only the matrix product changed: 12 calls of 64 mJ * (1 - 0.858).
    assert payback.saved_mj == pytest.approx(12 * 64 * 0.142)
    assert payback.basis == "the sum over tasks"
    nothing = payback_of(report.spent, (), report.tasks[1:2])
    assert nothing.n_runs is None and "no saving" in nothing.basis
    unmetered = Spent(n_sessions=1, seconds={}, window_energy_j=None)
    assert payback_of(unmetered, report.models, report.tasks).n_runs is None


def test_terminal_shows_numbers_with_intervals_and_ties(report: RunReport) -> None:
    text = printed(report)
    for piece in ("400.0 ± 0.4 µs", "54.9 ± 0.3 mJ", "−14.2 % [−14.8, −13.6]", "default, tie"):
        assert piece in text
    assert "about 55\u202f000 runs" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_latency_under_lasting_load_stands_beside_that_of_bursts(report: RunReport) -> None:
    (matmul, *_) = report.tasks
    assert matmul.comparison.latency_us is not None and matmul.comparison.sustained_us is not None
    # 400 us * 0.921 in bursts, 4 % more under lasting load.
    assert matmul.comparison.latency_us.value == pytest.approx(368.4)
    assert matmul.comparison.sustained_us.value == pytest.approx(383.1, abs=0.1)
    for text in (printed(report), render_html(report)):
        assert "sustained" in text and "383 µs" in text and "416 µs" in text


def test_the_calibration_of_the_meter_is_shown(report: RunReport, unmetered: RunReport) -> None:
    for text in (printed(report), render_html(report)):
        shown = re.sub(r"\s+", " ", text)
        assert "counter steps every 100.0 ms" in shown
        assert "idle 80 W before load, 120 W after" in shown
    assert "counter steps" not in printed(unmetered)


def test_joules_of_the_whole_session_go_before_those_of_windows(report: RunReport) -> None:
    counted = replace(report.spent, device_energy_j=90_000.0)
    payback = payback_of(counted, report.models, report.tasks)
    assert payback.n_runs == pytest.approx(90_000 / (0.830 * 0.114))
    text = re.sub(r"\s+", " ", printed(replace(report, spent=counted, payback=payback)))
    assert "the device drew 90000 J meanwhile, all counted" in text
    assert "not metered" not in text


def test_narrow_terminals_lose_no_number(report: RunReport) -> None:
    assert "−14.2 % [−14.8, −13.6]" in printed(report, width=80)


def test_unmeasured_energy_says_so_and_why(unmetered: RunReport) -> None:
    for text in (printed(unmetered), render_html(unmetered)):
        assert "not measured" in text
        assert NO_METER in re.sub(r"\s+", " ", text)
        assert not re.search(r"\d (m|µ)?J\b", text)


def test_page_is_self_contained_and_escapes_names(report: RunReport) -> None:
    page = render_html(report)
    assert "&lt;conv&gt;" in page and "<conv>" not in page
    assert "too much &lt;shared&gt; data" in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=[\"'](?!#)(?:https?:)?//", page)
    assert page.count("<svg") == 1 + 2 * len(report.tasks)


def test_pictures_are_well_formed_and_take_the_page_colours(report: RunReport) -> None:
    for picture in (charts.gains_chart(report), *charts.charts_of(report.tasks).values()):
        for svg in [picture] if isinstance(picture, str) else picture:
            ElementTree.fromstring(svg.replace("xlink:href", "href"))
            assert "currentColor" in svg
            assert "#01" not in svg


def test_same_run_same_page(report: RunReport) -> None:
    assert render_html(report) == render_html(report)


def test_empty_run_has_a_report(tmp_path: Path, report: RunReport) -> None:
    empty = replace(report, tasks=(), models=(), n_trials=0)
    assert "0 tasks" in printed(empty)
    write_html(empty, tmp_path / "report.html")
    assert "Not measured yet" in (tmp_path / "report.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_json_round_trip(report: RunReport) -> None:
    assert msgspec.json.decode(msgspec.json.encode(report), type=RunReport) == report


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing):
        collect(tmp_path)
