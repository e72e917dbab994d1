"""Float32 attention on a GPU against float64, from one warp to many and ragged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.session import load_runtime
from schedules.attention_simt import AttentionSimtSpace
from schedules.target import known_target
from schedules.task import Task
from tests.schedules.building import built
from tests.schedules.test_attention_gpu import Shape, compare, expected

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN = {"rows": 1, "warps_row": 1, "warps_key": 1, "key_tile": 32, "stages": 1}
FAST = {"rows": 4, "warps_row": 2, "warps_key": 4, "key_tile": 32, "stages": 2}
ONCE = FAST | {"stages": 1}
TALL = {"rows": 8, "warps_row": 4, "warps_key": 1, "key_tile": 64, "stages": 2}
CAUSAL = {"causal": True}


def shape(**more: Any) -> Shape:
    """A float32 shape."""
    return Shape(dtype="float32", **more)


CASES = {
    "one_tile": (shape(queries=8, keys=32), PLAIN),
    "more_keys": (shape(queries=8, keys=200), PLAIN | {"stages": 2}),
    "keys_shared_by_warps": (shape(keys=256), FAST),
    "tall": (shape(queries=256, keys=256), TALL),
    "demo": (shape(heads=4, kv_heads=4, queries=128, keys=128, attrs=CAUSAL), ONCE),
    "ragged": (shape(queries=333, keys=777, width=128, batch=2), TALL),
    "grouped_heads": (shape(heads=8, kv_heads=2, queries=50, keys=130, batch=2), FAST),
    "causal_ragged": (shape(queries=101, keys=101, width=72, attrs=CAUSAL), ONCE),
    "causal_offset": (shape(queries=19, keys=70, attrs={**CAUSAL, "offset": 51}), ONCE),
    "nothing_to_attend": (
        shape(queries=40, keys=30, attrs={**CAUSAL, "offset": -15}),
        PLAIN | {"rows": 2, "warps_row": 2},
    ),
    "window": (shape(queries=300, keys=300, attrs={"window_left": 50, "window_right": 17}), FAST),
    "narrow": (shape(queries=37, keys=99, width=20), PLAIN | {"rows": 2}),
    "wide": (shape(queries=33, keys=130, width=256), ONCE | {"warps_key": 2}),
}


def check(one: Shape, values: dict[str, Any], folder: Path) -> None:
    """Build one point, run it twice and compare every element."""
    import torch

    target = known_target("h100")
    space = AttentionSimtSpace(Task(workload=one.workload(), target=target), patience=1e9)
    assert space.refusal(values) is None, space.refusal(values)
    build = built(space.program_module(values), target, folder)
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    torch.manual_seed(0)
    tensors = [torch.randn(spec.shape, device="cuda") for spec in one.workload().inputs]
    wanted = expected(one, *tensors)
    for _ in range(2):
        out = torch.full(wanted.shape, float("nan"), device="cuda")
        function(*(tvm.runtime.from_dlpack(x) for x in (*tensors, out)))
        torch.cuda.synchronize()
        compare(out.double(), wanted, 1e-5, f"{one} {values}")


@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    check(*CASES[name], tmp_path)


@pytest.mark.parametrize("name", ["demo", "grouped_heads", "causal_ragged"])
def test_random_points(name: str, tmp_path: Path) -> None:
    one = CASES[name][0]
    task = Task(workload=one.workload(), target=known_target("h100"))
    space = AttentionSimtSpace(task)
    for candidate in space.sample(6, np.random.default_rng(0)):
        check(one, space.values_of(candidate), tmp_path)
