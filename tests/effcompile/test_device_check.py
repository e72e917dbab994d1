from __future__ import annotations

import pytest

from effcompile.device_check import cuda_code_runs, missing_cpu_flags


@pytest.mark.parametrize(
    ("built_for", "device", "runs"),
    [
        ("sm_90", "sm_90", True),
        ("sm_80", "sm_86", True),
        ("sm_86", "sm_80", False),
        ("sm_80", "sm_90", False),
        ("sm_90a", "sm_90", True),
        ("sm_100a", "sm_103", False),
        ("sm_100", "sm_103", True),
        ("sm_120", "sm_100", False),
        ("x86-64-v3", "sm_90", False),
    ],
)
def test_machine_code_runs_on_its_generation_only(built_for: str, device: str, runs: bool) -> None:
    assert cuda_code_runs(built_for=built_for, device=device) is runs


def test_processor_levels_include_the_lower_ones() -> None:
    level_2 = frozenset({"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"})
    assert missing_cpu_flags("x86-64-v2", level_2) == set()
    assert "avx2" in missing_cpu_flags("x86-64-v3", level_2)
    assert "ssse3" in missing_cpu_flags("x86-64-v3", frozenset({"avx2"}))


def test_unknown_names_and_unknown_processors_are_let_through() -> None:
    assert missing_cpu_flags("znver4", frozenset({"sse2"})) == set()
    assert missing_cpu_flags("x86-64-v4", frozenset()) == set()
