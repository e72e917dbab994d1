"""Models of known devices that are shipped, and how to find the ones for a target."""

from __future__ import annotations

from pathlib import Path

from cost_models.device_models import DeviceModels, read_models
from effcompile.errors import UsageError
from schedules.target import Target

SUFFIX = ".effmodels"


def shipped_models() -> dict[str, Path]:
    """Every shipped file by name, for example ``h100``."""
    return {one.stem: one for one in sorted(Path(__file__).parent.glob(f"*{SUFFIX}"))}


def models_of(target: Target) -> DeviceModels | None:
    """Shipped models for a target, ``None`` if there are none.

    Without models of the very device, those of one of the same architecture with as many cores
    will do: their watts are another card's, but what was learnt on H100s orders an H200's
    candidates better than sixteen energies of its own do (docs/results.md).
    """
    found = [read_models(path) for path in shipped_models().values()]
    exact = [one for one in found if one.training.device == target.name]
    if exact:
        return exact[0]
    alike = (target.arch, target.n_cores)
    return next((one for one in found if (one.training.arch, one.training.n_cores) == alike), None)


def require_models(target: Target) -> DeviceModels:
    """Shipped models for a target that will be predicted alone.

    Raises:
        UsageError: There are none.
    """
    found = models_of(target)
    if found is None:
        known = ", ".join(shipped_models()) or "none"
        raise UsageError(
            f"nothing can be predicted for {target.name} ({target.arch}): models are shipped for "
            f"{known}. Name such a GPU, or one like it, with --target; measure on the device "
            "itself; or make models from recordings of it: effcompile train-models --device "
            f"replay:FILE --out {Path(__file__).parent}/NAME{SUFFIX}"
        )
    return found
