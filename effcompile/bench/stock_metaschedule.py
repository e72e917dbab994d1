"""TVM's own tuner on one operator, as a child process: ``python -m`` this module.

Arguments: ONNX file, target JSON, number of trials, work folder. Prints one JSON
object: wall seconds of ``tune_tir`` and the latency of every trial that gave one.
Everything is stock (builder, runner, cost model, strategy), but for the faster
TVMScript parsing of ``schedules._tvm`` in this process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import msgspec

from schedules import _tvm
from schedules.target import Target

_FAILED_S = 1e9  # stock records failed builds and runs as 1e10 seconds


def main(model_path: str, target_json: str, n_trials: str, work_dir: str) -> None:
    """Tune the only task of a model and print the figures."""
    tvm = _tvm.load()
    import onnx
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.s_tir import meta_schedule as ms

    target = _tvm.tvm_target(msgspec.json.decode(target_json, type=Target))
    module = from_onnx(onnx.load(model_path), keep_params_in_input=False)
    with target:
        module = tvm.relax.get_pipeline("zero")(module)
    task = ms.relax_integration.extract_tasks(module, target, {}, module_equality="structural")[0]
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    database = ms.tir_integration.tune_tir(
        task.dispatched[0], target, work_dir, max_trials_global=int(n_trials)
    )
    wall_s = time.monotonic() - started
    seconds = [
        float(sum(map(float, record.run_secs)) / len(record.run_secs))
        for record in database.get_all_tuning_records()
        if record.run_secs
    ]
    latencies_us = [second * 1e6 for second in seconds if second < _FAILED_S]
    print(json.dumps({"wall_s": wall_s, "latencies_us": latencies_us}))


if __name__ == "__main__":
    main(*sys.argv[1:])
