"""The CUDA driver's bindings, imported here and nowhere else, and what its calls answer.

Used by the device process alone.
"""

from __future__ import annotations

from typing import Any

from effcompile.errors import DeviceFault, DeviceUnavailable

_OUT_OF_MEMORY = 2


def driver() -> Any:
    """The bindings' module.

    Raises:
        DeviceUnavailable: They are not installed.
    """
    try:
        from cuda.bindings import driver as bindings
    except ImportError:
        raise DeviceUnavailable(
            "the CUDA driver bindings are not installed. Install: pip install effcompile[cuda]"
        ) from None
    return bindings


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a driver call.

    Raises:
        MemoryError: The device is out of memory.
        DeviceFault: Any other error; the context may be unusable from now on.
    """
    status = result[0]
    if int(status) == _OUT_OF_MEMORY:
        raise MemoryError("the CUDA device is out of memory.")
    if int(status) != 0:
        raise DeviceFault(f"the CUDA driver reports {status.name}.")
    return result[1] if len(result) > 1 else None
