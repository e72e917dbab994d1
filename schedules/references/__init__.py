"""References of own operators, one module per operator: ``schedules/references/<op>.py``.

A module is found by ``workload.op`` and holds

    reference(workload, inputs) -> list[Reference]       what the outputs must be
    make(workload, rng) -> list[np.ndarray]              optional: inputs of its own

Operators without a module are computed by their program (``schedules.program_reference``).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from schedules.expected import Reference
from schedules.workload import Workload

Compute = Callable[[Workload, list[np.ndarray]], list[Reference]]
Draw = Callable[[Workload, np.random.Generator], list[np.ndarray]]


def reference_of(workload: Workload) -> Compute | None:
    """What computes the outputs of a workload's operator; ``None`` if only its program does."""
    module = _module_of(workload.op)
    return None if module is None else module.reference


def draw_of(workload: Workload) -> Draw | None:
    """What draws inputs of a workload's operator; ``None`` if the general rules do."""
    return getattr(_module_of(workload.op), "make", None)


def _module_of(op: str) -> Any:
    name = f"{__name__}.{op}"
    # Any name may stand in a model: only ours are modules.
    if not op.isidentifier() or op.startswith("_") or importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name)
