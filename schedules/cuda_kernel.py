"""Programs whose device code is CUDA C++ and whose launches, memory and tensor maps are TVM's.

A family writes one ``__device__`` function per launch; this module wraps it into a bound
``PrimFunc``, so that such a program is lowered, compiled, cached, exported and called
like any other. In the function, ``blockIdx`` and ``threadIdx`` hold what the launch says,
and the parameters are, in order:

* a pointer for each buffer (``const`` and ``__restrict__`` are the function's to add),
* ``const CUtensorMap&`` for each tensor map,
* ``unsigned char*`` to the dynamic shared memory, if there is any, aligned to 16 bytes.

Programs of one network end up in one CUDA source. Each launch's text stands in a namespace of
its own there, so families need no names that nobody else has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from schedules.early_launch import EARLY_LAUNCH
from schedules.low_level import low_level_program
from schedules.workload import TensorSpec, Workload

DIMENSIONS = ("x", "y", "z")
SWIZZLE_CODES = {0: 0, 32: 1, 64: 2, 128: 3}
MIN_BLOCKS = "tirx.launch_bounds_min_blocks_per_sm"
ENCODE = "runtime.cuTensorMapEncodeTiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMap:
    """A tiled view of a buffer for the tensor memory accelerator (compute capability 9.0).

    Attributes:
        buffer: Name of the input, output or workspace.
        shape: Extents, innermost first.
        strides_bytes: Distance between neighbours of every dimension but the innermost;
            multiples of 16.
        box: Extents of one copied tile, innermost first.
        swizzle_bytes: 0, 32, 64 or 128.
        l2_promotion: 0 to 3: none, 64, 128 or 256 bytes.
        steps: Of each dimension of the box, every how many elements are copied; empty for all.
    """

    buffer: str
    shape: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    box: tuple[int, ...]
    swizzle_bytes: int = 128
    l2_promotion: int = 2
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaLaunch:
    """One kernel of a program.

    Attributes:
        function: Name of the ``__device__ void`` function.
        source: CUDA C++ that defines it; no ``#include``.
        headers: CUDA C++ that ``source`` needs, outside its namespace; launches may share them.
        arguments: Names of buffers, and tensor maps.
        grid: Blocks along x, y, z.
        block: Threads along x, y, z.
        shared_bytes: Dynamic shared memory of a block.
        min_blocks: Blocks that a multiprocessor must be able to hold at once, which bounds
            the registers; 0 leaves them to the compiler.
        early: Whether it may start before the kernel in front has ended; see
            ``schedules/early_launch.py``.
        cluster: Neighbouring blocks along x that run at once and see each other's shared
            memory (compute capability 9.0).
    """

    function: str
    source: str
    arguments: tuple[str | TensorMap, ...]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    headers: tuple[str, ...] = ()
    shared_bytes: int = 0
    min_blocks: int = 0
    early: bool = False
    cluster: int = 1


def cuda_program(
    workload: Workload, launches: Sequence[CudaLaunch], *, workspaces: Sequence[TensorSpec] = ()
) -> Any:
    """The ``PrimFunc`` that runs ``launches`` in order.

    Args:
        workload: Its inputs and outputs become the parameters.
        launches: At least one.
        workspaces: Buffers in device memory that live for one call; contents are undefined.

    Raises:
        ValueError: Two tensors have one name.
    """
    names = [spec.name for spec in (*workload.inputs, *workload.outputs, *workspaces)]
    if len(set(names)) < len(names):
        raise ValueError(f"launches name their arguments, so names must differ: found {names}.")

    def emit(tir: Any, held: Sequence[Any]) -> None:
        buffers = dict(zip(names, held, strict=False))
        with tir.sblock("root"):
            for spec in workspaces:
                buffers[spec.name] = tir.sblock_alloc_buffer(spec.shape, spec.dtype, scope="global")
                # Without a use out here, a buffer of one launch would be allocated inside it.
                tir.evaluate(buffers[spec.name].data)
            for launch in launches:
                _emit(tir, launch, buffers)

    return low_level_program((*workload.inputs, *workload.outputs), emit)


def _emit(tir: Any, launch: CudaLaunch, buffers: Mapping[str, Any]) -> None:
    from tvm.backend.cuda.op import cuda_func_call

    with _opaque(tir, f"{launch.function}_host"):
        arguments = [_argument(tir, one, buffers) for one in launch.arguments]
        if launch.shared_bytes:
            arena = tir.sblock_alloc_buffer((launch.shared_bytes,), "uint8", scope="shared.dyn")
            arguments.append(arena.data)
        with ExitStack() as stack:
            for kind, extents in (("blockIdx", launch.grid), ("threadIdx", launch.block)):
                for dimension, extent in zip(DIMENSIONS, extents, strict=False):
                    thread = f"{kind}.{dimension}"
                    stack.enter_context(tir.thread_binding(0, extent, thread=thread))
            if launch.cluster > 1:
                stack.enter_context(tir.thread_binding(0, launch.cluster, thread="clusterCtaIdx.x"))
            stack.enter_context(_opaque(tir, launch.function))
            if launch.min_blocks:
                stack.enter_context(tir.attr(0, MIN_BLOCKS, launch.min_blocks))
            if launch.early:
                stack.enter_context(tir.attr(0, EARLY_LAUNCH, 1))
            name, source = _named_source(launch)
            tir.evaluate(cuda_func_call(name, *arguments, source_code=source))


def _named_source(launch: CudaLaunch) -> tuple[str, str]:
    """The function's full name, and everything it needs.

    TVM puts sources one after the other in any order, and equal ones of a name once.
    """
    guarded = [once(header) for header in launch.headers]
    space = f"launch_{_digest(''.join([*launch.headers, launch.source]))}"
    own = f"namespace {space} {{\n{launch.source}\n}}"
    return f"{space}::{launch.function}", "\n".join(["", *guarded, own, ""])


def once(header: str) -> str:
    """CUDA C++ that may stand in a source several times and is compiled the first time."""
    mark = f"EFFCOMPILE_{_digest(header)}"
    return f"#ifndef {mark}\n#define {mark}\n{header}\n#endif"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def device_code(name: str) -> str:
    """CUDA C++ that comes with the package.

    Args:
        name: Of a file in ``schedules/cuda``.
    """
    return (files("schedules") / "cuda" / name).read_text(encoding="utf-8")


@contextmanager
def _opaque(tir: Any, name: str) -> Iterator[None]:
    with tir.sblock(name):
        tir.reads()
        tir.writes()
        yield


def _argument(tir: Any, one: str | TensorMap, buffers: Mapping[str, Any]) -> Any:
    if isinstance(one, str):
        return buffers[one].data
    made = tir.bind(tir.tvm_stack_alloca("tensormap", 1))
    buffer = buffers[one.buffer]
    n = len(one.shape)
    tir.evaluate(
        tir.call_packed(
            ENCODE,
            made,
            str(buffer.dtype),
            n,
            buffer.data,
            *one.shape,
            *one.strides_bytes,
            *one.box,
            *(one.steps or [1] * n),
            0,
            SWIZZLE_CODES[one.swizzle_bytes],
            one.l2_promotion,
            0,
        )
    )
    return made


def early_start(early: bool) -> str:
    """CUDA text in front of everything that touches memory; see ``schedules/early_launch.py``."""
    wait = "early::wait_for_previous_kernel();\n  early::release_next_kernel();"
    return f"  {wait}" if early else ""


def early_headers(early: bool, *headers: str) -> tuple[str, ...]:
    """Headers with what :func:`early_start` needs."""
    return (device_code("early_launch.cuh"), *headers) if early else headers
