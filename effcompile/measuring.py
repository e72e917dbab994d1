"""Latency and energy of whole artifacts, in a process of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from effcompile.artifact import read_manifest
from effcompile.config import MeasureConfig
from effcompile.errors import DeviceUnavailable, UsageError
from effcompile.model_inputs import make_model_inputs
from effcompile.rounding import quantity
from effcompile.signature import EntryPoint, chosen_entry
from schedules.target import Target
from search.final_effort import UNMETERED_FACTOR
from search.ports import FinalMeasurement
from search.trial import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactMeasurement:
    """One artifact, measured in turn with the others.

    Attributes:
        path: The artifact.
        entry: Entry point.
        measurement: Numbers, ``None`` if it failed.
        failure: Why, if it failed.
    """

    path: Path
    entry: str
    measurement: FinalMeasurement | None
    failure: Failure | None

    def text(self) -> str:
        """One line for people."""
        if self.measurement is None:
            cause = self.failure.message if self.failure else "not measured"
            return f"{self.path} {self.entry}: failed: {cause}"
        latency, energy = self.measurement.latency, self.measurement.energy
        shown = quantity(latency.latency_us, latency.ci95_us, "µs")
        if energy.energy_mj is None:
            joules = f"not measured: {energy.reason or energy.verdict.value}"
        else:
            joules = quantity(energy.energy_mj, energy.ci95_mj, "mJ")
        lasting = energy.sustained_latency_us
        sustained = (
            "" if lasting is None else f", under lasting load {quantity(lasting, None, 'µs')}"
        )
        return f"{self.path} {self.entry}: latency {shown}{sustained}, energy {joules}"


def measure_artifacts(
    paths: Sequence[Path],
    *,
    entry: str | None = None,
    n_rounds: int = 5,
    dims: Mapping[str, int] | None = None,
    config: MeasureConfig | None = None,
) -> list[ArtifactMeasurement]:
    """Measure the same entry point of artifacts in turn.

    Args:
        paths: Artifacts of one target and one signature.
        entry: Entry point; may be left out if there is only one.
        n_rounds: Interleaved repetitions.
        dims: Values of open dimensions.
        config: How to measure.

    Raises:
        DeviceUnavailable: The artifacts' device is not here.
        MeterUnavailable: The meter named in ``config`` is not here, or may not be read.
        UsageError: Different targets or input signatures.
    """
    from effcompile.measure.environment import require_meter_for
    from effcompile.measure.module_runner import ModuleRunner

    target, chosen = _comparable(paths, entry)
    here = _device_here(target)
    config = config or MeasureConfig()
    require_meter_for(here, config)
    inputs = make_model_inputs(chosen, config.input_seed, dims)
    with tempfile.TemporaryDirectory(prefix="effcompile-measure-") as folder:
        runner = ModuleRunner(here, config, work_dir=Path(folder))
        try:
            # Rounds without an energy window are short, so there may be more of them.
            factor = UNMETERED_FACTOR if runner.no_energy_reason else 1
            outcomes = runner.compare(paths, chosen.name, inputs, factor * n_rounds)
        finally:
            runner.close()
    return [
        ArtifactMeasurement(
            path=path,
            entry=chosen.name,
            measurement=None if isinstance(outcome, Failure) else outcome,
            failure=outcome if isinstance(outcome, Failure) else None,
        )
        for path, outcome in zip(paths, outcomes, strict=True)
    ]


def _comparable(paths: Sequence[Path], entry: str | None) -> tuple[Target, EntryPoint]:
    """The target and the entry point that artifacts have in common.

    Raises:
        UsageError: Their targets or the entry's inputs differ.
    """
    manifests = [read_manifest(path) for path in paths]
    first, *others = [chosen_entry(manifest.entries, entry) for manifest in manifests]
    target = manifests[0].target
    if any(manifest.target.kind != target.kind for manifest in manifests):
        raise UsageError("cannot measure artifacts of different targets against each other.")
    if any(one.inputs != first.inputs for one in others):
        raise UsageError("cannot measure artifacts with different inputs against each other.")
    return target, first


def _device_here(target: Target) -> Target:
    """The device of this computer that artifacts of a target are measured on.

    Raises:
        DeviceUnavailable: It is another one than they were built for.
    """
    from effcompile.measure.environment import detect_target

    here = detect_target("cuda" if target.kind == "cuda" else "cpu")
    if target.kind == "cuda" and here.name != target.name:
        raise DeviceUnavailable(
            f"the artifact was built for {target.name}, found {here.name}. "
            "Numbers of another device would say nothing about it."
        )
    return here
