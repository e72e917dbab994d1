"""What the CUDA driver says of a GPU, without making a context.

Asked through the driver library itself: attributes need no context, so the process that
asks holds no device memory and disturbs no measurement.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
from dataclasses import dataclass

from effcompile.errors import DeviceUnavailable

_ATTRIBUTES = {
    "max_threads_per_block": 1,
    "warp_size": 10,
    "registers_per_block": 12,
    "n_multiprocessors": 16,
    "l2_cache_bytes": 38,
    "capability_major": 75,
    "capability_minor": 76,
    "shared_memory_per_block_optin_bytes": 97,
}
_NAME_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU.

    Attributes:
        name: As the driver gives it.
        uuid: ``GPU-...``, as management tools use it.
        driver_version: Newest CUDA version the driver serves, such as 13.0.
        attributes: By the names above.
    """

    name: str
    uuid: str
    driver_version: str
    attributes: dict[str, int]


def gpu_facts(index: int = 0) -> GpuFacts:
    """Facts about one visible GPU.

    Raises:
        DeviceUnavailable: No driver, no GPU, or a driver that does not answer.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceUnavailable(
            "no CUDA driver (libcuda.so.1) on this machine, and kernels are measured on the GPU "
            "itself. Run this where the GPU is. Here, tune for --target cpu, or predict for a "
            "known --target with --measure none."
        ) from None
    _call(driver, "cuInit", 0)
    count, device = ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if index >= count.value:
        raise DeviceUnavailable(f"no CUDA device {index}: the driver shows {count.value}.")
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    name, raw, version = ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * 16)(), count
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(driver, "cuDeviceGetUuid", raw, device)
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    return GpuFacts(
        name=name.value.decode(),
        uuid=format_uuid(bytes(raw)),
        driver_version=f"{version.value // 1000}.{version.value % 1000 // 10}",
        attributes={
            attribute: _attribute(driver, number, device)
            for attribute, number in _ATTRIBUTES.items()
        },
    )


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    entry = getattr(driver, function, None)
    if entry is None:
        raise DeviceUnavailable(
            f"the library {driver._name} has no function {function}: no CUDA driver. "
            "Check nvidia-smi, or use --target cpu."
        )
    status = entry(*arguments)
    if status != 0:
        raise DeviceUnavailable(
            f"the CUDA driver answers {function} with error {status}: no usable GPU. "
            "Check nvidia-smi, or use --target cpu."
        )


def _attribute(driver: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
    return value.value


def format_uuid(raw: bytes) -> str:
    """Sixteen bytes in the form management tools print."""
    text = raw.hex()
    cuts = (0, 8, 12, 16, 20, 32)
    return "GPU-" + "-".join(text[a:b] for a, b in itertools.pairwise(cuts))


def kernel_driver_version() -> str:
    """Version of the NVIDIA kernel driver, empty if there is none."""
    with contextlib.suppress(OSError), open("/proc/driver/nvidia/version") as file:
        for word in file.readline().split():
            if word[:1].isdigit() and "." in word:
                return word
    return ""
