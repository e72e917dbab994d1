"""What one warp of a kernel executes: its machine code times how often each part runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionMix:
    """Work of one warp, the mean over the warps of a block in the middle of the grid.

    Bytes are what all 32 lanes together ask for, before any cache or coalescing.

    Attributes:
        fp32: Single-precision instructions.
        fp16: Half-precision instructions, two lanes each.
        fp64: Double-precision instructions.
        special: Exponentials, roots, reciprocals, sines.
        integer: Integer and address arithmetic, logic and shifts.
        uniform: Instructions of the scalar unit.
        convert: Conversions between number formats.
        move: Moves, selections and permutations of registers.
        compare: Comparisons and predicate logic.
        shuffle: Exchanges between lanes, votes and warp reductions.
        control: Branches, barriers' bookkeeping and whatever changes the program counter.
        barrier: Barriers of a block and waits for memory.
        constant: Loads from constant memory.
        atomic: Atomic operations and reductions in memory.
        bulk_copy: Copies of whole tiles by the copy engine, whose size the code does not tell.
        tensor: Matrix instructions.
        tensor_macs: Multiply-adds of the matrix instructions.
        global_load_bytes: Loads from global memory.
        global_store_bytes: Stores to global memory.
        async_copy_bytes: Copies from global to shared memory that pass no register.
        shared_load_bytes: Loads from shared memory.
        shared_store_bytes: Stores to shared memory.
        local_bytes: Spills and arrays that found no registers, both ways.
        other: Instructions of no known kind.
        n_static: Instructions in the machine code.
        n_unknown_branches: Branches whose outcome the code alone does not tell; they were
            taken not to be taken.
    """

    fp32: float = 0.0
    fp16: float = 0.0
    fp64: float = 0.0
    special: float = 0.0
    integer: float = 0.0
    uniform: float = 0.0
    convert: float = 0.0
    move: float = 0.0
    compare: float = 0.0
    shuffle: float = 0.0
    control: float = 0.0
    barrier: float = 0.0
    constant: float = 0.0
    atomic: float = 0.0
    bulk_copy: float = 0.0
    tensor: float = 0.0
    tensor_macs: float = 0.0
    global_load_bytes: float = 0.0
    global_store_bytes: float = 0.0
    async_copy_bytes: float = 0.0
    shared_load_bytes: float = 0.0
    shared_store_bytes: float = 0.0
    local_bytes: float = 0.0
    other: float = 0.0
    n_static: int = 0
    n_unknown_branches: int = 0
