"""Elementwise functions against NumPy, as a CPU runs them in vectors and as CUDA compiles them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules import _tvm
from schedules.defaults import default_schedule
from schedules.target import Target, known_target
from tests.effcompile.lowered_models import CPU, graph_model, lowered, run_lowered


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 1.5 * np.expm1(x))


def selu(x: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **{"Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Asinh": np.arcsinh},
    **{"Acosh": lambda x: np.arccosh(x + 1), "Atanh": np.arctanh},
    **{"Sinh": np.sinh, "Cosh": np.cosh, "Elu": elu, "Selu": selu},
}


def model_of(op_type: str, dtype: str) -> tuple[Any, np.ndarray]:
    """A model of one operator, and float64 inputs inside of its domain."""
    x = np.linspace(-0.95, 0.95, 64 * 8).reshape(8, 64)
    if op_type in ("Sinh", "Cosh", "Elu", "Selu"):
        x = x * 6
    if op_type == "Acosh":
        x = x + 2
    x = x.astype(dtype).astype(np.float64)
    attrs = {"alpha": 1.5} if op_type == "Elu" else {}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node(op_type, ["x"], ["y"], **attrs)
    return graph_model([node], {"x": x.astype(dtype)}, ["y"], output_types={"y": kind}), x


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op_type", list(FUNCTIONS))
def test_function_is_right(op_type: str, dtype: str) -> None:
    model, x = model_of(op_type, dtype)
    (found,) = run_lowered(lowered(model), [x.astype(dtype)])
    assert found.dtype == dtype
    expected = FUNCTIONS[op_type](x - 1 if op_type == "Acosh" else x)
    # Two units in the last place of half precision; single-precision functions inside double.
    error = {"float16": 2e-3, "float32": 2e-6, "float64": 2e-6}[dtype]
    np.testing.assert_allclose(found, expected, rtol=error, atol=error)


@pytest.mark.parametrize("target", [CPU, known_target("h100")], ids=["cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scheduled_functions_compile(
    dtype: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The source is enough: no machine code without the compiler.
    monkeypatch.setenv("TVM_COMPILE_FORCE_FALLBACK", "1")
    tvm = _tvm.load()
    for op_type in FUNCTIONS:
        model, _ = model_of(op_type, dtype)
        program = lower({"main": prepare_model(model)}, target)
        for _, function in program.module.functions_items():
            if isinstance(function, tvm.tirx.PrimFunc):
                scheduled = default_schedule(function, target)
                with _tvm.tvm_target(target) as chosen:
                    module = tvm.IRModule({"main": scheduled.with_attr("global_symbol", "main")})
                    tvm.compile(module, target=chosen)
