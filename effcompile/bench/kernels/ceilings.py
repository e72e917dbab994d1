"""What this GPU can do at best, measured in the same run as the kernels."""

from __future__ import annotations

from dataclasses import dataclass

from effcompile.bench.harness import Contender, GpuHarness, Launch, Row

COPY, ENGINE = "copy by a kernel (ceiling)", "copy by torch (ceiling)"
READ, MATMUL = "read (ceiling)", "matmul bfloat16 (ceiling)"
STREAMED_BYTES = 1 << 30
MATMUL_SIDE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best rates in bursts; ``None`` if one could not be measured.

    Attributes:
        bytes_per_s: Of copying, read and written bytes together, or of reading: the largest.
        flops_per_s: Of a large bfloat16 matrix product.
        rows: The measurements themselves.
    """

    bytes_per_s: float | None
    flops_per_s: float | None
    rows: tuple[Row, ...]


def measure_ceilings(harness: GpuHarness, *, n_rounds: int) -> Ceilings:
    """Copy and read 1 GiB, multiply two 8192 x 8192 matrices."""
    import torch

    ways = (
        (COPY, _copy, 2 * STREAMED_BYTES, 0),
        (ENGINE, _torch_copy, 2 * STREAMED_BYTES, 0),
        (READ, _read, STREAMED_BYTES, 0),
        (MATMUL, _matmul, 3 * 2 * MATMUL_SIDE**2, 2 * MATMUL_SIDE**3),
    )
    rows: list[Row] = []
    for name, made, n_bytes, n_flops in ways:
        with harness.stream():
            contender = Contender(name=name, launches=[made()])
        rows += harness.compare(
            "ceilings", [contender], n_bytes=n_bytes, n_flops=n_flops, n_rounds=n_rounds
        )
        del contender
        torch.cuda.empty_cache()
    rates = {row.contender: row for row in rows}
    streamed = [rates[name].bytes_per_s for name in (COPY, ENGINE, READ)]
    return Ceilings(
        bytes_per_s=max((rate for rate in streamed if rate is not None), default=None),
        flops_per_s=rates[MATMUL].flops_per_s,
        rows=tuple(rows),
    )


def _copy() -> Launch:
    """Negated while copied, so that the multiprocessors do it.

    In a CUDA graph the driver hands a plain copy of 512 MiB or more to a copy engine, which is
    slower: 2.4 TB/s against 3.0 TB/s on an H100.
    """
    import torch

    source = torch.ones(STREAMED_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    return lambda: torch.neg(source, out=target)


def _torch_copy() -> Launch:
    import torch

    source = torch.ones(STREAMED_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _read() -> Launch:
    import torch

    source = torch.ones(STREAMED_BYTES // 4, device="cuda")
    return lambda: torch.amax(source)


def _matmul() -> Launch:
    import torch

    a, b = (
        torch.randn(MATMUL_SIDE, MATMUL_SIDE, device="cuda", dtype=torch.bfloat16) for _ in "ab"
    )
    c = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=c)
