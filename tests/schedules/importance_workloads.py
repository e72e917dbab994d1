"""Workloads of the importance of keys, as the front end makes them of ONNX models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effcompile.bench.kernels.custom_models import custom_model
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.target import Target, known_target
from schedules.task import Task


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shapes of one workload."""

    heads: int
    kv_heads: int
    keys: int
    queries: int = 1
    batch: int = 1
    width: int = 128
    dtype: str = "float16"

    def model(self) -> Any:
        query = (self.batch, self.heads, self.queries, self.width)
        key = (self.batch, self.kv_heads, self.keys, self.width)
        return custom_model(
            "LastRowImportance",
            {"q": (query, self.dtype), "k": (key, self.dtype)},
            {"importance": ((self.batch, self.keys), "float32")},
        )

    def task(self, target: Target | None = None) -> Task:
        chosen = target or known_target("h200")
        program = lower({"main": prepare_model(self.model())}, chosen)
        (found,) = extract_tasks(program, chosen)
        return found.task
