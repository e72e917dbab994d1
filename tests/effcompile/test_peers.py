"""The libraries' calls compute what the workloads of the set do."""

from __future__ import annotations

import numpy as np
import pytest

from effcompile.bench.peers import calls_of, contender_of
from effcompile.measure.prepared import Expectation, Prepared
from schedules.expected import Reference
from schedules.reference import Tolerance
from schedules.workload import TensorSpec, Workload

torch = pytest.importorskip("torch")


def workload(name: str, out: tuple[int, ...], *inputs: tuple[int, ...]) -> Workload:
    specs = [TensorSpec(name=f"x{i}", shape=one, dtype="float32") for i, one in enumerate(inputs)]
    return Workload(
        op="generic",
        name=name,
        inputs=tuple(specs),
        outputs=(TensorSpec(name="y", shape=out, dtype="float32"),),
        program="",
        program_hash="0",
    )


def data(one: Workload) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(spec.shape).astype(spec.dtype) for spec in one.inputs]


def convolved(image: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    pad = kernel.shape[2] // 2
    padded = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows[:, :, ::stride, ::stride], kernel)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (workload("fused_matmul_cast", (4, 6), (4, 5), (5, 6)), lambda a, b: a @ b),
        (
            workload("fused_conv2d_cast", (2, 4, 4, 4), (2, 3, 8, 8), (4, 3, 7, 7)),
            lambda x, w: convolved(x, w, 2),
        ),
        (
            workload("conv2d", (1, 4, 5, 5), (1, 3, 5, 5), (4, 3, 3, 3)),
            lambda x, w: convolved(x, w, 1),
        ),
        (
            workload("conv2d", (1, 5, 6, 4), (1, 5, 6, 3), (4, 3, 3, 3)),
            lambda x, w: convolved(x.transpose(0, 3, 1, 2), w.transpose(0, 3, 1, 2), 1).transpose(
                0, 2, 3, 1
            ),
        ),
        (
            workload("softmax", (3, 8), (3, 8)),
            lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
        ),
        (
            workload("layer_norm", (3, 8), (3, 8), (8,), (8,)),
            lambda x, s, b: (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * s + b,
        ),
    ],
)
def test_a_library_computes_the_workload(one: Workload, expected: object) -> None:
    arrays = data(one)
    reference = np.asarray(expected(*(array.astype(np.float64) for array in arrays)))
    assert reference.shape == one.outputs[0].shape
    for right in (True, False):
        values = reference if right else reference + 1.0
        empty = np.empty(0, np.float32)
        prepared = Prepared(
            inputs=arrays,
            outputs=[Expectation(Reference(values=values), scale=1.0, lowest=empty, highest=empty)],
            tolerance=Tolerance(rtol=0.0, atol=0.0),
        )
        found = list(calls_of(one, [torch.from_numpy(array) for array in arrays]))
        assert found
        for name, call in found:
            assert bool(contender_of(name, call, prepared).error) is not right


def test_what_no_library_has_is_left_out() -> None:
    assert list(calls_of(workload("gather", (2,), (2,)), [])) == []
