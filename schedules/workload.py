"""What is to be computed: operator, shapes, dtypes, and the program that defines it.

Plain data with a stable id. The program is a schedulable TVM function, kept as
text so that this module needs no TVM: it defines the semantics, serves as the
default kernel, and is what TVM's own design space transforms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import msgspec

Attribute = int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Shape and dtype of one kernel argument.

    Attributes:
        name: Name of the argument in the program.
        shape: Extents; every one is static.
        dtype: TVM dtype name, for example ``float16``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An operator with shapes, dtypes and layout.

    Attributes:
        op: What own design spaces recognise: ``softmax``, ``attention``, ... or
            ``generic`` for a program known by its text only.
        name: For people, for example ``fused_matmul_add_gelu``.
        inputs: Arguments read, in call order.
        outputs: Arguments written, in call order after the inputs.
        attrs: What the operator needs beside shapes (axis, scale, ...).
        program: The schedulable ``PrimFunc`` in TVM's JSON form.
        program_hash: Structural hash of that function, hexadecimal.
    """

    op: str
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    attrs: dict[str, Attribute] = field(default_factory=dict)
    program: str
    program_hash: str
    schema_version: int = 1

    @property
    def workload_id(self) -> str:
        """Content id: equal for equal computations, in every process."""
        return content_id([self.op, self.attrs, self.inputs, self.outputs, self.program_hash])


def content_id(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:16]
