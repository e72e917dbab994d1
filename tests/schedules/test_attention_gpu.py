"""Attention programs on a GPU against float64, from the simplest shape to the hardest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.environment import detect_target
from effcompile.measure.session import load_runtime
from schedules.attention import HopperAttentionSpace, attention_space
from schedules.task import Task
from schedules.workload import TensorSpec, Workload
from tests.schedules.building import built

pytestmark = pytest.mark.gpu

PLAIN = {
    "warpgroups": 1,
    "key_tile": 64,
    "stages": 1,
    "turns": "free",
    "products": "in_turn",
    "blocks": "per_tile",
    "order": "by_head",
}
FAST = PLAIN | {
    "warpgroups": 2,
    "key_tile": 128,
    "stages": 2,
    "turns": "pingpong",
    "products": "overlapped",
}
WIDE = FAST | {"warpgroups": 3, "key_tile": 96}
KEPT = {"blocks": "persistent"}
LONGEST = {"order": "longest_first"}
TOLERANCE = {"float16": 3e-3, "bfloat16": 2e-2}


@dataclass(frozen=True)
class Shape:
    heads: int = 2
    kv_heads: int = 2
    queries: int = 64
    keys: int = 64
    width: int = 64
    batch: int = 1
    dtype: str = "float16"
    attrs: dict[str, Any] = field(default_factory=dict)

    def workload(self) -> Workload:
        def spec(name: str, heads: int, tokens: int) -> TensorSpec:
            shape = (self.batch, heads, tokens, self.width)
            return TensorSpec(name=name, shape=shape, dtype=self.dtype)

        return Workload(
            op="attention",
            name="attention",
            inputs=(
                spec("q", self.heads, self.queries),
                spec("k", self.kv_heads, self.keys),
                spec("v", self.kv_heads, self.keys),
            ),
            outputs=(spec("out", self.heads, self.queries),),
            attrs={"scale": self.width**-0.5, **self.attrs},
            program="",
            program_hash="",
        )


def space_of(shape: Shape) -> HopperAttentionSpace:
    target = detect_target("cuda")
    if target.arch != "sm_90":
        pytest.skip(f"needs sm_90, found {target.arch}")
    space = attention_space(Task(workload=shape.workload(), target=target))
    assert isinstance(space, HopperAttentionSpace)
    return space


def allowed(shape: Shape) -> Any:
    import torch

    position = torch.arange(shape.queries, device="cuda")[:, None] + shape.attrs.get("offset", 0)
    keys = torch.arange(shape.keys, device="cuda")[None, :]
    left, right = shape.attrs.get("window_left", -1), shape.attrs.get("window_right", -1)
    right = 0 if shape.attrs.get("causal") else right
    inside = torch.ones(shape.queries, shape.keys, dtype=torch.bool, device="cuda")
    if left >= 0:
        inside &= keys >= position - left
    if right >= 0:
        inside &= keys <= position + right
    return inside


def expected(shape: Shape, q: Any, k: Any, v: Any) -> Any:
    import torch

    group = shape.heads // shape.kv_heads
    k, v = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    scores = q.double() @ k.transpose(-1, -2) * shape.width**-0.5
    scores = scores.masked_fill(~allowed(shape), -torch.inf)
    return torch.softmax(scores, dim=-1).nan_to_num() @ v


def check(shape: Shape, values: dict[str, Any], folder: Path) -> None:
    import torch

    space = space_of(shape)
    assert space.refusal(values) is None, space.refusal(values)
    build = built(space.program_module(values), detect_target("cuda"), folder)
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    dtype = getattr(torch, shape.dtype)
    torch.manual_seed(0)
    tensors = [
        torch.randn(spec.shape, device="cuda", dtype=dtype) for spec in shape.workload().inputs
    ]
    out = torch.full(shape.workload().outputs[0].shape, float("nan"), device="cuda", dtype=dtype)
    for _ in range(2):
        function(*(tvm.runtime.from_dlpack(x) for x in (*tensors, out)))
    torch.cuda.synchronize()
    compare(out.double(), expected(shape, *tensors), TOLERANCE[shape.dtype], f"{shape} {values}")


def compare(found: Any, wanted: Any, tolerance: float, what: str) -> None:
    wrong = ~((found - wanted).abs() <= tolerance * (1 + wanted.abs()))
    if not wrong.any():
        return
    places = wrong.nonzero()
    first = tuple(int(i) for i in places[0])
    by_axis = [sorted({int(i) for i in places[:, axis]})[:24] for axis in range(4)]
    raise AssertionError(
        f"{what}: {len(places)} of {wrong.numel()} elements are wrong; first at {first}: found "
        f"{float(found[first])}, expected {float(wanted[first])}; NaN: {int(found.isnan().sum())}; "
        f"batches, heads, rows, columns touched: {by_axis}; row found "
        f"{found[first[:3]][:8].tolist()}, expected {wanted[first[:3]][:8].tolist()}"
    )


CASES = {
    "one_tile": (Shape(), PLAIN),
    "width_512": (Shape(queries=200, keys=300, width=512), PLAIN | {"warpgroups": 2}),
    "more_keys": (Shape(keys=256), PLAIN),
    "more_rows": (Shape(queries=256, keys=256), PLAIN | {"stages": 2}),
    "width_128": (Shape(queries=128, keys=256, width=128), PLAIN),
    "two_warpgroups": (Shape(queries=256, keys=512), PLAIN | {"warpgroups": 2, "stages": 2}),
    "overlapped": (
        Shape(queries=128, keys=512),
        PLAIN | {"stages": 2, "products": "overlapped"},
    ),
    "pingpong": (Shape(queries=256, keys=1024, width=128), FAST),
    "three_warpgroups": (Shape(queries=384, keys=768), WIDE),
    "bfloat16": (Shape(queries=256, keys=1024, width=128, dtype="bfloat16"), FAST),
    "ragged_keys": (Shape(queries=64, keys=333), PLAIN),
    "ragged": (Shape(queries=333, keys=777, width=128, batch=2), FAST),
    "grouped_heads": (Shape(heads=8, kv_heads=2, queries=200, keys=500, batch=2), FAST),
    "causal": (Shape(queries=512, keys=512, attrs={"causal": True}), FAST),
    "causal_ragged": (
        Shape(queries=501, keys=501, width=128, attrs={"causal": True}),
        FAST | LONGEST,
    ),
    "causal_offset": (
        Shape(queries=190, keys=700, attrs={"causal": True, "offset": 510}),
        PLAIN | {"stages": 2},
    ),
    "nothing_to_attend": (
        Shape(queries=400, keys=300, attrs={"causal": True, "offset": -150}),
        FAST,
    ),
    "window": (
        Shape(queries=700, keys=700, attrs={"window_left": 100, "window_right": 37}),
        FAST | LONGEST,
    ),
    "persistent": (Shape(heads=40, kv_heads=40, queries=1100, keys=300), FAST | KEPT),
    "persistent_causal": (
        Shape(heads=24, kv_heads=8, queries=1501, keys=1501, attrs={"causal": True}),
        WIDE | KEPT | LONGEST,
    ),
    "width_72": (Shape(heads=3, kv_heads=3, queries=200, keys=333, width=72), FAST),
    "width_40": (Shape(queries=200, keys=333, width=40), PLAIN),
    "width_256": (Shape(queries=130, keys=200, width=256), PLAIN),
    "tile_176": (
        Shape(heads=4, kv_heads=4, queries=1000, keys=3001, width=128),
        FAST | {"key_tile": 176},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    check(*CASES[name], tmp_path)


RANDOM_SHAPES = (
    Shape(heads=6, kv_heads=3, queries=1111, keys=1333, width=128),
    Shape(heads=9, kv_heads=9, queries=1000, keys=1000, dtype="bfloat16", attrs={"causal": True}),
)


@pytest.mark.parametrize("index", range(10))
@pytest.mark.parametrize("shape", RANDOM_SHAPES, ids=("dense", "causal"))
def test_random_points_are_right(shape: Shape, index: int, tmp_path: Path) -> None:
    space = space_of(shape)
    chosen = space.sample(10, np.random.default_rng(1))[index]
    check(shape, space.values_of(chosen), tmp_path)
