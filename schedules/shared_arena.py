"""Dynamic shared memory that several buffers of a kernel take in turn.

TVM lays all dynamic buffers of a kernel into one arena. Buffers that are never needed at the
same time get the same place there, after the pass that puts barriers between threads has run:
nothing then keeps a fast warp from writing one buffer while a slow one still reads the other.
These barriers are added here, in the scheduled program:

    for k: stage a, stage b, multiply          a and b are read for the last time
    barrier
    for r: store c, copy c                     c may be where a and b were
    barrier                                    only inside a loop, whose next round writes a
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schedules import _tvm
from schedules.analysis import THREAD_BINDING
from schedules.errors import IllegalCandidate

SCOPE = "shared.dyn"


def has_arena(function: Any) -> bool:
    """Whether several buffers of a schedulable function are in dynamic shared memory."""
    return len(_arena_buffers(function)) > 1


def _arena_buffers(function: Any) -> list[Any]:
    import tvm_ffi
    from tvm.s_tir import SBlock

    found: list[Any] = []

    def collect(block: Any) -> None:
        found.extend(one for one in block.alloc_buffers if str(one.scope()) == SCOPE)

    tvm_ffi.structural_walk(function.body, (SBlock, collect))
    return found


def with_barriers(function: Any) -> Any:
    """The function with a barrier wherever a buffer may take the place of another.

    Raises:
        IllegalCandidate: A barrier would stand under a condition, where threads may differ.
    """
    import tvm_ffi

    barriers = _Barriers(function)
    body = tvm_ffi.structural_mutate(function.body, barriers.callbacks)
    if barriers.is_conditional:
        raise IllegalCandidate(
            "buffers share dynamic shared memory under a condition, where threads cannot wait "
            "for each other."
        )
    return function.with_body(body)


class _Barriers:
    """Walks a function and rewrites its sequences.

    Blocks without blocks inside are counted in program order; a buffer lives from the first that
    names it to the last.

    Args:
        function: Whose dynamic buffers share an arena.

    Attributes:
        is_conditional: A barrier came to stand under a condition.
    """

    def __init__(self, function: Any) -> None:
        buffers = _arena_buffers(function)
        uses = [_regions_of(leaf) for leaf in _leaves(function.body)]
        lives = [_life(buffer, uses) for buffer in buffers]
        self._first = {life[0] for life in lives if life}
        self._last = {life[-1] for life in lives if life}
        self._position = 0
        self._n_loops = 0
        self._n_conditions = 0
        self.is_conditional = False

    @property
    def callbacks(self) -> list[Any]:
        tirx = _tvm.load().tirx
        from tvm.s_tir import SBlockRealize

        return [
            (tirx.For, self._loop),
            (tirx.IfThenElse, self._condition),
            (SBlockRealize, self._block),
            (tirx.SeqStmt, self._sequence),
        ]

    def _loop(self, loop: Any, mutator: Any) -> Any:
        is_loop = int(loop.kind) != THREAD_BINDING
        self._n_loops += is_loop
        changed = mutator.default_mutate(loop)
        self._n_loops -= is_loop
        return changed

    def _condition(self, statement: Any, mutator: Any) -> Any:
        self._n_conditions += 1
        changed = mutator.default_mutate(statement)
        self._n_conditions -= 1
        return changed

    def _block(self, block: Any, mutator: Any) -> Any:
        always = hasattr(block.predicate, "value") and bool(block.predicate.value)
        return mutator.default_mutate(block) if always else self._condition(block, mutator)

    def _sequence(self, sequence: Any, mutator: Any) -> Any:
        start = self._position
        children: list[Any] = []
        for child in sequence.seq:
            here = self._position
            after = here + len(_leaves(child))
            if self._last & set(range(start, here)) and self._first & set(range(here, after)):
                children.append(self._barrier())
            children.append(mutator.mutate(child))
            self._position = after
        if len(children) == len(sequence.seq):
            return sequence if _same(children, sequence.seq) else _sequence_of(children)
        if self._n_loops:
            children.append(self._barrier())
        return _sequence_of(children)

    def _barrier(self) -> Any:
        # Raised by the caller: on its way through TVM an error would lose its type.
        self.is_conditional |= self._n_conditions > 0
        tirx = _tvm.load().tirx
        return tirx.Evaluate(tirx.op.tvm_storage_sync(SCOPE))


def _leaves(statement: Any) -> list[Any]:
    """Blocks without blocks inside, in program order."""
    import tvm_ffi
    from tvm.s_tir import SBlock

    found: list[Any] = []

    def note(block: Any) -> None:
        inside: list[Any] = []
        tvm_ffi.structural_walk(block.body, (SBlock, inside.append))
        if not inside:
            found.append(block)

    tvm_ffi.structural_walk(statement, (SBlock, note))
    return found


def _regions_of(block: Any) -> list[Any]:
    """The buffers that a block names."""
    return [region.source for region in (*block.reads, *block.writes)]


def _life(buffer: Any, uses: Sequence[Sequence[Any]]) -> list[int]:
    """Positions of the blocks that name a buffer."""
    return [
        position for position, named in enumerate(uses) if any(buffer.same_as(one) for one in named)
    ]


def _same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return all(one.same_as(other) for one, other in zip(left, right, strict=True))


def _sequence_of(statements: Sequence[Any]) -> Any:
    return _tvm.load().tirx.SeqStmt(list(statements))
