"""Head-wise arrow attention on a GPU against float64: orders, modes, ragged and mixed tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcompile.measure.cache import DiskCache
from effcompile.measure.environment import detect_target
from effcompile.measure.libraries import LibraryMaker
from effcompile.measure.session import load_runtime
from schedules.dtypes import numpy_dtype
from schedules.headwise_attention import HeadwiseSpace
from schedules.headwise_problem import ARROW
from schedules.inputs import make_inputs
from schedules.references.headwise_attention import reference
from tests.schedules.attention_points import HEADWISE_POINT
from tests.schedules.headwise_workloads import MIXED, Headwise

pytestmark = pytest.mark.gpu

KEPT: dict[str, int | str] = {"blocks": "persistent"}
PAIRS: dict[str, int | str] = {"cluster": 2}
THREE: dict[str, int | str] = {"warpgroups": 3, "key_tile": 112}
WIDE: dict[str, int | str] = {"key_tile": 176, "turns": "free"}
RAGGED = Headwise(image=500, text=77, modes=MIXED)
MANY = Headwise(image=1500, text=77, modes=MIXED, heads=24, batch=2)
TOLERANCE = {"float16": 3e-3, "bfloat16": 2e-2}

CASES: dict[str, tuple[Headwise, dict[str, int | str]]] = {
    "golden": (Headwise(image=512, text=64, modes=((ARROW, 64),) * 2), {}),
    "one_warpgroup": (RAGGED, {"warpgroups": 1, "key_tile": 64, "turns": "free", "stages": 2}),
    "ragged": (RAGGED, WIDE),
    "text_first": (replace(RAGGED, text_first=True), THREE),
    "no_text": (Headwise(image=1000, text=0, modes=MIXED), THREE),
    "mostly_text": (Headwise(image=90, text=300, modes=MIXED, text_first=True), WIDE),
    "cache": (replace(RAGGED, cached=True, batch=2), THREE),
    "modes_of_the_call": (replace(RAGGED, known=False, cached=True), {}),
    "grouped_heads": (replace(RAGGED, kv_heads=2, batch=2), WIDE),
    "width_128": (replace(RAGGED, width=128), WIDE),
    "bfloat16": (replace(RAGGED, width=128, dtype="bfloat16", text_first=True), {}),
    "persistent": (MANY, KEPT | THREE),
    "persistent_text_first": (replace(MANY, text_first=True, cached=True), KEPT | WIDE),
    "cluster": (MANY, KEPT | PAIRS),
    "cluster_text_first": (replace(MANY, text_first=True, cached=True), KEPT | PAIRS | THREE),
    "cluster_width_128": (replace(MANY, width=128), KEPT | PAIRS | {"key_tile": 64}),
    "persistent_bfloat16": (replace(MANY, dtype="bfloat16", width=128), KEPT),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    case, changed = CASES[name]
    target = detect_target("cuda")
    if target.arch != "sm_90":
        pytest.skip(f"needs sm_90, found {target.arch}")
    # Modes of the call come from the same draw: a workload that knows them tells which.
    drawn = replace(case, known=True).task(target).workload
    inputs = make_inputs(drawn, seed=3)
    space = HeadwiseSpace(case.task(target))
    found = launch(space, HEADWISE_POINT | changed, inputs, tmp_path)
    (wanted,) = reference(drawn, inputs)
    error = np.abs(wanted.known(found) - wanted.values)
    assert np.nanmax(error) <= TOLERANCE[case.dtype] and not np.isnan(error).any(), (
        f"{int((~(error <= TOLERANCE[case.dtype])).sum())} of {error.size} elements are wrong, the "
        f"first at {np.argwhere(~(error <= TOLERANCE[case.dtype]))[0]}"
    )


def launch(space: HeadwiseSpace, values: Any, inputs: list[np.ndarray], folder: Path) -> np.ndarray:
    """The output of a point, as float64, launched twice into memory full of NaN."""
    assert space.refusal(values) is None, space.refusal(values)
    maker = LibraryMaker(
        target=detect_target("cuda"), cache=DiskCache(folder / "c"), folder=folder, fast_math=True
    )
    build = maker.make(space.program_module(values), flops=None, unique_bytes=None)
    load_runtime("cuda")
    import tvm

    function = tvm.runtime.load_module(build.library_path)["main"]
    device, result = tvm.cuda(0), space._workload.outputs[0]
    poison = np.full(result.shape, np.nan).astype(numpy_dtype(result.dtype))
    tensors = [
        tvm.runtime.empty(array.shape, spec.dtype, device)
        for array, spec in zip([*inputs, poison], [*space._workload.inputs, result], strict=True)
    ]
    for tensor, array in zip(tensors, [*inputs, poison], strict=True):
        tensor.copyfrom(np.ascontiguousarray(array))
    for _ in range(2):
        function(*tensors)
    device.sync()
    return np.asarray(tensors[-1].numpy().astype(np.float64))
