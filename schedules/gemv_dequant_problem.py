"""What the products with quantised matrices need to know of a workload.

::

    s = x_scale * x (scale (codes - zero_point))^T + bias
    y = activation(s) + residual, or activation(s of one matrix) * (s of a second one)

Several matrices of one ``x`` may be products of one launch with an output each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

from schedules.dtypes import ELEMENT_BYTES, FLOATS
from schedules.packing import LOADS_PER_UNIT, TILE_COLUMNS, UNIT_DEPTH
from schedules.workload import Attribute, TensorSpec, Workload

OP = "gemv_dequant"
ACTIVATIONS = ("", "silu", "gelu", "gelu_tanh", "relu")
SMALLEST_GROUP = 32
# Rows that one reading of the weights serves.
FEW_ROWS = 64
# More are a matter of arithmetic, which other kernels do better.
MOST_ROWS = 256
# Columns of a tile that a gate has; as many lie beside them that it multiplies.
GATED_COLUMNS = TILE_COLUMNS // 2
OPTIONAL = ("zeros", "bias", "residual", "x_scales")


def input_roles(attrs: Mapping[str, Attribute]) -> tuple[str, ...]:
    """What the inputs of a workload are, in their order."""
    return ("x", "codes", "scales", *(role for role in OPTIONAL if attrs[role]))


def columns_of(attrs: Mapping[str, Attribute]) -> tuple[int, ...]:
    """Columns of every output."""
    return tuple(int(columns) for columns in str(attrs["columns"]).split())


def tiles_of(columns: int, *, gated: bool) -> int:
    """Tiles of the packed matrix, or of both matrices, behind an output."""
    return -(-columns // TILE_COLUMNS) * (2 if gated else 1)


@dataclass(frozen=True, kw_only=True)
class GemvProblem:
    """Products of few rows with codes packed in tiles.

    Attributes:
        rows: Rows of ``x``, its leading axes taken together.
        columns: Of every output. The packed matrix of each begins with a tile.
        depth: Length of the dot products.
        bits: Of a code.
        group: Codes along the depth that share a scale: a multiple of a unit's depth, or a
            divisor of it that is a multiple of 32.
        n_groups: Groups along the depth.
        dtype: Of scales, bias, residual and outputs; sums are float32.
        x_dtype: Of ``x``: ``dtype`` or int8.
        scale_dtype: Of the scales of an int8 ``x``: ``dtype`` or float32.
        scale_per_row: Whether each row of an int8 ``x`` has a scale, else all share one.
        has_zeros: Whether zero points are given; else they are half of the range.
        has_bias: Whether a bias is added, in the order of packed columns.
        activation: One of :data:`ACTIVATIONS`.
        gated: Whether tiles hold two matrices, 8 columns of each, of which the first one's
            product, activated, multiplies the second one's.
        has_residual: Whether an array like the output is added.
        inputs: Argument name by role, in call order.
        outputs: Argument names.
    """

    rows: int
    columns: tuple[int, ...]
    depth: int
    bits: int
    group: int
    n_groups: int
    dtype: str
    x_dtype: str
    scale_dtype: str
    scale_per_row: bool
    has_zeros: bool
    has_bias: bool
    activation: str
    gated: bool
    has_residual: bool
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]

    @property
    def is_int8(self) -> bool:
        """Whether ``x`` is quantised."""
        return self.x_dtype == "int8"

    @property
    def unit_depth(self) -> int:
        """Codes per column that a warp takes at once."""
        return UNIT_DEPTH[self.bits]

    @property
    def n_units(self) -> int:
        """Units along the depth."""
        return -(-self.depth // self.unit_depth)

    @cached_property
    def first_tiles(self) -> tuple[int, ...]:
        """Tile with which each output begins, and the number of all tiles."""
        counts = (tiles_of(columns, gated=self.gated) for columns in self.columns)
        return (0, *accumulate(counts))

    @cached_property
    def n_tiles(self) -> int:
        """Tiles of 16 packed columns."""
        return self.first_tiles[-1]

    @property
    def n_loads(self) -> int:
        """16-byte loads of a lane per unit."""
        return LOADS_PER_UNIT[self.bits]

    @property
    def group_bytes(self) -> int:
        """Scales and zero points of a tile's columns in one group."""
        return TILE_COLUMNS * (ELEMENT_BYTES[self.dtype] + self.has_zeros)


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


def _has_dtypes(given: Mapping[str, TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether everything has one float type, or ``x`` int8 with scales of a float type."""
    dtype = given["scales"].dtype
    alike = [given[role] for role in ("bias", "residual") if role in given]
    scale_dtypes = (dtype, "float32")
    x_dtype = "int8" if "x_scales" in given else dtype
    return (
        dtype in FLOATS
        and {one.dtype for one in (*alike, *outputs)} <= {dtype}
        and given["x"].dtype == x_dtype
        and ("x_scales" not in given or given["x_scales"].dtype in scale_dtypes)
    )


def gemv_problem(workload: Workload) -> GemvProblem | None:
    """The problem behind a workload, ``None`` if the family does not cover it."""
    if workload.op != OP:
        return None
    attrs = workload.attrs
    given = dict(zip(input_roles(attrs), workload.inputs, strict=True))
    bits, depth, dtype = int(attrs["bits"]), int(attrs["depth"]), given["scales"].dtype
    group = usable_group(int(attrs["block"]), depth, bits)
    rows = prod(given["x"].shape[:-1])
    if group is None or rows < 1 or not _has_dtypes(given, workload.outputs):
        return None
    return GemvProblem(
        rows=rows,
        columns=columns_of(attrs),
        depth=depth,
        bits=bits,
        group=group,
        n_groups=given["scales"].shape[1],
        dtype=dtype,
        x_dtype=given["x"].dtype,
        scale_dtype=given["x_scales"].dtype if "x_scales" in given else dtype,
        scale_per_row="x_scales" in given and prod(given["x_scales"].shape) == rows > 1,
        has_zeros="zeros" in given,
        has_bias="bias" in given,
        activation=str(attrs["activation"]),
        gated=bool(attrs["gated"]),
        has_residual="residual" in given,
        inputs={role: spec.name for role, spec in given.items()},
        outputs=tuple(spec.name for spec in workload.outputs),
    )
