"""Importance of keys on a GPU against float64: ragged keys, grouped heads, every width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effcompile.measure.environment import detect_target
from schedules.importance import ImportanceSpace
from schedules.inputs import make_inputs
from schedules.references.last_row_importance import reference
from tests.schedules.importance_workloads import Importance
from tests.schedules.test_headwise_attention_gpu import launch

pytestmark = pytest.mark.gpu

POINT: dict[str, int | str] = {"warps": 4, "tiles": 2, "threads": 128}
CASES: dict[str, tuple[Importance, dict[str, int | str]]] = {
    "prefill": (Importance(heads=28, kv_heads=4, keys=13440, queries=5), {}),
    "ragged": (Importance(heads=28, kv_heads=4, keys=4001, batch=2), {"tiles": 4, "warps": 8}),
    "few_keys": (Importance(heads=4, kv_heads=4, keys=7), {"warps": 1, "tiles": 1}),
    "many_heads": (Importance(heads=40, kv_heads=2, keys=999), {"tiles": 1}),
    "bfloat16": (Importance(heads=8, kv_heads=1, keys=3000, dtype="bfloat16"), {"threads": 64}),
    "width_72": (Importance(heads=4, kv_heads=2, keys=500, width=72), {}),
    "width_256": (Importance(heads=4, kv_heads=2, keys=500, width=256), {"tiles": 1}),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_right(name: str, tmp_path: Path) -> None:
    case, changed = CASES[name]
    space = ImportanceSpace(case.task(detect_target("cuda")))
    inputs = make_inputs(space._workload, seed=3)
    found = launch(space, POINT | changed, inputs, tmp_path)
    (wanted,) = reference(space._workload, inputs)
    np.testing.assert_allclose(found, wanted.values, rtol=2e-3, atol=1e-7)
    np.testing.assert_array_equal(found, launch(space, POINT | changed, inputs, tmp_path))
