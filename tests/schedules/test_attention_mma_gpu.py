"""Attention by products of warps on a GPU against float64, from one tile to masks and windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.environment import detect_target
from effcompile.measure.session import load_runtime
from schedules.attention_mma import AttentionMmaSpace
from schedules.references.attention import make, reference
from schedules.task import Task
from tests.schedules.decode_workloads import Decode
from tests.schedules.masked_workloads import Masked, blocks, frames, packed, sliding
from tests.schedules.products import built_point

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

PLAIN = {"warps": 4, "row_tiles": 1, "key_tile": 64, "stages": 1, "kept": 0, "longest_first": 0}
TALL = PLAIN | {"row_tiles": 2, "stages": 2}
KEPT = PLAIN | {"kept": 1, "stages": 2}
EIGHT = PLAIN | {"warps": 8, "key_tile": 32, "stages": 3}
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.5e-2}


def shape(**more: Any) -> Decode:
    """Two heads of 64."""
    return Decode(**{"heads": 2, "kv_heads": 2, "queries": 64, "keys": 64, "width": 64} | more)


CASES: dict[str, tuple[Decode | Masked, dict[str, int]]] = {
    "one_tile": (shape(), PLAIN),
    "more_keys": (shape(queries=128, keys=300), TALL),
    "queries_in_registers": (shape(queries=300, keys=500), KEPT),
    "ragged_128": (shape(queries=333, keys=777, width=128, batch=2), KEPT),
    "tall_128": (shape(queries=512, keys=1024, width=128), TALL | {"key_tile": 32}),
    "eight_warps": (shape(queries=555, keys=999, width=96, dtype="bfloat16"), EIGHT),
    "width_80": (shape(queries=200, keys=333, width=80), TALL),
    "width_72": (shape(heads=3, kv_heads=3, queries=200, keys=333, width=72), KEPT),
    "width_256": (shape(queries=130, keys=200, width=256), PLAIN | {"key_tile": 32}),
    "other_value_width": (shape(queries=130, keys=200, width=64, value_width=104), KEPT),
    "grouped_heads": (shape(heads=8, queries=200, keys=500, batch=2), EIGHT),
    "causal": (
        shape(queries=501, keys=501, width=128, causal=True),
        KEPT | {"longest_first": 1},
    ),
    "causal_offset": (shape(queries=190, keys=700, causal=True, offset=510), TALL),
    "nothing_to_attend": (shape(queries=400, keys=300, causal=True, offset=-150), EIGHT),
    "window": (shape(queries=700, keys=700, window_left=100, window_right=37), KEPT),
    "lengths": (
        shape(queries=200, keys=300, batch=3, lengths="int64", causal=True, at_end=True),
        KEPT,
    ),
    "softcap": (shape(queries=200, keys=300, softcap=5.0, dtype="bfloat16"), TALL),
    "float_mask": (shape(queries=200, keys=301, batch=2, mask=((2, 1, 200, 301), "float16")), KEPT),
    "mask_in_pairs": (shape(queries=200, keys=300, mask=((1, 2, 200, 300), "float32")), TALL),
    "bool_mask": (
        shape(queries=200, keys=300, batch=2, mask=((2, 1, 1, 300), "bool"), causal=True),
        EIGHT,
    ),
    "blocks": (Masked(mask=blocks(700, 1000, planes=(1, 4)), heads=4, kv_heads=2), KEPT),
    "frames": (Masked(mask=frames([200, 300, 77]), width=128), TALL | {"key_tile": 32}),
    "wide_tiles": (Masked(mask=sliding(777, 90), dtype="bfloat16"), PLAIN | {"key_tile": 128}),
    "packed": (
        Masked(mask=packed([300, 3, 150, 247]), form="packed", starts=(0, 300, 303, 453, 700)),
        TALL,
    ),
    "no_row_blocks": (Masked(mask=np.arange(500)[None, None, None] % 7 > 2, queries=300), KEPT),
}


def space_of(one: Decode | Masked) -> AttentionMmaSpace:
    """Of the GPU here."""
    return AttentionMmaSpace(Task(workload=one.workload(), target=detect_target("cuda")))


def on_gpu(array: np.ndarray) -> Any:
    """The same bits as a tensor of torch, which knows no bfloat16 of NumPy."""
    import torch

    if array.dtype.name != "bfloat16":
        return torch.from_numpy(array).cuda()
    return torch.from_numpy(array.view(np.int16)).cuda().view(torch.bfloat16)


def check(one: Decode | Masked, values: dict[str, Any], folder: Path) -> None:
    """Build one point, run it twice and compare every element."""
    import torch

    space = space_of(one)
    assert space.refusal(values) is None, space.refusal(values)
    build = built_point(space, values, folder, detect_target("cuda"))
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    workload = one.workload()
    rng = np.random.default_rng(0)
    inputs = one.inputs(0) if isinstance(one, Masked) else make(workload, rng)
    (wanted,) = reference(workload, inputs)
    tensors = [on_gpu(array) for array in inputs]
    kind = getattr(torch, one.dtype)
    for _ in range(2):
        out = torch.full(workload.outputs[0].shape, torch.nan, device="cuda", dtype=kind)
        function(*(tvm.runtime.from_dlpack(each) for each in (*tensors, out)))
        torch.cuda.synchronize()
        found = wanted.known(out.double().cpu().numpy())
        tolerance = TOLERANCE[one.dtype]
        np.testing.assert_allclose(
            found, wanted.values, rtol=tolerance, atol=tolerance, err_msg=f"{one} {values}"
        )


@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    check(*CASES[name], tmp_path)


@pytest.mark.parametrize(
    "name", ["ragged_128", "causal", "width_72", "bool_mask", "blocks", "packed"]
)
def test_random_points(name: str, tmp_path: Path) -> None:
    one = CASES[name][0]
    space = space_of(one)
    for candidate in space.sample(6, np.random.default_rng(0)):
        check(one, space.values_of(candidate), tmp_path)
