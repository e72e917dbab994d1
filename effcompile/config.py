"""Settings of building and measuring, and the one dial that presets everything."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from effcompile.errors import UsageError
from search.config import Count, Positive, SearchConfig

PositiveNumber = Annotated[float, Meta(gt=0)]

Effort = Literal["quick", "normal", "thorough"]
MeasureSource = Literal["device", "none"]
CacheMode = Literal["hot", "cold"]
MeterName = Literal["auto", "nvml", "rapl", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How candidates become libraries.

    Attributes:
        n_workers: Build processes; 0 means one per CPU core.
        timeout_s: A build that takes longer is killed and recorded.
        cache_dir: Folder of the compiler cache; empty means the user's cache folder.
        fast_math: CUDA kernels may use approximate division, roots and exponentials;
            faster, and every candidate is still compared with the float64 reference.
        builds_per_worker: A build process is replaced after this many builds, which
            bounds what a leak can take.
        memory_limit_mib: A build process that asks for more private memory fails its build.
    """

    n_workers: Count = 0
    timeout_s: PositiveNumber = 30.0
    cache_dir: str = ""
    fast_math: bool = True
    builds_per_worker: Positive = 256
    memory_limit_mib: Count = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """How latency and energy are taken. Part of the run's identity.

    Attributes:
        source: ``device`` runs candidates; ``none`` runs nothing and predicts latency and energy
            of compiled candidates from the models shipped for the GPU.
        cache: ``hot`` reuses the same buffers, ``cold`` rotates over twice the last-level cache.
        repeat_ms: Device time of one latency repeat; longer is steadier.
        n_repeats: Latency repeats per trial.
        max_timing_ms: A candidate's whole timing stays below this; slow candidates get
            fewer repeats.
        timeout_s: A check or timing that takes longer kills the device process.
        meter: Which energy meter; ``auto`` takes the best one that works here.
        energy_window_ms: Longest energy window, from counter step to counter step.
        energy_precision: A window closes earlier once its 95 % interval is within this share
            of its energy to either side; 0 always takes the longest.
        settle_ms: Longest wait for power to settle before a window opens.
        anchor_every: Energy windows between two measurements of the anchor kernel, which
            shows how the device drifts; 0 for none.
        input_seed: Seed of the inputs that candidates are checked and timed with.
    """

    source: MeasureSource = "device"
    cache: CacheMode = "hot"
    repeat_ms: PositiveNumber = 2.0
    n_repeats: Annotated[int, Meta(ge=2)] = 10
    max_timing_ms: PositiveNumber = 500.0
    timeout_s: PositiveNumber = 20.0
    meter: MeterName = "auto"
    energy_window_ms: PositiveNumber = 500.0
    energy_precision: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    settle_ms: Annotated[float, Meta(ge=0)] = 1000.0
    anchor_every: Count = 10
    input_seed: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """Everything a tuning run is configured by."""

    search: SearchConfig = field(default_factory=SearchConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)


def preset(effort: Effort) -> TuneConfig:
    """The settings behind ``--effort``: trials, finalists and windows."""
    normal = TuneConfig()
    if effort == "normal":
        return normal
    quick = effort == "quick"
    return replace(
        normal,
        search=replace(
            normal.search,
            n_trials=96 if quick else 2048,
            n_finalists=3 if quick else 8,
            n_final_rounds=4 if quick else 9,
        ),
        measure=replace(
            normal.measure,
            n_repeats=5 if quick else 20,
            energy_window_ms=300.0 if quick else 1000.0,
            energy_precision=0.01 if quick else 0.003,
        ),
    )


def converted(values: dict[str, Any], origin: str) -> TuneConfig:
    """Settings as read from a file or a command line, checked.

    Args:
        values: Every section with every setting, as plain values.
        origin: Names their source in messages.

    Raises:
        UsageError: A value has the wrong type, is out of range, or is not one of those named.
    """
    for section, record in get_type_hints(TuneConfig).items():
        for name, annotation in get_type_hints(record).items():
            expected = _fault(values[section][name], annotation)
            if expected:
                found = values[section][name]
                raise UsageError(f"cannot use {name} = {found!r} of {origin}: expected {expected}.")
    try:
        return msgspec.convert(values, TuneConfig)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"cannot use the settings of {origin}: {error}{_found(values, str(error))}."
        ) from error


def _fault(found: Any, annotation: Any) -> str:
    """What is expected instead of a value that msgspec takes or explains badly; mostly nothing."""
    known = get_args(annotation)
    if get_origin(annotation) is Literal and found not in known:
        return " or ".join(known)
    return "a finite number" if isinstance(found, float) and math.isinf(found) else ""


def _found(values: dict[str, Any], message: str) -> str:
    """What the settings hold at the path that a message of msgspec ends with."""
    *_, section, name = ["", "", *message.rpartition("`$.")[2].rstrip("`").split(".")]
    known = values.get(section, {})
    return f", found {known[name]!r}" if name in known else ""


def checked(config: TuneConfig) -> TuneConfig:
    """The same settings, once it is certain that every one is in its range.

    Raises:
        UsageError: One is not.
    """
    return converted(msgspec.to_builtins(config), "the configuration")
