"""16-bit linear layers of the same ``x`` side by side, as queries, keys and values are.

One product with more columns fills the multiprocessors better than three, and is one launch. Its
parts are slices of one array, so layers are joined only where whatever reads them moves elements
anyway, or normalises them: such readers take their part in place (``norm_endings.py``,
``read_through.py``), and nothing is copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from effcompile.frontend.kernels.marking import GENERIC, marks_of, type_of
from effcompile.frontend.kernels.norms import LAYER_NORM, RMS_NORM
from effcompile.frontend.matchers.expressions import Scope, readers_of
from effcompile.frontend.matchers.linear_layers import Linear, linear_layer
from schedules import _tvm
from schedules.dtypes import HALF
from schedules.target import Target

MOST_SIBLINGS = 4
"""More are no queries, keys and values: all layers of a network that read one condition."""
ALIGNED_COLUMNS = 8
"""Parts begin at multiples of 16 bytes, so that they are read in such words."""
VIEWS = ("reshape", "expand_dims", "squeeze")
MOVES = ("permute_dims", "strided_slice")
NORMS = (LAYER_NORM, RMS_NORM)
POINTWISE = (
    "astype", "power", "multiply", "divide", "add", "subtract", "negative", "concat", "mean",
    "nn.rms_norm", "nn.layer_norm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Member:
    """A layer, and the variable of its result."""

    variable: Any
    layer: Linear


def join_sibling_layers(target: Target) -> Any:
    """The pass, for a graph of operators; it does nothing where slices are not read in place."""
    tvm = _tvm.load()

    def run(module: Any, _context: Any) -> Any:
        if not target.has_async_copies:
            return module
        for variable, function in module.functions_items():
            if isinstance(function, tvm.relax.Function):
                mutator = _joiner_class()(module, _groups(module, function))
                if mutator.places:
                    mutator.builder_.update_func(variable, mutator.visit_expr(function))
                    module = mutator.builder_.get()
        return tvm.relax.transform.DeadCodeElimination()(module)

    return tvm.transform.module_pass(run, opt_level=0, name="JoinSiblingLayers")


def _groups(module: Any, function: Any) -> list[list[_Member]]:
    """Layers that may be joined, two or more of each."""
    graph = _Graph(module, function)
    found: dict[Hashable, list[_Member]] = defaultdict(list)
    for variable in graph.bound:
        layer = linear_layer(variable, graph.scope)
        if layer is not None and _fits(layer, variable) and graph.is_read_in_place(variable):
            found[graph.scope.resolved(layer.x)].append(_Member(variable, layer))
    return [one for one in found.values() if 1 < len(one) <= MOST_SIBLINGS]


def _fits(layer: Linear, result: Any) -> bool:
    """Whether shapes are known, elements 16-bit floats, and columns whole words."""
    dtype = type_of(result)[1]
    is_half = dtype in HALF and str(layer.matrix.dtype) == dtype
    return layer.is_static and is_half and layer.matrix.shape[1] % ALIGNED_COLUMNS == 0


class _Graph:
    """Bindings of a function, and who reads them."""

    def __init__(self, module: Any, function: Any) -> None:
        from tvm import relax

        self.module = module
        self.bound: dict[Any, Any] = {}
        self.readers: dict[Any, list[Any]] = defaultdict(list)
        for block in function.body.blocks:
            for binding in block.bindings:
                self.bound[binding.var] = binding.value
                for read in relax.analysis.free_vars(binding.value):
                    self.readers[read].append(binding.var)
        self.results = set(relax.analysis.free_vars(function.body.body))
        builder = relax.BlockBuilder(module)
        self.scope = Scope(builder, self.bound.get, readers_of(function))

    def is_read_in_place(self, variable: Any) -> bool:
        """Whether readers move a layer's result, or normalise it, behind views at most."""
        return self._all_readers(variable, (*VIEWS, *MOVES))

    def _all_readers(self, variable: Any, allowed: tuple[str, ...]) -> bool:
        if variable in self.results or not self.readers[variable]:
            return False
        return all(self._reads_in_place(one, allowed) for one in self.readers[variable])

    def _reads_in_place(self, reader: Any, allowed: tuple[str, ...]) -> bool:
        name = str(getattr(getattr(self.bound[reader], "op", None), "name", ""))
        name = name.removeprefix("relax.")
        if name == "call_tir":
            return marks_of(self.module[self.bound[reader].args[0]])[0] in (GENERIC, *NORMS)
        if name in VIEWS:
            return self._all_readers(reader, (*VIEWS, *MOVES, *POINTWISE))
        return name in allowed


@cache
def _joiner_class() -> Any:
    _tvm.load()
    from tvm import relax

    @relax.expr_functor.mutator
    class Joiner(relax.PyExprMutator):  # type: ignore[misc]
        """Puts one layer in the place of the first of a group, slices of it for all."""

        def __init__(self, module: Any, groups: list[list[_Member]]) -> None:
            super().__init__(module)
            self.groups = groups
            self.joined: dict[int, Any] = {}
            self.places = {
                member.variable: (number, index)
                for number, group in enumerate(groups)
                for index, member in enumerate(group)
            }

        def visit_var_binding_(self, binding: Any) -> None:
            if binding.var in self.places:
                binding = relax.VarBinding(binding.var, self._part(*self.places[binding.var]))
            super().visit_var_binding_(binding)

        def _part(self, number: int, index: int) -> Any:
            group = self.groups[number]
            if number not in self.joined:
                self.joined[number] = self._whole([member.layer for member in group])
            widths = [member.layer.matrix.shape[1] for member in group]
            first = sum(widths[:index])
            whole = self.joined[number]
            axis = len(type_of(whole)[0]) - 1
            return relax.op.strided_slice(whole, [axis], [first], [first + widths[index]])

        def _whole(self, layers: list[Linear]) -> Any:
            x = self.visit_expr(layers[0].x)
            matrix = relax.const(np.concatenate([one.matrix for one in layers], axis=1))
            product = self.builder_.emit(relax.op.matmul(x, matrix))
            if all(one.bias is None for one in layers):
                return product
            bias = relax.const(np.concatenate(list(map(_bias, layers))))
            return self.builder_.emit(relax.op.add(product, bias))

    return Joiner


def _bias(layer: Linear) -> np.ndarray:
    """Zeros where a layer has none."""
    columns = layer.matrix.shape[1]
    return np.zeros(columns, layer.matrix.dtype) if layer.bias is None else layer.bias
