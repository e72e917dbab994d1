"""What the products with quantised matrices need to know of a workload."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from schedules.packing import LOADS_PER_UNIT, TILE_COLUMNS, UNIT_DEPTH
from schedules.workload import Workload

OP = "gemv_dequant"
DTYPES = ("float16", "bfloat16")
SMALLEST_GROUP = 32
MOST_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GemvProblem:
    """``y = x (scale (codes - zero_point))^T + bias`` with codes packed in tiles.

    Attributes:
        rows: Rows of ``x``, its leading axes taken together.
        n_columns: Columns of ``y``.
        depth: Length of the dot products.
        bits: Of a code.
        group: Codes along the depth that share a scale: a multiple of a unit's depth, or a
            divisor of it that is a multiple of 32.
        n_groups: Groups along the depth.
        dtype: Of ``x``, scales, bias and ``y``; sums are float32.
        has_zeros: Whether zero points are given; else they are half of the range.
        has_bias: Whether a bias is added.
        names: Argument names, in the order x, codes, scales, zeros, bias, y without the
            absent ones.
    """

    rows: int
    n_columns: int
    depth: int
    bits: int
    group: int
    n_groups: int
    dtype: str
    has_zeros: bool
    has_bias: bool
    names: tuple[str, ...]

    @property
    def unit_depth(self) -> int:
        """Codes per column that a warp takes at once."""
        return UNIT_DEPTH[self.bits]

    @property
    def n_units(self) -> int:
        """Units along the depth."""
        return -(-self.depth // self.unit_depth)

    @property
    def n_tiles(self) -> int:
        """Tiles of 16 columns."""
        return -(-self.n_columns // TILE_COLUMNS)

    @property
    def n_loads(self) -> int:
        """16-byte loads of a lane per unit."""
        return LOADS_PER_UNIT[self.bits]


def usable_group(block: int, depth: int, bits: int) -> int | None:
    """The group length of a storage format, ``None`` if the kernels cannot follow it.

    One group over the whole depth counts as long as whole units.
    """
    unit = UNIT_DEPTH.get(bits)
    if unit is None or block <= 0 or depth <= 0:
        return None
    if block >= depth:
        return -(-depth // unit) * unit
    divides = block % SMALLEST_GROUP == 0 and (block % unit == 0 or unit % block == 0)
    return block if divides else None


def gemv_problem(workload: Workload) -> GemvProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != OP or len(workload.outputs) != 1:
        return None
    attrs = workload.attrs
    bits, depth = int(attrs["bits"]), int(attrs["depth"])
    x, (y,) = workload.inputs[0], workload.outputs
    rows = prod(x.shape[:-1])
    group = usable_group(int(attrs["block"]), depth, bits)
    uniform = {x.dtype, workload.inputs[2].dtype, y.dtype}
    if attrs["bias"]:
        uniform.add(workload.inputs[-1].dtype)
    covered = (
        group is not None and len(uniform) == 1 and x.dtype in DTYPES and 1 <= rows <= MOST_ROWS
    )
    if group is None or not covered:
        return None
    return GemvProblem(
        rows=rows,
        n_columns=int(attrs["n_columns"]),
        depth=depth,
        bits=bits,
        group=group,
        n_groups=workload.inputs[2].shape[1],
        dtype=x.dtype,
        has_zeros=bool(attrs["zero_points"]),
        has_bias=bool(attrs["bias"]),
        names=tuple(spec.name for spec in (*workload.inputs, y)),
    )
