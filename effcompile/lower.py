"""ONNX models to one fused TVM module whose functions can be tuned.

::

    models --check, fold--> ONNX --import--> Relax --patterns, legalise--> calls of PrimFuncs
           --lift weights--> entries that take parameters --fuse--> merged module

Several models become entry points of one module: functions and weights that are equal
exist once.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from effcompile.errors import BadModel
from effcompile.frontend.constants import constant_array, fold_moved_constants
from effcompile.frontend.dimensions import check_dimensions, data_inputs
from effcompile.frontend.folding import fold
from effcompile.frontend.importing import import_model
from effcompile.signature import ArgumentSpec, EntryPoint
from schedules import _tvm
from schedules.target import Target

# Smaller constants stay in the code, where the compiler can use their values.
SMALLEST_PARAMETER_BYTES = 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredProgram:
    """Models ready for extraction of tasks.

    Attributes:
        module: ``tvm.IRModule``: one Relax function per entry point, and the
            schedulable functions they call.
        entries: Entry points, in the order of the models.
        parameters: Weights by id (content hash), shared between entry points.
        unused_inputs: Inputs that no output depends on, as ``entry/input``; the caller
            still passes them.
    """

    module: Any
    entries: tuple[EntryPoint, ...]
    parameters: dict[str, np.ndarray]
    unused_inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lowered:
    module: Any
    entry: EntryPoint
    parameters: dict[str, np.ndarray]
    unused_inputs: tuple[str, ...]


def lower(models: Mapping[str, Any], target: Target, *, allow_open: bool = False) -> LoweredProgram:
    """Lower one or several models into one module.

    Args:
        models: Entry-point name to ``onnx.ModelProto`` (checked, see ``frontend.checking``).
        target: Device the module is compiled for.
        allow_open: Keep named open dimensions symbolic; functions that depend on them
            run with their default schedule.

    Raises:
        OpenDimensions: A dimension is open and ``allow_open`` is false.
        UnsupportedOperators: Nodes without a converter; lists all of them.
        BadModel: A model cannot be imported.
    """
    lowered = []
    for name, model in models.items():
        check_dimensions(model, allow_open=allow_open)
        lowered.append(_lower_one(name, model, target))
    parameters: dict[str, np.ndarray] = {}
    for part in lowered:
        parameters.update(part.parameters)
    return LoweredProgram(
        module=_merged(lowered),
        entries=tuple(part.entry for part in lowered),
        parameters=parameters,
        unused_inputs=tuple(name for part in lowered for name in part.unused_inputs),
    )


def _lower_one(name: str, model: Any, target: Target) -> _Lowered:
    if not name.isidentifier():
        raise BadModel(f"entry point {name!r} is not a valid name: use letters, digits and _.")
    module = _legalised(import_model(fold(model)), target)
    inputs, outputs = _signature(module["main"], model)
    unused = _unused_inputs(module["main"], inputs)
    if unused:
        logger.warning("%s: no output depends on input %s", name, ", ".join(unused))
    module, parameters = _lift_constants(module)
    return _Lowered(
        module=_fused(module, target),
        entry=EntryPoint(name=name, inputs=inputs, outputs=outputs, parameters=tuple(parameters)),
        parameters=parameters,
        unused_inputs=tuple(f"{name}/{unused_name}" for unused_name in unused),
    )


def _legalised(module: Any, target: Target) -> Any:
    tvm = _tvm.load()
    from tvm.relax import transform

    from effcompile.frontend.layout import channels_last
    from effcompile.frontend.matchers.accumulation import widen_questions
    from effcompile.frontend.matchers.residual_sum import fuse_residual_sums
    from effcompile.frontend.patterns import match_patterns, match_surroundings, pair_products
    from effcompile.frontend.sibling_layers import join_sibling_layers
    from effcompile.frontend.siblings import join_siblings

    passes = [
        match_patterns([(widen_questions,)]),
        fold_moved_constants(),
        transform.FoldConstant(),
        pair_products(target),
        join_sibling_layers(target),
        match_patterns(),
        match_surroundings(),
        join_siblings(),
        fuse_residual_sums(),
        transform.DecomposeOpsForInference(),
        transform.CanonicalizeBindings(),
        channels_last(target),
        fold_moved_constants(),
        transform.LegalizeOps(),
        transform.FoldConstant(),
        transform.DeadCodeElimination(),
    ]
    with _tvm.tvm_target(target):
        return tvm.transform.Sequential(passes)(module)


def _fused(module: Any, target: Target) -> Any:
    tvm = _tvm.load()
    from tvm.relax import transform

    from effcompile.frontend.norm_endings import join_norm_endings
    from effcompile.frontend.read_through import read_through_moves

    passes = [
        transform.AnnotateTIROpPattern(),
        transform.FuseOps(),
        transform.FuseTIR(),
        join_norm_endings(target),
        read_through_moves(target),
        transform.DeadCodeElimination(),
    ]
    with _tvm.tvm_target(target):
        return tvm.transform.Sequential(passes)(module)


def _signature(
    function: Any, model: Any
) -> tuple[tuple[ArgumentSpec, ...], tuple[ArgumentSpec, ...]]:
    """Arguments under their ONNX names, with shapes and dtypes as Relax inferred them."""
    out_type = function.ret_ty
    output_types = list(out_type.fields) if hasattr(out_type, "fields") else [out_type]
    inputs = [
        _argument(value.name, parameter.ty)
        for value, parameter in zip(data_inputs(model), function.params, strict=True)
    ]
    outputs = [
        _argument(value.name, output_type)
        for value, output_type in zip(model.graph.output, output_types, strict=True)
    ]
    return tuple(inputs), tuple(outputs)


def _argument(name: str, argument_type: Any) -> ArgumentSpec:
    shape = getattr(argument_type, "shape", None)
    if shape is None or not hasattr(argument_type, "dtype"):
        raise BadModel(
            f"the shape of {name} depends on the values of the inputs: found {argument_type}. "
            "Only shapes that follow from the input shapes can be compiled."
        )
    extents = tuple(_extent(extent) for extent in shape.values)
    if 0 in extents:
        raise BadModel(
            f"{name} would hold nothing: its shape is ({', '.join(map(str, extents))}), expected "
            "extents of at least 1. Leave it out of the outputs, or mend what makes it empty."
        )
    return ArgumentSpec(name=name, shape=extents, dtype=str(argument_type.dtype))


def _extent(extent: Any) -> int | str:
    """A number, or what the model calls it: TVM prints ``T`` as ``T_1``, its prefix for numbers."""
    if hasattr(extent, "value"):
        return int(extent)
    if hasattr(extent, "name"):
        # TVM's own string type is a ``str`` that JSON does not take.
        return "".join(extent.name)
    text = re.sub(r"T\.int64\((-?\d+)\)", r"\1", "".join(str(extent)))
    return re.sub(r"\b([TIR])_1\b", r"\1", text)


def _unused_inputs(function: Any, inputs: tuple[ArgumentSpec, ...]) -> list[str]:
    _tvm.load()
    from tvm.relax import analysis

    free = {variable.name for variable in analysis.free_vars(function.body)}
    return [
        spec.name
        for spec, parameter in zip(inputs, function.params, strict=True)
        if parameter.name not in free
    ]


def _lift_constants(module: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Turn large constants of ``main`` into trailing parameters named by their content."""
    _tvm.load()
    from tvm import relax

    parameters: dict[str, np.ndarray] = {}
    variables: dict[str, Any] = {}

    @relax.expr_functor.mutator
    class Lift(relax.PyExprMutator):  # type: ignore[misc]
        """Replaces large constants by variables; equal constants by the same variable."""

        def visit_generic_const_(self, constant: Any) -> Any:
            value = constant_array(constant)
            if value is None or value.nbytes < SMALLEST_PARAMETER_BYTES:
                return constant
            parameter_id = content_hash(value)
            if parameter_id not in variables:
                variables[parameter_id] = relax.Var(f"p_{parameter_id}", constant.ty)
                parameters[parameter_id] = value
            return variables[parameter_id]

    function = module["main"]
    body = Lift(module).visit_expr(function.body)
    lifted = relax.Function(
        [*function.params, *variables.values()], body, function.ret_ty, attrs=function.attrs
    )
    return _with_main(module, lifted, len(function.params)), parameters


def _with_main(module: Any, function: Any, n_inputs: int) -> Any:
    from tvm import relax

    module = module.clone() if hasattr(module, "clone") else module
    module.update_func(module.get_global_var("main"), function.with_attr("num_input", n_inputs))
    return relax.transform.Normalize()(module)


def content_hash(value: np.ndarray) -> str:
    """Id of a parameter: equal dtype, shape and bytes give equal ids."""
    digest = hashlib.sha256(f"{value.dtype.name}{value.shape}".encode())
    digest.update(np.ascontiguousarray(value).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _merged(parts: list[_Lowered]) -> Any:
    """One module: entry functions under their names, equal functions once."""
    _tvm.load()
    from tvm import relax

    builder = relax.BlockBuilder()
    entries = []
    for part in parts:
        renamed = {
            variable: builder.add_func(function, variable.name_hint)
            for variable, function in part.module.functions_items()
            if not isinstance(function, relax.Function)
        }
        entries.append((part.entry.name, _with_callees(part.module, renamed)))
    module = builder.finalize()
    for name, function in entries:
        module[name] = function.with_attr("global_symbol", name)
    return relax.transform.Normalize()(module)


def _with_callees(module: Any, renamed: Mapping[Any, Any]) -> Any:
    from tvm import relax

    @relax.expr_functor.mutator
    class Rename(relax.PyExprMutator):  # type: ignore[misc]
        """Lets calls point at the functions of the merged module."""

        def visit_global_var_(self, variable: Any) -> Any:
            return renamed.get(variable, variable)

    return Rename(module).visit_expr(module["main"])
