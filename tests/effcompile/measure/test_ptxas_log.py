from __future__ import annotations

from effcompile.measure.nvrtc import errors_first
from effcompile.measure.ptxas_log import parse

LOG = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'main_kernel_1' for 'sm_90'
ptxas info    : Function properties for main_kernel_1
    16 bytes stack frame, 24 bytes spill stores, 32 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function 'main_kernel' for 'sm_90'
ptxas info    : Function properties for main_kernel
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 21 registers, used 1 barriers, 6912 bytes smem
"""


def test_every_kernel_has_its_own_numbers() -> None:
    spilling, clean = parse(LOG)
    assert (spilling.name, spilling.registers_per_thread) == ("main_kernel_1", 255)
    assert (spilling.spill_bytes, spilling.stack_bytes) == (56, 16)
    assert spilling.static_shared_bytes == 0
    assert (clean.name, clean.registers_per_thread) == ("main_kernel", 21)
    assert (clean.spill_bytes, clean.static_shared_bytes) == (0, 6912)


def test_a_log_that_ends_early_gives_what_it_has() -> None:
    assert [report.name for report in parse(LOG[: LOG.index("Used 21")])] == ["main_kernel_1"]
    assert parse("") == []


def test_what_is_kept_of_a_long_log_begins_with_its_errors() -> None:
    log = "a.cu(1): warning #177-D: unused\n  int x;\na.cu(9): error: too many arguments\n    f(1);"
    first, *rest = errors_first(log).splitlines()
    assert first == "a.cu(9): error: too many arguments"
    assert rest == log.splitlines()
    assert errors_first("nothing wrong") == "nothing wrong"
