"""Products with packed quantised matrices: definition, index arithmetic, machine code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedules.gemv_dequant import GemvDequantSpace, gemv_dequant_space
from schedules.inputs import make_inputs
from schedules.packing import UNIT_DEPTH, pack_codes
from schedules.program_reference import run_program
from schedules.reference import compute_reference
from schedules.spaces import spaces_for
from schedules.target import Target, known_target
from schedules.task import Task
from tests.schedules.building import built
from tests.schedules.gemv_workloads import gemv_workload

PROBLEMS: dict[str, dict[str, Any]] = {
    "four": {"rows": 1, "n_columns": 4096, "depth": 4096, "bits": 4, "block": 128},
    "three": {"rows": 1, "n_columns": 3584, "depth": 18944, "bits": 3, "block": 128},
    "ragged": {"rows": 3, "n_columns": 100, "depth": 515, "bits": 3, "block": 64, "zeros": True},
    "eight": {"rows": 9, "n_columns": 1000, "depth": 4096, "bits": 8, "block": 4096, "bias": True},
    "two": {"rows": 16, "n_columns": 512, "depth": 2048, "bits": 2, "block": 64, "zeros": True},
    "gated": {
        "rows": 1,
        "n_columns": 18944,
        "depth": 3584,
        "bits": 3,
        "block": 128,
        "gated": True,
        "activation": "silu",
    },
    "several": {
        "rows": 1,
        "n_columns": (3584, 512, 512),
        "depth": 3584,
        "bits": 3,
        "block": 128,
        "bias": True,
    },
    "int8": {
        "rows": 16,
        "n_columns": 4096,
        "depth": 4096,
        "bits": 4,
        "block": 4096,
        "x_scales": "row",
    },
}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_definition_and_reference_agree(bits: int, dtype: str) -> None:
    workload = gemv_workload(2, 21, 260, bits, 64, dtype=dtype, zeros=bits != 4, bias=bits == 3)
    inputs = make_inputs(workload, 1)
    (expected,) = compute_reference(workload, inputs)
    (found,) = run_program(workload, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


ENDINGS: list[tuple[tuple[Any, ...], str, dict[str, Any]]] = [
    ((2, 21, 96, 4, 32), "float16", {"gated": True, "activation": "silu", "bias": True}),
    ((2, (21, 16, 3), 96, 4, 32), "bfloat16", {"bias": True, "zeros": True}),
    ((2, 21, 96, 8, 96), "float32", {"x_scales": "row", "residual": True}),
    ((2, 21, 128, 2, 32), "float16", {"x_scales": "tensor", "activation": "gelu"}),
    ((2, 21, 96, 4, 32), "float16", {"residual": True, "activation": "gelu_tanh"}),
    ((2, 21, 96, 4, 32), "float16", {"activation": "relu"}),
]


@pytest.mark.parametrize(("sizes", "dtype", "rest"), ENDINGS, ids=str)
def test_definition_and_reference_of_endings_agree(
    sizes: tuple[Any, ...], dtype: str, rest: dict[str, Any]
) -> None:
    workload = gemv_workload(*sizes, dtype=dtype, **rest)
    inputs = make_inputs(workload, 1)
    for found, expected in zip(
        run_program(workload, inputs), compute_reference(workload, inputs), strict=True
    ):
        # Constants of activations are float32 in the program.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def lane_register(words: list[int], fragment: int, bits: int) -> bytes:
    """Four codes of a lane by the masks of the kernel, brought down by their class."""
    if bits == 3 and fragment >= 6:
        last = fragment - 6
        value = words[last] & 0xC0C0C0C0 | words[2] >> 2 - last & 0x20202020
        return (value >> 5).to_bytes(4, "little")
    load, place = (fragment // 2, fragment % 2) if bits == 3 else (0, fragment)
    value = words[load] & ((2**bits - 1) << place * bits) * 0x01010101
    return (value >> place * bits).to_bytes(4, "little")


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_fragments_are_operands_of_the_tensor_core(bits: int) -> None:
    depth = UNIT_DEPTH[bits]
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**bits, (16, depth)).astype(np.uint8)
    x = rng.integers(-128, 128, (8, depth)).astype(np.int64)
    unit = pack_codes(codes, bits)[0, 0]
    total = np.zeros((16, 8), np.int64)
    for fragment in range(depth // 32):
        left, right = np.zeros((16, 32), np.int64), np.zeros((32, 8), np.int64)
        for lane in range(32):
            row, quarter = lane // 4, lane % 4
            first = fragment * 32 + quarter * 8
            for register in range(4):
                words = [int(unit[load, lane, register]) for load in range(unit.shape[0])]
                at = quarter * 4 + register // 2 * 16
                left[row + register % 2 * 8, at : at + 4] = list(
                    lane_register(words, fragment, bits)
                )
            right[quarter * 4 : quarter * 4 + 4, row] = x[row, first : first + 4]
            right[quarter * 4 + 16 : quarter * 4 + 20, row] = x[row, first + 4 : first + 8]
        total += left @ right
    np.testing.assert_array_equal(total, codes.astype(np.int64) @ x.T)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_many_points(name: str, gpu: Target) -> None:
    space = GemvDequantSpace(Task(workload=gemv_workload(**PROBLEMS[name]), target=gpu))
    assert 20 <= len(space.points) <= 6000
    features = space.features(space.sample(50, np.random.default_rng(0)))
    assert np.isfinite(features).all()
    assert space.program(space.points[0]) is not None


@pytest.mark.parametrize("target", ["h200", "a100", "rtx5090"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_points_are_judged_alike_one_by_one_and_all_at_once(name: str, target: str) -> None:
    task = Task(workload=gemv_workload(**PROBLEMS[name]), target=known_target(target))
    space, every = GemvDequantSpace(task), GemvDequantSpace(task, patience=1e9)
    least = min(float(space.estimate(point)) for point in space.points)
    drawn = [space.values_of(one) for one in every.sample(40, np.random.default_rng(1))]
    drawn += every.points[:: max(1, len(every.points) // 40)]
    for point in drawn:
        assert every.refusal(point) is None
        promising = float(space.estimate(point)) <= space.patience * least * (1 + 1e-9)
        assert (point in space.points) == promising


# Values of knobs but ``floats``: a fast point, and one that took two to four times as long (in
# microseconds on an H200, cold cache).
MEASURED: list[tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    (PROBLEMS["four"], (16, 1, 1, 1, 4, 1), (2, 1, 2, 1, 4, 4)),  # 4.5 and 8.6 us
    (PROBLEMS["four"] | {"n_columns": 11008}, (8, 2, 1, 1, 3, 1), (1, 1, 8, 4, 4, 2)),  # 8.0, 15.4
    (
        PROBLEMS["four"] | {"n_columns": 11008, "bits": 3},
        (8, 2, 1, 1, 2, 1),
        (1, 1, 1, 1, 3, 4),
    ),  # 7.1, 27.5
    (PROBLEMS["three"], (4, 2, 2, 2, 3, 0), (1, 2, 2, 4, 1, 8)),  # 11.4, 24.3
]


@pytest.mark.parametrize(("sizes", "fast", "slow"), MEASURED, ids=str)
def test_what_was_fast_is_drawn_and_what_was_slow_is_not(
    sizes: dict[str, Any], fast: tuple[int, ...], slow: tuple[int, ...]
) -> None:
    workload = gemv_workload(**sizes, dtype="bfloat16")
    space = GemvDequantSpace(Task(workload=workload, target=known_target("h200")))
    names = [knob.name for knob in space.knobs]
    one, other = (dict(zip(names, (*values, 0), strict=True)) for values in (fast, slow))
    assert space.refusal(other) is None
    assert one in space.points
    assert other not in space.points


def test_draws_begin_with_what_promises_most() -> None:
    workload = gemv_workload(**PROBLEMS["four"])
    space = GemvDequantSpace(Task(workload=workload, target=known_target("h200")))
    drawn = [space.values_of(one) for one in space.sample(24, np.random.default_rng(0))]
    estimates = [float(space.estimate(point)) for point in space.points]
    promising = np.quantile(estimates, 0.3)
    assert np.median([float(space.estimate(point)) for point in drawn]) <= promising
    assert len({(point["warps_k"], point["warps_n"], point["blocks_k"]) for point in drawn}) > 2


def built_points(
    workload: Any, target: Target, folder: Path, points: list[dict[str, Any]]
) -> list[Any]:
    space = GemvDequantSpace(Task(workload=workload, target=target))
    return [built(space.program_module(one), target, folder).stats.kernels for one in points]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("device", ["h200", "a100"])
def test_points_become_machine_code_without_spills(device: str, dtype: str, tmp_path: Path) -> None:
    target = known_target(device)
    point = {"warps_k": 2, "warps_n": 2, "blocks_per_core": 1, "blocks_k": 2, "in_flight": 2}
    point["bulk"] = 1 if device == "h200" else 0
    point["floats"] = 0
    workload = gemv_workload(2, 300, 4096, 3, 128, dtype=dtype, zeros=True, bias=True)
    ((main, *total),) = built_points(workload, target, tmp_path, [point])
    assert main.spill_bytes == 0
    if device == "h200":  # blocks that share the depth are a cluster
        assert (main.grid, total) == ((18, 1, 1), [])
    else:
        assert (main.grid, [one.grid for one in total]) == ((9, 2, 1), [(5, 1, 1)])
    assert 0 < main.registers_per_thread <= 168


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_random_points_become_machine_code(name: str, gpu: Target, tmp_path: Path) -> None:
    workload = gemv_workload(**PROBLEMS[name])
    space = GemvDequantSpace(Task(workload=workload, target=gpu))
    chosen = space.sample(3, np.random.default_rng(0))
    points = [*map(space.values_of, chosen), space.points[0], space.points[-1]]
    kernels = built_points(workload, gpu, tmp_path, points)
    clean = [all(kernel.spill_bytes == 0 for kernel in one) for one in kernels]
    assert sum(clean) >= 0.7 * len(clean)
    assert all(kernel.registers_per_thread for one in kernels for kernel in one)


def test_the_family_comes_first_and_leaves_the_rest_alone(gpu: Target, cpu: Target) -> None:
    workload = gemv_workload(**PROBLEMS["four"])
    assert spaces_for(Task(workload=workload, target=gpu))[0] == "gemv_dequant"
    assert gemv_dequant_space(Task(workload=workload, target=cpu)) is None
    many = gemv_workload(257, 64, 64, 4, 64)
    odd_groups = gemv_workload(1, 64, 96, 4, 48)
    assert gemv_dequant_space(Task(workload=many, target=gpu)) is None
    mixed = gemv_workload(1, 64, 64, 4, 64, x_scales="row")
    assert gemv_dequant_space(Task(workload=mixed, target=gpu)) is not None
    assert gemv_dequant_space(Task(workload=odd_groups, target=gpu)) is None


def test_definition_is_right_on_this_cpu(run_on_cpu: Callable[..., Any]) -> None:
    from schedules.spaces import open_space
    from tests.schedules.conftest import CPU

    workload = gemv_workload(2, 40, 192, 4, 64, zeros=True)
    space = open_space(Task(workload=workload, target=CPU), "default")
    (candidate,) = space.sample(1, np.random.default_rng(0))
    assert run_on_cpu(workload, space.realise(candidate)) is None
