"""Libraries for products with quantised matrices: gemlite, and Marlin as vLLM ships it.

Both get the integers and scales of the case, laid out as they want them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from effcompile.bench.kernels.optional_peer import folder_of, installed

Weights = Callable[[], tuple[Any, Any]]
"""Codes, unsigned bytes of shape (columns, groups, group), and scales of shape (columns, groups)
on the GPU. A weight is its code less half of the codes' range, times its group's scale."""

Layer = Callable[[int, Weights], Callable[[Any], Any]]
"""From bits and weights to a function that queues the product of rows."""

MARLIN_LIBRARY = "_C_stable_libtorch.abi3.so"
MARLIN_BLOCKS_PER_SM = 4
# Marlin's threads read the scales of 64 columns in this order.
MARLIN_SCALES = [row + 8 * column for row in range(8) for column in range(8)]


def gemlite(bits: int, weights: Weights) -> Callable[[Any], Any]:
    """gemlite's layer; its own autotuning runs at the first launch of a shape.

    A file of configurations in gemlite's package that is named after the GPU is used instead of
    a search.

    Raises:
        PeerNotInstalled: gemlite is not here.
    """
    library = installed("gemlite", "gemlite")
    codes, scales = weights()
    columns, groups, group = codes.shape
    kind = library.core.TORCH_TO_DTYPE[scales.dtype]
    layer = library.GemLiteLinear(
        bits,
        group_size=group,
        in_features=groups * group,
        out_features=columns,
        input_dtype=kind,
        output_dtype=kind,
    )
    layer.pack(codes.flatten(1), scales, zeros=2 ** (bits - 1), bias=None)
    run: Callable[[Any], Any] = layer.forward
    return run


def marlin(bits: int, weights: Weights) -> Callable[[Any], Any]:
    """Marlin's product, out of vLLM's compiled library; nothing of vLLM's Python is imported.

    Raises:
        PeerNotInstalled: vLLM is not here.
        OSError: Its library was built for another PyTorch.
        NotImplementedError: Marlin has no such weights.
    """
    operators = _marlin_operators()
    if bits not in {4, 8}:
        raise NotImplementedError(f"Marlin has no {bits}-bit integers")
    import torch

    codes, scales = weights()
    columns = codes.shape[0]
    depth = codes[0].numel()
    packed = operators.gptq_marlin_repack(
        packed_over_depth(codes, bits), depth, columns, bits, False
    )
    ordered = marlin_scales(scales)
    units = torch.cuda.get_device_properties(codes.device).multi_processor_count
    locks = torch.zeros(MARLIN_BLOCKS_PER_SM * units, dtype=torch.int32, device=codes.device)

    def run(x: Any) -> Any:
        bias = activation_scales = global_scale = zeros = None
        return operators.marlin_gemm(
            x, None, packed, bias, ordered, activation_scales, global_scale, zeros, locks,
            marlin_type(bits), x.shape[0], columns, depth, False, True, False,
        )  # fmt: skip

    return run


@cache
def _marlin_operators() -> Any:
    import torch

    library = folder_of("vllm", "vllm") / MARLIN_LIBRARY
    torch.ops.load_library(str(library))
    return torch.ops._C


def marlin_type(bits: int) -> int:
    """vLLM's number for unsigned integers of ``bits``, of which half the range is taken.

    The fields are exponent (8 bits), mantissa (8), sign (1), bias (32), finite only (1) and the
    form of NaN (8, of which 1 is IEEE's), lowest first.
    """
    return bits << 8 | 1 << (bits - 1 + 17) | 1 << 50


def packed_over_depth(codes: Any, bits: int) -> Any:
    """GPTQ's layout: 32-bit words of shape (depth * bits / 32, columns), the first code lowest."""
    import torch

    per_word = 32 // bits
    parts = codes.flatten(1).T.unflatten(0, (-1, per_word)).int()
    words = torch.zeros_like(parts[:, 0])
    for place in range(per_word):
        words |= parts[:, place] << bits * place
    return words.contiguous()


def marlin_scales(scales: Any) -> Any:
    """Scales (columns, groups) in Marlin's order, shape (groups, columns)."""
    rows = scales.T.contiguous()
    return rows.reshape(-1, len(MARLIN_SCALES))[:, MARLIN_SCALES].reshape(rows.shape).contiguous()
