"""Cases of the kernel benchmark: well formed, their models checked, wrong results seen."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from effcompile.bench.harness import _row
from effcompile.bench.kernels import (
    combine_partials_cases,
    frame_cosine_cases,
    mixture_cases,
    row_case,
    segment_mean_cases,
)
from effcompile.bench.kernels.case import KernelCase, all_cases, chosen_cases, without_peers
from effcompile.bench.kernels.compare import tuned
from effcompile.bench.kernels.contenders import contenders, difference, n_sets
from effcompile.cli.main import app
from effcompile.config import TuneConfig, preset
from effcompile.errors import UsageError
from search.trial import EnergyMeasurement, LatencyMeasurement, Verdict
from tests.effcompile.lowered_models import lowered, run_lowered


def test_names_are_distinct_and_fit_into_file_names() -> None:
    names = [case.name for case in all_cases()]
    assert len(set(names)) == len(names) > 0
    assert [name for name in names if not re.fullmatch(r"[\w.-]+", name)] == []


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_models_are_onnx_with_static_shapes(case: KernelCase) -> None:
    graph = case.model().graph
    assert case.n_bytes > 0
    assert case.peers
    for value in [*graph.input, *graph.output]:
        assert all(axis.dim_value > 0 for axis in value.type.tensor_type.shape.dim), value.name


def test_unknown_family_and_case_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown --family nonsense: expected one of .*softmax"):
        chosen_cases(["nonsense"], [])
    with pytest.raises(UsageError, match="unknown --case nonsense"):
        chosen_cases([], ["nonsense"])


def test_named_cases_come_in_the_order_they_are_named() -> None:
    last, first = (case.name for case in (all_cases()[0], all_cases()[-1]))
    assert [case.name for case in chosen_cases([], [first, last])] == [first, last]


def test_names_can_be_listed_without_a_gpu() -> None:
    result = CliRunner().invoke(app, ["bench", "kernels", "--family", "softmax", "--names"])
    assert result.exit_code == 0
    assert "softmax-8192x4096-float32" in result.stdout.split()


@pytest.mark.parametrize("command", ["kernels", "workloads --out run"])
def test_names_are_a_json_document_too(command: str) -> None:
    result = CliRunner().invoke(app, ["bench", *command.split(), "--names", "--json"])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) > 3


def test_first_difference_is_named() -> None:
    expected = np.ones((2, 3))
    found = expected.copy()
    found[1, 2] = 1.5
    assert difference(found, expected, 0.6) == ""
    assert difference(found, expected, 0.1) == (
        "1 of 6 elements differ, the first at [1, 2]: 1.5, expected 1"
    )
    found[0, 1] = np.nan
    assert "first at [0, 1]: nan" in difference(found, expected, 0.6)
    assert difference(expected[:1], expected, 1.0) == "shape [1, 3], expected [2, 3]"


def test_a_large_element_may_be_off_by_its_own_rounding() -> None:
    expected = np.array([*[0.01] * 999, 16.06])
    rounded = torch.from_numpy(expected).bfloat16().double().numpy()
    assert difference(rounded, expected, 4e-3) == ""
    assert "first at [999]: 17" in difference(np.where(expected > 1, 17, expected), expected, 4e-3)


def test_infinite_references_must_be_met_exactly() -> None:
    expected = np.array([1.0, -np.inf])
    assert difference(expected.copy(), expected, 0.0) == ""
    assert "expected -inf" in difference(np.array([1.0, 3.0]), expected, 10.0)


def test_wrong_and_failing_peers_are_rows_that_say_so() -> None:
    def failing(inputs: object) -> None:
        raise RuntimeError("no such\nkernel")

    case = KernelCase(
        name="doubled",
        family="none",
        model=onnx.ModelProto,
        inputs=lambda seed: [torch.full((4,), float(seed))],
        reference=lambda inputs: [2 * inputs[0]],
        n_bytes=32,
        tolerance=1e-6,
        peers={
            "right": lambda inputs: lambda: 2 * inputs[0],
            "wrong": lambda inputs: lambda: 3 * inputs[0],
            "failing": failing,
        },
    )
    sets = [case.inputs(seed) for seed in (1, 2)]
    ours, right, wrong, failed = contenders(case, "BadModel: not built", sets)
    assert (ours.error, list(ours.launches)) == ("BadModel: not built", [])
    assert (right.error, len(right.launches)) == ("", 2)
    assert wrong.error.startswith("wrong result: output 0: 4 of 4 elements differ")
    assert failed.error == "RuntimeError: no such kernel"
    _, *quiet = contenders(without_peers(case, ["ong", "double:fail", "other:ri"]), "", sets)
    assert [one.error for one in quiet] == [
        "",
        "UsageError: left out by --skip-peer",
        "UsageError: left out by --skip-peer",
    ]
    assert n_sets(case, "hot", 64) == 1
    assert n_sets(case, "cold", 64) == 4


def test_cases_of_one_session_are_entry_points_with_trials_for_each(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import effcompile.building
    import effcompile.tuning

    seen: dict[str, Any] = {}

    def tune(models: dict[str, Any], out: Path, *, target: str, config: TuneConfig) -> None:
        seen.update(models=models, target=target, search=config.search)

    def build(runs: list[Path], out: Path, *, measure: bool) -> None:
        seen.update(runs=runs, out=out)

    monkeypatch.setattr(effcompile.tuning, "tune_models", tune)
    monkeypatch.setattr(effcompile.building, "build_artifact", build)
    cases = {f"case{i}": case for i, case in enumerate(all_cases()[:2])}
    small = {entry: replace(case, model=lambda entry=entry: entry) for entry, case in cases.items()}
    assert tuned(small, preset("quick"), tmp_path) == tmp_path / "tuned.effc"
    assert seen["models"] == {"case0": "case0", "case1": "case1"}
    assert seen["search"].n_trials == 2 * preset("quick").search.n_trials
    assert seen["runs"] == [tmp_path / "run"]
    assert json.loads((tmp_path / "cases.json").read_text()) == {
        entry: case.name for entry, case in cases.items()
    }


def test_one_usable_window_of_several_rounds_is_enough_for_a_row() -> None:
    timing = LatencyMeasurement(
        latency_us=10.0, ci95_us=0.5, n_repeats=6, n_launches=1, method="graph", cache="hot"
    )
    refused = EnergyMeasurement(energy_mj=None, meter="nvml", verdict=Verdict.UNSETTLED)
    usable = EnergyMeasurement(
        energy_mj=3.0, ci95_mj=0.1, power_w=300.0, meter="nvml", verdict=Verdict.OK
    )
    row = _row(
        workload="w",
        name="n",
        timings=[timing, timing],
        energies=[refused, usable],
        n_bytes=1000,
        n_flops=0,
        error="",
    )
    assert (row.energy_mj, row.energy_ci95_mj, row.power_w) == (3.0, 0.1, 300.0)
    assert (row.burst_us, row.verdict) == (10.0, "unsettled")


SMALL_MERGES = {
    "cosine": lambda: frame_cosine_cases._cosine(24, 8, 6, "float32"),
    "mean": lambda: segment_mean_cases._mean(24, 10, 8, 6, "float32"),
    "pool": lambda: segment_mean_cases._pool(2, 13, 9, 6, "float32"),
    "expand": lambda: mixture_cases._expand(2, 9, 13, 6, "float32"),
    "renoise": lambda: mixture_cases._renoise(3, 9, 5, 4, "float32"),
    "select": lambda: mixture_cases._select(5, 4, 8, "float32"),
    "partials": lambda: combine_partials_cases._partials(3, 7, 4, "float32"),
}


@pytest.mark.parametrize("name", SMALL_MERGES)
def test_merge_models_references_and_peers_agree(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (row_case, segment_mean_cases, mixture_cases):
        monkeypatch.setattr(module, "DEVICE", "cpu")
    case = SMALL_MERGES[name]()
    inputs = case.inputs(0)
    expected = [one.numpy() for one in case.reference(inputs)]
    found = run_lowered(lowered(case.model()), [one.numpy() for one in inputs])
    peer = case.peers["torch eager"](inputs)()
    others = [one.numpy() for one in (peer if isinstance(peer, tuple) else [peer])]
    for ours, theirs, reference in zip(found, others, expected, strict=True):
        assert difference(ours, reference, 1e-5) == ""
        assert difference(theirs, reference, 1e-5) == ""
