"""How often each instruction runs: the branches of a kernel, followed with real numbers.

Only what decides branches is computed: the instructions that a branch's predicate depends
on, traced backwards. Loop bounds of generated kernels are constants or follow from thread
and block, so their trip counts come out exactly; a branch that depends on data is taken not
to be taken, and counted as unknown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from effcompile.sass.cubin import KernelCode
from effcompile.sass.evaluating import (
    SPECIAL_ZERO,
    Meaning,
    Value,
    is_followed,
    meaning_of,
    n_told,
    special_of,
)
from effcompile.sass.opcodes import Op
from effcompile.sass.operands import (
    Constant,
    Instruction,
    Key,
    Operand,
    Parameter,
    decode,
    results_of,
)

MOST_STEPS = 100_000
"""Instructions followed per warp; a kernel that runs on is taken to end there."""

MOST_WARPS = 8
"""Warps followed per block, spread evenly; they differ where a kernel gives them roles."""

_THREAD, _BLOCK = (0x21, 0x22, 0x23), (0x25, 0x26, 0x27)
"""Numbers of the special registers that hold coordinates."""

_JUMPS = (Op.BRA, Op.EXIT, Op.CALL_RELATIVE)
_NO_RETURN = 86
"""Bit of a call that pushes no return address."""

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """Where the warps of a block went.

    Attributes:
        counts: Mean runs of every instruction per warp, float64, shape (n,).
        n_unknown_branches: Branches whose outcome is not told by the code.
    """

    counts: np.ndarray
    n_unknown_branches: int


def count_visits(code: KernelCode, *, arch: str, grid: Triple, block: Triple) -> Visits:
    """Follow the warps of a block in the middle of the grid.

    Args:
        code: The kernel.
        arch: ``sm_90`` style; decides how branches are encoded.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
    """
    plan = _Plan(code, is_wide=_generation(arch) >= 90)
    middle = [extent // 2 for extent in grid]
    dimensions = dict(zip((0x0, 0x4, 0x8, 0xC, 0x10, 0x14), (*block, *grid), strict=True))
    warps = _warps(block) if plan.needs_thread else [0]
    total, unknown = np.zeros(len(code.words)), set[int]()
    for warp in warps:
        thread = _coordinates(32 * warp, block)
        specials = dict(zip((*_THREAD, *_BLOCK), (*thread, *middle), strict=True))
        starts, unknown_here = _follow(plan, specials, dimensions)
        total += starts
        unknown |= unknown_here
    return Visits(counts=total / len(warps), n_unknown_branches=len(unknown))


def _generation(arch: str) -> int:
    digits = "".join(character for character in arch if character.isdigit())
    return int(digits or 0)


def _warps(block: Triple) -> list[int]:
    n_warps = -(-block[0] * block[1] * block[2] // 32)
    return sorted({round(place) for place in np.linspace(0, n_warps - 1, min(n_warps, MOST_WARPS))})


def _coordinates(linear: int, block: Triple) -> Triple:
    rest, x = divmod(linear, block[0])
    z, y = divmod(rest, block[1])
    return x, y, z


class _Special(NamedTuple):
    """A special register, by number: a coordinate of thread or block."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """An instruction whose operands are numbered places, so that following it is quick.

    Attributes:
        place: Index in the kernel.
        is_jump: Whether it is a branch or an exit.
        is_told: Whether its guard alone tells if a jump is taken.
        guard: Place of its predicate, ``None`` for always.
        is_negated: Whether it runs where the guard is false.
        meaning: How its operands tell its result, ``None`` if they do not.
        sources: Places of its operands a, b and c.
        told: Places that hold the result.
        lost: Places of which nothing is known afterwards.
        goes_to: Where a branch goes; the end of the code for everything else.
    """

    place: int
    is_jump: bool
    is_told: bool
    guard: int | None
    is_negated: bool
    meaning: Meaning | None
    sources: tuple[int, int, int]
    told: tuple[int, ...]
    lost: tuple[int, ...]
    goes_to: int


class _Plan:
    """The instructions that must be followed, in order of place."""

    def __init__(self, code: KernelCode, *, is_wide: bool) -> None:
        self.n = len(code.words)
        self.is_wide = is_wide
        ops = code.field(0, 9)
        every = code.words.tolist()
        # A call that pushes no return address is how the compiler leaves some loops on 8.0.
        is_call = (ops == Op.CALL_RELATIVE) & (code.field(_NO_RETURN, 1) == 1)
        jumps = np.flatnonzero((ops == Op.BRA) | (ops == Op.EXIT) | is_call).tolist()
        self.steps = {place: decode(place, *every[place]) for place in jumps}
        needed = {one.guard for one in self.steps.values() if one.guard is not None}
        writers = _writers(code)
        pending = list(needed)
        while pending:
            for place in writers.get(pending.pop(), ()):
                if place in self.steps:
                    continue
                one = self.steps[place] = decode(place, *every[place])
                new = {key for key in _keys(one) if key not in needed}
                needed |= new
                pending += new
        self.places = sorted(self.steps)
        self._cells: dict[tuple[type, Operand | _Special], int] = {}
        self.path = [self._step(self.steps[place]) for place in self.places]
        self.needs_thread = any(
            one.op in (Op.S2R, Op.S2UR) and one.bits(72, 8) in _THREAD
            for one in self.steps.values()
        )

    def _step(self, one: Instruction) -> _Step:
        is_jump = one.op in _JUMPS
        results = () if is_jump else tuple(map(self._cell, one.results))
        number = special_of(one)
        a, b, c = one.sources if number is None else (_Special(number), *one.sources[1:])
        return _Step(
            place=one.place,
            is_jump=is_jump,
            is_told=one.op != Op.BRA or one.bits(87, 3) == 7,
            guard=None if one.guard is None else self._cell(one.guard),
            is_negated=one.is_negated,
            meaning=meaning_of(one),
            sources=(self._cell(a), self._cell(b), self._cell(c)),
            told=results[: n_told(one)],
            lost=results[n_told(one) :],
            goes_to=self._target(one) if one.op in (Op.BRA, Op.CALL_RELATIVE) else self.n,
        )

    def _cell(self, operand: Operand | _Special) -> int:
        # A constant and a parameter of equal number are equal as tuples.
        return self._cells.setdefault((type(operand), operand), len(self._cells))

    def cells(self, specials: dict[int, int], dimensions: dict[int, int]) -> list[Value]:
        """A place for every operand; what the launch tells is there from the start."""
        return [_known(operand, specials, dimensions) for _, operand in self._cells]

    def _target(self, one: Instruction) -> int:
        """Place that a branch goes to."""
        low, high = one.low >> 34, one.bits(64, 18)
        offset = low | high << 30
        offset -= (1 << 48) if offset >> 47 else 0
        if self.is_wide:
            offset = offset << 8 | (one.low >> 16 & 0xFF)
        return one.place + 1 + offset * 4 // 16


def _writers(code: KernelCode) -> dict[Key, list[int]]:
    """Places that write a key."""
    found: dict[Key, list[int]] = {}
    for place, (low, high) in enumerate(code.words.tolist()):
        for key in results_of(low, high):
            found.setdefault(key, []).append(place)
    return found


def _keys(one: Instruction) -> Iterator[Key]:
    if one.guard is not None:
        yield one.guard
    for source in one.sources if is_followed(one.op) else ():
        if isinstance(source, Key):
            yield source


def _follow(
    plan: _Plan, specials: dict[int, int], dimensions: dict[int, int]
) -> tuple[np.ndarray, set[int]]:
    """Runs of every instruction in one warp, and the places of unknown branches."""
    cells = plan.cells(specials, dimensions)
    spans: Counter[tuple[int, int]] = Counter()
    unknown: set[int] = set()
    start, n_steps = 0, 0
    while start < plan.n and n_steps < MOST_STEPS:
        first = bisect_left(plan.places, start)
        jump = _run_stretch(plan.path, first, cells, unknown)
        n_steps += (len(plan.path) if jump is None else jump + 1) - first
        taken = None if jump is None else plan.path[jump]
        spans[start, plan.n if taken is None else taken.place + 1] += 1
        start = plan.n if taken is None else taken.goes_to
        if start < 0:
            break
    return _runs_of(spans, plan.n), unknown


def _run_stretch(
    path: list[_Step], first: int, cells: list[Value], unknown: set[int]
) -> int | None:
    """Follow steps up to the first jump that is taken; its index, ``None`` at the end."""
    for index in range(first, len(path)):
        step = path[index]
        runs: bool | None = not step.is_negated
        if step.guard is not None:
            guard = cells[step.guard]
            runs = None if guard is None else bool(guard) != step.is_negated
        if step.is_jump:
            if runs is None or not step.is_told:
                unknown.add(step.place)
            elif runs:
                return index
        elif runs is not False:
            value = None
            if runs and step.meaning is not None:
                a, b, c = step.sources
                value = step.meaning(cells[a], cells[b], cells[c])
            for cell in step.told:
                cells[cell] = value
            for cell in step.lost:
                cells[cell] = None
    return None


def _known(
    operand: Operand | _Special, specials: dict[int, int], dimensions: dict[int, int]
) -> Value:
    """What an operand is worth before anything has run."""
    if isinstance(operand, _Special):
        return 0 if operand.number == SPECIAL_ZERO else specials.get(operand.number)
    if isinstance(operand, Constant):
        return operand.value
    if isinstance(operand, Parameter):
        return dimensions.get(operand.offset)
    return 1 if operand.kind in ("P", "UP") and operand.number == 7 else None


def _runs_of(spans: Counter[tuple[int, int]], n: int) -> np.ndarray:
    """Runs per instruction from runs of stretches, shape (n,)."""
    edges = np.zeros(n + 1)
    for (start, end), count in spans.items():
        edges[start] += count
        edges[end] -= count
    return np.cumsum(edges[:n])
