"""CUDA C++ functions for one warpgroup matrix product of compute capability 9.0.

Accumulators: 64 rows by ``n`` columns over 128 threads. With ``lane`` the thread in its warp,
register ``4 * j + 2 * r + e`` holds row ``16 * warp + lane // 4 + 8 * r`` and column
``8 * j + lane % 4 * 2 + e``. A left operand in registers is four pairs of 16-bit elements:
pair ``2 * c + r`` holds that row and columns ``8 * c + lane % 4 * 2`` and the next.
"""

from __future__ import annotations

PTX_TYPES = {"float16": "f16", "bfloat16": "bf16"}


def wgmma_shared(
    name: str, *, n: int, dtype: str, transposed: bool = False, transposed_left: bool = False
) -> str:
    """``void name(float (&d)[n / 2], u64 a, u64 b, int keep)``: d = keep ? d + a b : a b.

    It needs ``hopper.cuh``.

    Args:
        name: Of the function.
        n: Columns, 8 to 256 in steps of 8.
        dtype: ``float16`` or ``bfloat16``; accumulation is float32.
        transposed: Whether ``b`` is stored with its columns contiguous (MN-major).
        transposed_left: Whether ``a`` is stored with its rows contiguous.
    """
    a = n // 2
    return _function(
        name,
        n,
        dtype,
        parameters="hopper::u64 a, hopper::u64 b, int keep",
        operands=f"%{a}, %{a + 1}, p, 1, 1, {int(transposed_left)}, {int(transposed)}",
        inputs='"l"(a), "l"(b), "r"(keep)',
        keep=f"%{a + 2}",
    )


def wgmma_registers(name: str, *, n: int, dtype: str, transposed: bool = False) -> str:
    """``void name(float (&d)[n / 2], const u32* a, u64 b, int keep)``: ``a`` four registers.

    Args: as of :func:`wgmma_shared`.
    """
    a = n // 2
    return _function(
        name,
        n,
        dtype,
        parameters="const hopper::u32* a, hopper::u64 b, int keep",
        operands=f"{{%{a}, %{a + 1}, %{a + 2}, %{a + 3}}}, %{a + 4}, p, 1, 1, {int(transposed)}",
        inputs='"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep)',
        keep=f"%{a + 5}",
    )


def _function(
    name: str, n: int, dtype: str, *, parameters: str, operands: str, inputs: str, keep: str
) -> str:
    if not (8 <= n <= 256 and n % 8 == 0):
        raise ValueError(f"wgmma has 8 to 256 columns in steps of 8, not {n}.")
    element = PTX_TYPES[dtype]
    registers = ", ".join(f"%{i}" for i in range(n // 2))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(n // 2))
    return f"""__device__ __forceinline__ void {name}(float (&d)[{n // 2}], {parameters}) {{
  asm volatile(
      "{{ .reg .pred p; setp.ne.b32 p, {keep}, 0;"
      " wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{element}.{element}"
      " {{{registers}}}, {operands}; }}"
      : {outputs}
      : {inputs});
}}
"""
