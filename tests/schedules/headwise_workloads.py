"""Workloads of head-wise attention, as the front end makes them of ONNX models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from effcompile.bench.single_ops import headwise_attention_model
from effcompile.extract import extract_tasks
from effcompile.frontend.checking import prepare_model
from effcompile.lower import lower
from schedules.headwise_problem import ARROW, FULL, SKIP, Mode
from schedules.target import Target, known_target
from schedules.task import Task

MIXED = ((ARROW, 128), (FULL, 0), (SKIP, 0), (ARROW, 0), (ARROW, 70), (ARROW, 10_000))


@dataclass(frozen=True, kw_only=True)
class Headwise:
    """Tokens, modes and options of one workload; ``modes`` may be repeated over the heads."""

    image: int
    text: int
    modes: tuple[Mode, ...]
    heads: int = 0
    kv_heads: int = 0
    batch: int = 1
    width: int = 64
    dtype: str = "float16"
    text_first: bool = False
    cached: bool = False
    known: bool = True

    def all_modes(self) -> list[Mode]:
        n_heads = self.heads or len(self.modes)
        return [self.modes[head % len(self.modes)] for head in range(n_heads)]

    def model(self) -> Any:
        modes = self.all_modes()
        tokens, n_heads = self.image + self.text, len(modes)
        return headwise_attention_model(
            [self.batch, n_heads, tokens, self.width],
            [self.batch, self.kv_heads or n_heads, tokens, self.width],
            self.dtype,
            modes=modes if self.known else None,
            text_tokens=self.text,
            order="text_first" if self.text_first else "image_first",
            cached=self.cached,
        )

    def task(self, target: Target | None = None) -> Task:
        chosen = target or known_target("h200")
        program = lower({"main": prepare_model(self.model())}, chosen)
        (found,) = extract_tasks(program, chosen)
        return found.task
