"""What families over rows of memory share: opening a space, vector widths, texts of constants."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from schedules import dtypes
from schedules.covering import required, unless_empty
from schedules.knobs import KnobSpace
from schedules.task import Task
from schedules.workload import Workload

C_TYPES = {dtype: dtypes.CUDA_TYPES[dtype] for dtype in dtypes.FLOATS}
ELEMENT_BYTES = {dtype: dtypes.ELEMENT_BYTES[dtype] for dtype in dtypes.FLOATS}
"""Of the elements that rows have."""
READ_BYTES = {**ELEMENT_BYTES, "bool": dtypes.ELEMENT_BYTES["bool"]}
"""Of what can be read as numbers; truth is one."""
WORD_BYTES = 16

Problem = TypeVar("Problem")
Space = TypeVar("Space", bound="RowSpace[Any]")


class RowSpace(KnobSpace, Generic[Problem]):
    """A family for CUDA whose programs follow from a problem, made of the workload alone.

    Attributes:
        covered: What the family covers, for the message of an error.
    """

    covered: ClassVar[str]

    def __init__(self, task: Task) -> None:
        problem = self.problem_of(task.workload)
        self._problem = required(problem, task, family=self.name, expected=self.covered)
        self._workload, self._target = task.workload, task.target

    @staticmethod
    @abstractmethod
    def problem_of(workload: Workload) -> Problem | None:
        """The problem behind a workload, ``None`` if the family does not cover it."""

    @property
    def early_choices(self) -> tuple[str, ...]:
        """Values of a knob: whether a kernel may start before the one in front has ended.

        GPUs can since they have clusters.
        """
        return ("no", "yes") if self._target.has_clusters else ("no",)

    @classmethod
    def covering(cls: type[Space], task: Task) -> Space | None:
        """The space of a task, ``None`` where other spaces have to serve."""
        if task.target.kind != "cuda" or cls.problem_of(task.workload) is None:
            return None
        return unless_empty(cls(task))


def widest_vectors(
    width: int, element_bytes: int, choices: tuple[int, ...] = (1, 2, 4, 8)
) -> tuple[int, ...]:
    """The two widest that divide a row; narrower ones only cost instructions."""
    fitting = [v for v in choices if v * element_bytes <= WORD_BYTES and width % v == 0]
    return tuple(fitting[-2:])


def constants(values: Mapping[str, int | bool]) -> list[str]:
    """CUDA definitions, one a line; integers beyond 32 bits are ``long long``."""
    return [
        f"constexpr {_kind(value)} {name} = {_literal(value)};" for name, value in values.items()
    ]


def _kind(value: int | bool) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int" if -(2**31) < value < 2**31 else "long long"


def _literal(value: int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
