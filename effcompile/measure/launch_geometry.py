"""Launch geometry of a program, read while TVM lowers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from schedules import _tvm

_DYNAMIC_SHARED = "tirx.use_dyn_shared_memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchGeometry:
    """One kernel launch.

    Attributes:
        kernel: Symbol of the device function.
        grid: Blocks in x, y, z.
        block: Threads in x, y, z.
        dynamic_shared_bytes: Shared memory asked for at launch.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_shared_bytes: int


@dataclass(slots=True)
class LoweringWatch:
    """Collects what is known after host and device code are split.

    Attributes:
        launches: In program order; a launch inside a host loop is listed once.
        host_hash: Structural hash of the host function: order and arguments of launches.
    """

    launches: list[LaunchGeometry] = field(default_factory=list)
    host_hash: int = 0

    def instrument(self) -> Any:
        """A TVM pass instrument that fills this record."""
        tvm = _tvm.load()
        import tvm_ffi
        from tvm.ir.instrument import pass_instrument

        def run_after_pass(_: Any, mod: Any, info: Any) -> None:
            if info.name != "tirx.SplitHostDevice":
                return
            for function in mod.functions.values():
                if "calling_conv" not in (function.attrs or {}):
                    self.host_hash = tvm_ffi.structural_hash(function) & (2**64 - 1)
                    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, self._visit))

        return pass_instrument(type("Watch", (), {"run_after_pass": run_after_pass}))()

    def _visit(self, node: Any) -> None:
        tags = _launch_tags(node)
        if tags is None:
            return
        extents = dict(zip(tags, node.args[len(node.args) - len(tags) :], strict=True))
        self.launches.append(
            LaunchGeometry(
                kernel=str(getattr(node.args[0], "value", node.args[0])),
                grid=_triple(extents, "blockIdx"),
                block=_triple(extents, "threadIdx"),
                dynamic_shared_bytes=_constant(extents.get(_DYNAMIC_SHARED), default=0),
            )
        )


def _launch_tags(node: Any) -> list[str] | None:
    if getattr(node.op, "name", "") != "tirx.call_ffi_kernel":
        return None
    return [str(tag) for tag in node.attrs.launch_params]


def _triple(extents: dict[str, Any], prefix: str) -> tuple[int, int, int]:
    x, y, z = (_constant(extents.get(f"{prefix}.{axis}"), default=1) for axis in "xyz")
    return x, y, z


def _constant(value: Any, *, default: int) -> int:
    # Extents that depend on run-time values are left at their default.
    return int(value.value) if hasattr(value, "value") else default
