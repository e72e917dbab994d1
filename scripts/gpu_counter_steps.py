#!/usr/bin/env python3
"""Read a GPU's energy counter as fast as it answers: gpu_counter_steps.py OUT.npz

One steady load runs meanwhile, twenty seconds.

Writes ``call_us`` (n, 2), begin and end of every call in microseconds from the first on, and
``counter_mj`` (n,), the counter's growth. Needs PyTorch and a CUDA GPU.
"""

from __future__ import annotations

import sys
import time
from collections import deque

import numpy as np
import pynvml
import torch

SECONDS, N, PRODUCTS_PER_GRAPH = 20.0, 2048, 50


def main() -> None:
    """Load, read, write."""
    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
    left, right = (torch.randn(N, N, device="cuda") for _ in range(2))
    out = torch.empty_like(left)
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    calls: list[tuple[float, float]] = []
    counter: list[int] = []
    with torch.cuda.stream(stream):
        torch.mm(left, right, out=out)
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(PRODUCTS_PER_GRAPH):
                torch.mm(left, right, out=out)
        queued: deque[torch.cuda.Event] = deque()
        end_s = time.monotonic() + SECONDS
        while time.monotonic() < end_s:
            while len(queued) < 3 or queued[-3].query():
                graph.replay()
                queued.append(stream.record_event())
            begin_s = time.monotonic()
            counter.append(pynvml.nvmlDeviceGetTotalEnergyConsumption(device))
            calls.append((begin_s, time.monotonic()))
    torch.cuda.synchronize()
    times = np.array(calls)
    np.savez_compressed(
        sys.argv[1],
        call_us=np.rint((times - times[0, 0]) * 1e6).astype(np.int32),
        counter_mj=(np.array(counter) - counter[0]).astype(np.int32),
    )


if __name__ == "__main__":
    main()
