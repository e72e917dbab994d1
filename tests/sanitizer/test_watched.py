"""Workspaces of a watched candidate are allocations of their own, of exactly their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from effcompile.measure.environment import cpu_target
from effcompile.measure.memory import HostDevice, HostMemory
from schedules import _tvm
from tests.sanitizer.watched import ExactWorkspace

N = 5001


class Recording(HostDevice):
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def allocate(self, size_bytes: int) -> HostMemory:
        self.sizes.append(size_bytes)
        return super().allocate(size_bytes)


def library(path: Path) -> Path:
    """Doubles numbers by way of a workspace."""
    tvm = _tvm.load()
    from tvm import te

    x = te.placeholder((N,), "float32", name="x")
    kept = te.compute((N,), lambda i: x[i] + x[N - 1 - i], name="kept")
    y = te.compute((N,), lambda i: kept[i] + kept[N - 1 - i], name="y")
    target = _tvm.tvm_target(cpu_target())
    with target:
        built: Any = tvm.compile(tvm.IRModule({"main": te.create_prim_func([x, y])}), target=target)
    built.export_library(str(path))
    return path


def test_a_library_gets_its_workspaces_from_us(tmp_path: Path) -> None:
    path = library(tmp_path / "doubles.so")
    import tvm

    device = Recording()
    workspace = ExactWorkspace(device)
    function = tvm.runtime.load_module(str(path))["main"]
    workspace.serve(str(path))
    x, y = tvm.runtime.empty((N,), "float32"), tvm.runtime.empty((N,), "float32")
    x.copyfrom(np.arange(N, dtype=np.float32))
    function(x, y)
    assert device.sizes == [N * 4]
    np.testing.assert_array_equal(y.numpy(), np.full(N, 2.0 * (N - 1), np.float32))
    workspace.forget()
    function(x, y)
    assert device.sizes == [N * 4] * 2
