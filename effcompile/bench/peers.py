"""What the vendor's libraries need for the tasks of a run: same inputs, clock and meter.

Every task of the run that torch has an operator for is checked against the run's own
reference, timed in bursts, and metered; the rows are kept in the run's database, so
a recording of it holds them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from effcompile.bench.harness import Contender, GpuHarness, Row
from effcompile.bench.kernels.contenders import difference
from effcompile.config import MeasureConfig, preset
from effcompile.measure.prepared import Prepared, folder_of, read_prepared
from effcompile.run_folder import RunFolder
from schedules.workload import Workload
from search.database import Database
from search.peer import PEER_NOTE, Peer

if TYPE_CHECKING:
    import torch

Call = Callable[[], "torch.Tensor"]
N_ROUNDS = 3
TOLERANCE = 0.02
"""Of the reference's root mean square: float16 results of sums in float32 stay far below."""


def peer_config() -> MeasureConfig:
    """Windows as candidates of a recording get them."""
    return replace(preset("quick").measure, energy_window_ms=300.0, settle_ms=400.0)


def measure_peers(run: RunFolder, *, seconds: float) -> list[Row]:
    """Measure the libraries for every task of a run, until the time is over.

    Args:
        run: Its prepared inputs and references must still be there.
        seconds: No task is begun afterwards.
    """
    end_s = time.monotonic() + seconds
    harness = GpuHarness(peer_config())
    found: list[Row] = []
    with Database(run.database_path) as database:
        for task in database.tasks():
            if time.monotonic() >= end_s:
                break
            folder = folder_of(task.workload, seed=0, root=run.work / "prepared")
            if not folder.is_dir():
                continue
            rows = _rows(harness, task.workload, read_prepared(task.workload, folder=folder))
            for row in rows:
                database.add_note(PEER_NOTE, _peer(task.task_id, row))
            found += rows
    return found


def _rows(harness: GpuHarness, workload: Workload, prepared: Prepared) -> list[Row]:
    import torch

    with harness.stream():
        inputs = [torch.from_numpy(np.array(one)).cuda() for one in prepared.inputs]
        contenders = [
            contender_of(name, call, prepared) for name, call in calls_of(workload, inputs)
        ]
    if not contenders:
        return []
    n_bytes = sum(one.nbytes for one in inputs)
    rows = harness.compare(workload.name, contenders, n_bytes=n_bytes, n_rounds=N_ROUNDS)
    del inputs, contenders
    torch.cuda.empty_cache()
    return rows


def calls_of(workload: Workload, inputs: list[torch.Tensor]) -> Iterator[tuple[str, Call]]:
    """Names and calls of the library kernels for a workload; none for unknown ones."""
    import torch
    from torch.nn import functional

    out = workload.outputs[0].shape
    if "conv2d" in workload.name:
        yield from _convolutions(out, *inputs)
    elif "matmul" in workload.name:
        product = torch.empty(out, dtype=inputs[0].dtype, device=inputs[0].device)
        yield "cuBLAS", lambda: torch.matmul(*inputs, out=product)
    elif workload.op == "softmax" or workload.name == "softmax":
        yield "torch.softmax", lambda: torch.softmax(inputs[0], -1)
    elif "layer_norm" in workload.name:
        data, scale, bias = inputs
        yield (
            "torch layer_norm",
            lambda: functional.layer_norm(data, data.shape[-1:], scale, bias),
        )


def _convolutions(
    out: Sequence[int], image: torch.Tensor, kernel: torch.Tensor
) -> Iterator[tuple[str, Call]]:
    """Of images and weights with their channels first, or with the channels last in all three."""
    import torch
    from torch.nn import functional

    torch.backends.cudnn.benchmark = True
    is_last = image.shape[3] == kernel.shape[3] and out[3] == kernel.shape[0]
    if is_last:
        image, kernel = image.permute(0, 3, 1, 2), kernel.permute(0, 3, 1, 2)
    stride = round(image.shape[2] / out[1 if is_last else 2])
    # An even kernel stands for an odd one, with zeros around the image already.
    padding = [size // 2 if size % 2 else 0 for size in kernel.shape[2:]]
    options = {"stride": stride, "padding": padding}
    last = torch.channels_last
    by_channel = image.to(memory_format=last), kernel.to(memory_format=last)
    if is_last:
        yield (
            "cuDNN NHWC",
            lambda: functional.conv2d(*by_channel, **options).permute(0, 2, 3, 1),
        )
        return
    yield "cuDNN NCHW", lambda: functional.conv2d(image, kernel, **options)
    # Layouts that a network could keep all along: nothing is transposed in the window.
    yield "cuDNN NHWC", lambda: functional.conv2d(*by_channel, **options)


def contender_of(name: str, call: Call, prepared: Prepared) -> Contender:
    """A call as a contender; without launches, and with the reason, if it is wrong or fails."""

    def launch() -> None:
        call()

    try:
        wrong = _wrong(call(), prepared)
    except Exception as error:  # a library that does not run here is a row that says so
        wrong = f"{type(error).__name__}: {str(error)[:200]}"
    return Contender(name=name, error=wrong) if wrong else Contender(name=name, launches=[launch])


def _wrong(found: Any, prepared: Prepared) -> str:
    reference = prepared.outputs[0].reference
    actual = reference.known(found.contiguous().cpu().numpy()).astype(np.float64)
    return difference(actual, reference.values, TOLERANCE)


def _peer(task_id: str, row: Row) -> Peer:
    return Peer(
        task_id=task_id,
        name=row.contender,
        latency_us=row.burst_us,
        latency_ci95_us=row.burst_ci95_us,
        sustained_latency_us=row.sustained_us,
        energy_mj=row.energy_mj,
        energy_ci95_mj=row.energy_ci95_mj,
        power_w=row.power_w,
        verdict=row.verdict,
        error=row.error,
    )
