"""Messages of the tools are found, counted, and given to the candidate that was running."""

from __future__ import annotations

from tests.sanitizer.reports import report_of

MEMCHECK = """========= COMPUTE-SANITIZER
@@ begin 0
@@ end 0
@@ begin 1
========= Invalid __global__ read of size 16 bytes
=========     at main_kernel+0x90
=========     by thread (3,0,0) in block (1,0,0)
=========     Access to 0x7f0000000200 is out of bounds
=========
========= Invalid __global__ read of size 16 bytes
=========     at main_kernel+0x90
=========
@@ end 1 output y: 3 of 12 elements are wrong
@@ begin 2
@@ end 2
========= ERROR SUMMARY: 2 errors
"""
RACECHECK = """========= COMPUTE-SANITIZER
@@ begin 4
========= Error: Race reported between Write access at main_kernel+0x90
=========     and Read access at main_kernel+0xa0 [128 hazards]
=========
@@ end 4
@@ begin 5
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""


def test_messages_belong_to_the_candidate_begun_last() -> None:
    report = report_of(MEMCHECK)
    assert [report.outcomes[i].is_clean for i in range(3)] == [True, False, True]
    first, second = report.outcomes[1].findings
    assert first.splitlines()[0] == "Invalid __global__ read of size 16 bytes"
    assert "thread (3,0,0)" in first and "thread" not in second
    assert report.outcomes[1].wrong == "output y: 3 of 12 elements are wrong"
    assert (report.n_summed, report.n_findings, report.outside) == (2, 2, [])


def test_a_candidate_that_did_not_end_is_not_clean() -> None:
    report = report_of(RACECHECK)
    assert report.outcomes[4].findings == [
        "Error: Race reported between Write access at main_kernel+0x90\n"
        "and Read access at main_kernel+0xa0 [128 hazards]"
    ]
    assert not report.outcomes[5].ended and not report.outcomes[5].is_clean


def test_what_is_said_before_the_first_candidate_is_kept() -> None:
    report = report_of("========= Error: Device not supported.\n========= ERROR SUMMARY: 1 error\n")
    assert report.outside == ["Error: Device not supported."]
    assert report.n_summed == 1


def test_words_about_the_process_are_no_findings() -> None:
    died = (
        "@@ begin 0\n========= Error: process didn't terminate successfully\n=========     The app"
    )
    assert report_of(died).outcomes[0].findings == []


def test_a_tool_that_says_nothing_counted_nothing() -> None:
    assert report_of("Segmentation fault\n").n_summed is None
