"""Small ONNX graphs, and running what they are lowered to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from effcompile.frontend.checking import prepare_model
from effcompile.lower import LoweredProgram, lower
from schedules import _tvm
from schedules.target import Target
from tests.plain_target import plain_target

# float32 sums of at most 64 products of N(0,1) data, reordered.
TOLERANCE = {"rtol": 2e-5, "atol": 5e-5}
CPU = Target(kind="llvm", arch="x86-64-v3", name="test CPU", n_cores=2)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def graph_model(
    nodes: Sequence[Any],
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    *,
    constants: Mapping[str, Any] | None = None,
    opset: int = 23,
    output_types: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model whose inputs have the shapes and dtypes of the given arrays."""
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    types = output_types or {}
    results = [
        helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None)
        for name in outputs
    ]
    stored = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        for name, value in (constants or {}).items()
    ]
    graph = helper.make_graph(list(nodes), "graph", values, results, initializer=stored)
    domains = [("", opset), ("com.microsoft", 1), ("effcompile", 1)]
    imports = [helper.make_opsetid(domain, version) for domain, version in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def lowered(model: onnx.ModelProto, **options: Any) -> LoweredProgram:
    """The model as entry point ``main`` for a CPU."""
    return lower({"main": prepare_model(model)}, CPU, **options)


def run_lowered(
    program: LoweredProgram, inputs: Sequence[np.ndarray], entry: str = "main"
) -> list[np.ndarray]:
    """Build without any schedule and run one entry point."""
    tvm = _tvm.load()
    from tvm import relax

    target = plain_target(CPU)
    with target:
        executable = tvm.compile(
            program.module, target, relax_pipeline=relax.get_pipeline("default_build")
        )
    machine = relax.VirtualMachine(executable, tvm.cpu())
    point = next(each for each in program.entries if each.name == entry)
    parameters = [program.parameters[identifier] for identifier in point.parameters]
    arguments = [tvm.runtime.tensor(np.asarray(a, order="C")) for a in (*inputs, *parameters)]
    result = machine[entry](*arguments)
    results = [result] if hasattr(result, "numpy") else list(result)
    return [each.numpy() for each in results]


def assert_as_reference(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> LoweredProgram:
    """The lowered model, which gives the results of ONNX's reference evaluator."""
    program = lowered(model)
    found = run_lowered(program, list(inputs.values()))
    expected = ReferenceEvaluator(model).run(None, dict(inputs))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **TOLERANCE)
    return program


def operators(program: LoweredProgram) -> list[str]:
    """Marked operators among the functions, sorted; one entry per function."""
    from effcompile.frontend.kernels.marking import marks_of

    tvm = _tvm.load()
    functions = [
        function
        for _, function in program.module.functions_items()
        if isinstance(function, tvm.tirx.PrimFunc)
    ]
    return sorted(op for op, _ in map(marks_of, functions) if op != "generic")
