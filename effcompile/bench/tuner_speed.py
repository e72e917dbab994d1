"""Trials per second and memory of the tuner, beside stock MetaSchedule with as many trials."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from effcompile.bench.process_memory import ProcessUse, run_measured
from effcompile.bench.single_ops import matmul_model, softmax_model
from effcompile.errors import UsageError
from effcompile.onnx_files import write_onnx
from schedules.errors import EffcompileError
from schedules.target import Target

_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One tuner on one workload.

    Attributes:
        workload: For people.
        tuner: ``effcompile`` or ``metaschedule``.
        n_trials: Trials asked for.
        n_timed: Trials that gave a latency.
        loop_s: Seconds of the tuning loop, imports excluded.
        trials_per_s: ``n_trials`` over ``loop_s``.
        process_s: Seconds of the whole process.
        best_us: Least latency found; each tuner's own number.
        peak_main_mib: Peak resident memory of the tuner process.
        peak_tree_mib: Peak proportional memory of the tuner and its children.
    """

    workload: str
    tuner: str
    n_trials: int
    n_timed: int
    loop_s: float
    trials_per_s: float
    process_s: float
    best_us: float | None
    peak_main_mib: float
    peak_tree_mib: float


def bench_tuner_speed(
    names: Sequence[str],
    *,
    n_trials: int,
    target: Target,
    work: Path,
    stock: bool,
    watch: Callable[[SpeedRow], None],
) -> list[SpeedRow]:
    """Run both tuners, each in a process of its own, one after the other.

    Args:
        names: Keys of :func:`workloads`.
        n_trials: Trials for each tuner.
        target: Must be the device of this machine.
        work: Folder for models, runs and logs.
        stock: Also run stock MetaSchedule.
        watch: Told of every row at once, so that a run cut off has lost none.

    Raises:
        UsageError: There is no workload of such a name, or stock MetaSchedule lacks a package.
    """
    available = workloads()
    unknown = sorted(set(names) - set(available))
    if unknown:
        raise UsageError(f"unknown workload {unknown[0]}: expected {', '.join(available)}.")
    if stock and find_spec("cloudpickle") is None:
        raise UsageError(
            "stock MetaSchedule needs cloudpickle, which is not installed: "
            "pip install -e '.[rpc]', or leave it out with --no-stock."
        )
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        model = work / f"{name}.onnx"
        write_onnx(available[name], model)
        for tuner in (_ours, _stock) if stock else (_ours,):
            rows.append(tuner(name, model, n_trials, target, work))
            watch(rows[-1])
    return rows


def workloads() -> dict[str, Any]:
    """Name to ONNX model of one operator."""
    return {
        "softmax-256x256-float32": softmax_model(256, 256, "float32"),
        "softmax-4096x4096-float32": softmax_model(4096, 4096, "float32"),
        "matmul-256-float32": matmul_model(256, 256, 256, "float32"),
        "matmul-2048-float16": matmul_model(2048, 2048, 2048, "float16"),
    }


def _ours(name: str, model: Path, n_trials: int, target: Target, work: Path) -> SpeedRow:
    from search.database import Database
    from search.trial import TrialState

    out = work / f"{name}-run"
    kind = "cuda" if target.kind == "cuda" else "cpu"
    use = run_measured(
        [
            *(sys.executable, "-m", "effcompile", "tune", str(model), "--out", str(out)),
            *("--target", kind, "--trials", str(n_trials), "--meter", "none"),
        ],
        work / f"{name}-effcompile.log",
        timeout_s=_TIMEOUT_S,
    )
    _require_success(use, f"effcompile on {name}", work)
    with Database(out, read_only=True) as database:
        trials = [trial for trial in database.trials() if trial.state is not TrialState.PROPOSED]
        session = database.sessions()[-1]
    latencies = [trial.latency.latency_us for trial in trials if trial.latency]
    loop_s = session.build_s + session.latency_s + session.model_s
    return _row(name, "effcompile", use, n_trials=len(trials), latencies=latencies, loop_s=loop_s)


def _stock(name: str, model: Path, n_trials: int, target: Target, work: Path) -> SpeedRow:
    use = run_measured(
        [
            *(sys.executable, "-m", "effcompile.bench.stock_metaschedule", str(model)),
            *(msgspec.json.encode(target).decode(), str(n_trials), str(work / f"{name}-stock")),
        ],
        work / f"{name}-metaschedule.log",
        timeout_s=_TIMEOUT_S,
    )
    _require_success(use, f"MetaSchedule on {name}", work)
    figures = json.loads(use.stdout.strip().splitlines()[-1])
    return _row(
        name,
        "metaschedule",
        use,
        n_trials=n_trials,
        latencies=figures["latencies_us"],
        loop_s=figures["wall_s"],
    )


def _require_success(use: ProcessUse, what: str, work: Path) -> None:
    if use.exit_status != 0:
        raise EffcompileError(
            f"{what} ended with status {use.exit_status}: see the logs in {work}."
        )


def _row(
    name: str, tuner: str, use: ProcessUse, *, n_trials: int, latencies: list[float], loop_s: float
) -> SpeedRow:
    return SpeedRow(
        workload=name,
        tuner=tuner,
        n_trials=n_trials,
        n_timed=len(latencies),
        loop_s=loop_s,
        trials_per_s=n_trials / loop_s,
        process_s=use.wall_s,
        best_us=min(latencies, default=None),
        peak_main_mib=use.peak_main_mib,
        peak_tree_mib=use.peak_tree_mib,
    )
