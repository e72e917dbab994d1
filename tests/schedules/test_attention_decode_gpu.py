"""Attention of few queries on a GPU against float64, random points of many shapes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.config import BuildConfig
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.cache import DiskCache
from effcompile.measure.libraries import LibraryMaker
from schedules.attention_decode import AttentionDecodeSpace
from schedules.reference import compare, references_of, tolerance_of
from schedules.target import known_target
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build, Failure
from tests.schedules.decode_workloads import Decode, decode_inputs, spoiled

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

SHAPES: dict[str, Decode] = {
    "one_tile": Decode(heads=1, kv_heads=1, keys=16, width=64),
    "bfloat16": Decode(heads=2, kv_heads=1, keys=64, width=64, dtype="bfloat16"),
    "grouped": Decode(heads=40, kv_heads=10, keys=4096, width=64),
    "heads": Decode(heads=32, kv_heads=32, keys=2048, width=128, dtype="bfloat16"),
    "ragged": Decode(heads=8, kv_heads=1, keys=1000, width=128, batch=3),
    "few_keys": Decode(heads=3, kv_heads=3, keys=5, width=32),
    "width_72": Decode(heads=4, kv_heads=2, keys=333, width=72),
    "width_40_value_24": Decode(heads=4, kv_heads=2, keys=700, width=40, value_width=24),
    "width_256": Decode(heads=4, kv_heads=2, keys=700, width=256),
    "queries": Decode(
        heads=8, kv_heads=2, keys=777, width=64, queries=5, causal=True, offset=772, batch=2
    ),
    "many_rows": Decode(heads=16, kv_heads=2, keys=501, width=128, queries=8),
    "lengths": Decode(heads=8, kv_heads=2, keys=1024, width=64, batch=5, lengths="int32"),
    "cache": Decode(
        heads=8,
        kv_heads=8,
        keys=1500,
        width=128,
        batch=4,
        queries=3,
        lengths="int64",
        causal=True,
        at_end=True,
    ),
    "window": Decode(
        heads=8,
        kv_heads=2,
        keys=3000,
        width=64,
        batch=3,
        queries=2,
        lengths="int32",
        causal=True,
        at_end=True,
        window_left=299,
    ),
    "both_windows": Decode(
        heads=2,
        kv_heads=2,
        keys=900,
        width=64,
        queries=7,
        offset=300,
        window_left=90,
        window_right=17,
    ),
    "softcap": Decode(heads=8, kv_heads=4, keys=600, width=64, softcap=5.0, dtype="bfloat16"),
    "float_mask": Decode(
        heads=4, kv_heads=2, keys=640, width=64, queries=5, mask=((1, 4, 5, 640), "float32")
    ),
    "half_mask": Decode(
        heads=4, kv_heads=2, keys=640, width=64, queries=5, mask=((1, 1, 5, 640), "float16")
    ),
    "bfloat16_mask": Decode(
        heads=4,
        kv_heads=2,
        keys=640,
        width=128,
        queries=5,
        batch=2,
        mask=((2, 1, 5, 640), "bfloat16"),
        dtype="bfloat16",
    ),
    "mask_of_keys": Decode(
        heads=4, kv_heads=2, keys=640, width=64, batch=2, mask=((2, 1, 1, 640), "float16")
    ),
    "tree": Decode(
        heads=8,
        kv_heads=2,
        keys=411,
        width=128,
        batch=2,
        queries=15,
        mask=((2, 1, 15, 411), "bool"),
    ),
    "pages": Decode(
        heads=32,
        kv_heads=8,
        keys=2048,
        width=128,
        batch=4,
        lengths="int32",
        causal=True,
        at_end=True,
        page=16,
        dtype="bfloat16",
    ),
    "long_pages": Decode(
        heads=6,
        kv_heads=2,
        keys=1024,
        width=72,
        batch=3,
        queries=2,
        lengths="int64",
        causal=True,
        at_end=True,
        page=256,
        window_left=300,
        softcap=4.0,
    ),
    "nothing_seen": Decode(
        heads=4, kv_heads=2, keys=64, width=64, queries=8, causal=True, offset=-4
    ),
}
N_RANDOM = 4
ANY_TIME = 1e9


class Kernels:
    """Builds of every shape, started at once."""

    def __init__(self, folder: Path) -> None:
        from effcompile.measure.environment import detect_target

        self._target = detect_target("cuda")
        settings = BuildConfig(cache_dir=str(folder / "cache"))
        self._builder = ProcessBuilder(settings, work_dir=folder)
        self._rng = np.random.default_rng(0)
        self.workloads = {name: shape.workload() for name, shape in SHAPES.items()}
        self.builds = {name: self._submit(one) for name, one in self.workloads.items()}

    def _submit(self, workload: Workload) -> list[tuple[dict[str, Any], Future[Build | Failure]]]:
        task = Task(workload=workload, target=self._target)
        space = AttentionDecodeSpace(task, patience=ANY_TIME)
        clusters = [one for one in space.points if one["combine"] == "cluster"]
        chosen = space.sample(N_RANDOM, self._rng)
        if clusters:
            chosen.append(space.candidate(clusters[int(self._rng.integers(len(clusters)))]))
        return [(space.values_of(one), self._builder.submit(task, one)) for one in chosen]

    def close(self) -> None:
        self._builder.close()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    made = Kernels(tmp_path_factory.mktemp("decode"))
    yield made
    made.close()


def fault_of(library: str, shape: Decode, workload: Workload) -> str | None:
    """What is wrong with three calls of a kernel."""
    from effcompile.measure.session import load_runtime

    load_runtime("cuda")
    import tvm

    inputs = decode_inputs(shape)
    (reference,) = references_of(workload, inputs)
    device = tvm.cuda(0)
    tensors = [tvm.runtime.empty(one.shape, one.dtype, device) for one in workload.inputs]
    for tensor, array in zip(tensors, spoiled(shape, inputs), strict=True):
        tensor.copyfrom(np.ascontiguousarray(array))
    (spec,) = workload.outputs
    function = tvm.runtime.load_module(library)["main"]
    found = []
    for _ in range(3):
        y = tvm.runtime.empty(spec.shape, spec.dtype, device)
        function(*tensors, y)
        device.sync()
        found.append(y.numpy())
    fault = compare(reference.known(found[0]), reference.values, tolerance_of(workload))
    if fault is None and not all(np.array_equal(found[0], other) for other in found):
        fault = "repeated calls differ"
    return fault


@pytest.mark.parametrize("name", SHAPES)
def test_random_points_are_right(kernels: Kernels, name: str) -> None:
    faults = []
    for values, future in kernels.builds[name]:
        build = future.result()
        assert isinstance(build, Build), (values, build)
        fault = fault_of(build.library_path, SHAPES[name], kernels.workloads[name])
        if fault is not None:
            faults.append(f"{values}: {fault}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", ["grouped", "cache", "width_40_value_24", "tree", "long_pages"])
def test_kernels_of_older_devices_are_right(name: str, tmp_path: Path) -> None:
    """Their copies in pieces, compiled for this device."""
    from effcompile.measure.environment import detect_target

    shape, target = SHAPES[name], detect_target("cuda")
    workload = shape.workload()
    older = AttentionDecodeSpace(
        Task(workload=workload, target=known_target("a100")), patience=ANY_TIME
    )
    (candidate,) = older.sample(1, np.random.default_rng(2))
    maker = LibraryMaker(
        target=target, cache=DiskCache(tmp_path / "cache"), folder=tmp_path, fast_math=True
    )
    build = maker.make(older.realise(candidate), flops=None, unique_bytes=None)
    assert fault_of(build.library_path, shape, workload) is None, older.values_of(candidate)
