"""Own design spaces: named knobs, a constraint, and a function from values to a program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import msgspec
import numpy as np

from schedules import _tvm
from schedules.candidate import Candidate
from schedules.errors import IllegalCandidate

Value = int | str
Values = Mapping[str, Value]

MUTATION_TRIES = 32
DRAWING_SPREAD = 0.1
"""How far estimates are off when points are drawn by them, as a share: what they cannot tell apart
takes turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One decision: its name and the values it may take, numbers in increasing order."""

    name: str
    values: tuple[Value, ...]


def first_fault(faults: Mapping[str, bool]) -> str | None:
    """The first sentence that applies to a point; see :meth:`KnobSpace.refusal`."""
    return next((fault for fault, applies in faults.items() if applies), None)


class KnobSpace(ABC):
    """The design-space protocol over knobs; a family adds its knobs and its program.

    Spaces are enumerated once (some ten thousand points take a tenth of a second), so
    sampling never repeats a point.
    """

    name: str
    knobs: tuple[Knob, ...]

    @abstractmethod
    def refusal(self, values: Values) -> str | None:
        """Why these values are not legal, ``None`` if they are."""

    @abstractmethod
    def program(self, values: Values) -> Any:
        """The scheduled ``PrimFunc`` of legal values."""

    @abstractmethod
    def numbers(self, values: Values) -> list[float]:
        """What the family knows about a point beside its knobs; the same length for all."""

    @cached_property
    def points(self) -> list[dict[str, Value]]:
        """Every legal point."""
        return list(self._legal())

    @cached_property
    def simplest(self) -> dict[str, Value] | None:
        """The first legal point, ``None`` without one; looks no further."""
        return next(self._legal(), None)

    @property
    def is_empty(self) -> bool:
        """Whether no point is legal."""
        return self.simplest is None

    def _legal(self) -> Iterator[dict[str, Value]]:
        names = [knob.name for knob in self.knobs]
        for choice in product(*(knob.values for knob in self.knobs)):
            point = dict(zip(names, choice, strict=True))
            if self.refusal(point) is None:
                yield point

    @cached_property
    def estimates(self) -> np.ndarray | None:
        """About how long each of the points takes, in cycles; infinite if it is not worth a trial.

        ``None`` where the family cannot tell.
        """
        return None

    @property
    def least_cycles(self) -> float | None:
        """Estimate of the best point."""
        known = self.estimates
        return None if known is None or len(known) == 0 else float(known.min())

    def candidate(self, values: Values) -> Candidate:
        """The candidate of some values, in canonical form."""
        ordered = {knob.name: values[knob.name] for knob in self.knobs}
        return Candidate(space=self.name, decisions=msgspec.json.encode(ordered).decode())

    def values_of(self, candidate: Candidate) -> dict[str, Value]:
        """The legal values behind a candidate.

        Raises:
            IllegalCandidate: Another space, unknown knobs or values, or a broken constraint.
        """
        values = self._parsed(candidate)
        reason = self.refusal(values)
        if reason is not None:
            raise IllegalCandidate(f"candidate {candidate.candidate_id} is not legal: {reason}.")
        return values

    def _parsed(self, candidate: Candidate) -> dict[str, Value]:
        known = {knob.name: knob.values for knob in self.knobs}
        try:
            values = msgspec.json.decode(candidate.decisions, type=dict[str, int | str])
        except msgspec.MsgspecError as error:
            raise IllegalCandidate(
                f"candidate {candidate.candidate_id} holds no knob values: {error}."
            ) from None
        fits = candidate.space == self.name and list(values) == list(known)
        if not fits or any(value not in known[name] for name, value in values.items()):
            raise IllegalCandidate(
                f"candidate {candidate.candidate_id} of space {candidate.space!r} has decisions "
                f"{candidate.decisions[:200]}, expected space {self.name!r} with {known}."
            )
        return values

    def sample(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most ``n`` distinct points: by estimates that are somewhat off, else uniformly."""
        chosen = self._drawn(rng)[: max(n, 0)]
        return [self.candidate(self.points[int(index)]) for index in chosen]

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Indices of all points that are worth a trial, in the order of a draw."""
        if self.estimates is None:
            return rng.permutation(len(self.points))
        off = DRAWING_SPREAD * rng.standard_normal(len(self.points))
        order = np.argsort(np.log(self.estimates) + off)
        found: np.ndarray = order[np.isfinite(self.estimates[order])]
        return found

    def mutate(
        self, parents: Sequence[Candidate], rng: np.random.Generator
    ) -> list[Candidate | None]:
        """One or two knobs of each parent changed."""
        return [self._mutated(self.values_of(parent), rng) for parent in parents]

    def _mutated(self, values: dict[str, Value], rng: np.random.Generator) -> Candidate | None:
        movable = [knob for knob in self.knobs if len(knob.values) > 1]
        for _ in range(MUTATION_TRIES if movable else 0):
            n_changed = min(int(rng.integers(1, 3)), len(movable))
            changed = dict(values)
            for index in rng.choice(len(movable), size=n_changed, replace=False):
                knob = movable[int(index)]
                others = [value for value in knob.values if value != values[knob.name]]
                changed[knob.name] = others[int(rng.integers(len(others)))]
            if self.refusal(changed) is None:
                return self.candidate(changed)
        return None

    def features(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Numbers as log2(1 + value), words as one column per value, then the family's own."""
        rows = [self._feature_row(self.values_of(candidate)) for candidate in candidates]
        width = len(self._feature_row(self.points[0]))
        return np.asarray(rows, dtype=np.float32).reshape(len(rows), width)

    def _feature_row(self, values: Values) -> list[float]:
        row: list[float] = []
        for knob in self.knobs:
            value = values[knob.name]
            if isinstance(value, int):
                row.append(float(np.log2(1 + value)))
            else:
                row.extend(float(value == other) for other in knob.values)
        return [*row, *self.numbers(values)]

    def realise(self, candidate: Candidate) -> Any:
        """The module of a candidate's program.

        Raises:
            IllegalCandidate: See :meth:`values_of`.
        """
        return self.program_module(self.values_of(candidate))

    def program_module(self, values: Values) -> Any:
        """The program of legal values as a module."""
        return _tvm.load().IRModule({"main": self.program(values)})
