"""Products of many rows with quantised matrices: unpacked once per launch, then multiplied.

The first launch writes the matrix as floats, the second is one of a matrix-product family's: of
16-bit floats ``matmul`` on Hopper, else ``matmul_mma``; of float32 ``matmul_simt``. Packed weights
are the same as those of few rows (``schedules/gemv_dequant.py``), so entry points that read a
prompt and those that continue it share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from schedules import matmul_cuda, matmul_mma_cuda, matmul_simt_cuda
from schedules.contraction import Contraction
from schedules.covering import required
from schedules.cuda_kernel import CudaLaunch, cuda_program
from schedules.dtypes import HALF
from schedules.gemm_dequant_costs import unpacking_cycles
from schedules.gemm_dequant_cuda import contractions_of, matrices_of, unpack_launch, up_of
from schedules.gemv_dequant_problem import GemvProblem, gemv_problem
from schedules.knobs import KnobSpace, Value, Values
from schedules.matmul import MatmulSpace, takes
from schedules.matmul_mma import MatmulMmaSpace
from schedules.matmul_simt import MatmulSimtSpace
from schedules.product_ending import partial_sums
from schedules.task import Task

# Fewer are a matter of memory: their kernels read every code once.
LEAST_ROWS = 17
ProductSpace = MatmulSpace | MatmulMmaSpace | MatmulSimtSpace
ProductFamily = tuple[ProductSpace, Callable[[Contraction, Any], list[CudaLaunch]]]


def gemm_dequant_space(task: Task) -> KnobSpace | None:
    """The family's space for a task, ``None`` if it does not cover the workload or target."""
    return None if _covered(task) is None else GemmDequantSpace(task)


def _covered(task: Task) -> tuple[GemvProblem, list[ProductFamily]] | None:
    """The quantised product, and who computes the products that it comes to."""
    problem = gemv_problem(task.workload)
    families = None if problem is None else _families(task, problem)
    return None if problem is None or families is None else (problem, families)


def _families(task: Task, problem: GemvProblem) -> list[ProductFamily] | None:
    """One per product, ``None`` if one of them is not covered."""
    # Unpacked eight codes at a time; biases of a gate and of the other matrix lie in turns.
    covered = problem.depth % 8 == 0 and not (problem.gated and problem.has_bias)
    if not covered or problem.is_int8 or problem.rows < LEAST_ROWS:
        return None
    found = [_family_of(task, contraction) for contraction in contractions_of(problem)]
    known = [family for family in found if family is not None]
    return known if len(known) == len(found) else None


def _family_of(task: Task, contraction: Contraction) -> ProductFamily | None:
    """The space and the launches of one product."""
    if contraction.dtype not in HALF:
        plain = MatmulSimtSpace(task, contraction)
        fits = task.target.has_async_copies and not plain.is_empty
        return (plain, matmul_simt_cuda.launches) if fits else None
    if task.target.is_hopper and takes(contraction):
        hopper = MatmulSpace(task, contraction)
        return None if hopper.is_empty else (hopper, matmul_cuda.launches)
    if task.target.has_async_copies:
        warps = MatmulMmaSpace(task, contraction)
        return None if warps.is_empty else (warps, matmul_mma_cuda.launches)
    return None


class GemmDequantSpace(KnobSpace):
    """The points of the largest product, for all products, behind a launch that unpacks."""

    name = "gemm_dequant"

    def __init__(self, task: Task) -> None:
        self._quantised, self._families = required(
            _covered(task),
            task,
            family=self.name,
            expected="packed matrices, and x, scales and outputs of one float type",
        )
        self._contractions = contractions_of(self._quantised)
        self._workload, self._n_cores = task.workload, task.target.n_cores
        largest = max(range(len(self._families)), key=lambda i: self._contractions[i].n)
        self._product = self._families[largest][0]
        self.knobs = self._product.knobs

    def _legal(self) -> Iterator[dict[str, Value]]:
        yield from (point for point in self._product.points if self._shares(point))

    @cached_property
    def estimates(self) -> np.ndarray | None:
        """Of the largest product, behind unpacking; see :class:`KnobSpace`."""
        known = self._product.estimates
        if known is None:
            return None
        shares = [self._shares(point) for point in self._product.points]
        found: np.ndarray = known[shares] + unpacking_cycles(self._quantised, self._n_cores)
        return found

    def _shares(self, values: Values) -> bool:
        """Whether products leave each other alone: parts of sums have one place."""
        return len(self._families) == 1 or values["splits"] == 1

    def refusal(self, values: Values) -> str | None:
        """As the matrix-product family's."""
        if not self._shares(values):
            return "sums of several products are not split"
        return self._product.refusal(values)

    def numbers(self, values: Values) -> list[float]:
        """As the matrix-product family's."""
        return self._product.numbers(values)

    def program(self, values: Values) -> Any:
        """The bound program: unpacking, then a launch per product, or two if sums are split."""
        problem = self._quantised
        made = [unpack_launch(problem)]
        spaces = [*matrices_of(problem), *([up_of(problem)] if problem.gated else [])]
        for contraction, (space, launches) in zip(self._contractions, self._families, strict=True):
            schedule = space.schedule(values)
            made += launches(contraction, schedule)
            spaces += partial_sums(contraction, schedule.splits)
        return cuda_program(self._workload, made, workspaces=spaces)
