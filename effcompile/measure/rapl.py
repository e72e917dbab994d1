"""The energy counters of processor packages, through Linux's powercap interface."""

from __future__ import annotations

import contextlib
from pathlib import Path

from effcompile.errors import MeterDenied, MeterUnavailable
from effcompile.measure.meters import DeviceState


class RaplMeter:
    """Energy of the processor packages, from Linux's powercap interface.

    Args:
        root: Folder of the interface.
    """

    name = "rapl"
    period_ms = 1.0

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self._domains = [_Domain(path) for path in _package_folders(root)]
        if not self._domains:
            raise MeterUnavailable(f"no processor energy counter under {root}.")

    def counter_mj(self) -> float:
        """See :class:`Meter`."""
        return sum(domain.total_uj() for domain in self._domains) / 1000

    def state(self) -> DeviceState:
        """See :class:`Meter`; the interface knows energy only."""
        return DeviceState()

    def power_w(self) -> float | None:
        """See :class:`Meter`; not told."""
        return None

    def memory_power_w(self) -> float | None:
        """See :class:`Meter`; packages are counted whole."""
        return None


def _package_folders(root: Path) -> list[Path]:
    found = []
    for path in sorted(root.glob("*-rapl:*")):
        with contextlib.suppress(OSError):
            if (path / "name").read_text().startswith("package"):
                found.append(path)
    return found


class _Domain:
    """One wrapping counter, made monotonic. Must be read at least once per wrap (minutes)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self._last_uj = self._read()
        self._total_uj = 0

    def _read(self) -> int:
        try:
            return int(self._path.read_text())
        except PermissionError:
            raise MeterDenied(
                f"{self._path} may not be read by this user. "
                f"Give the right to read it: sudo chmod a+r {self._path}"
            ) from None
        except OSError as error:
            raise MeterUnavailable(f"{self._path} cannot be read: {error.strerror}.") from None

    def total_uj(self) -> int:
        now_uj = self._read()
        self._total_uj += (now_uj - self._last_uj) % (self._range_uj + 1)
        self._last_uj = now_uj
        return self._total_uj
