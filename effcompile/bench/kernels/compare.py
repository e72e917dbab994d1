"""Tune a case, build it, and measure it beside its peers; what is done survives a cut.

Tuning keeps its run folder, so the same command again continues it; rows are written as
soon as a case is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from effcompile.bench.harness import GpuHarness, Row
from effcompile.bench.kernels.case import KernelCase, without_peers
from effcompile.bench.kernels.ceilings import Ceilings, measure_ceilings
from effcompile.bench.kernels.contenders import contenders, n_sets
from effcompile.config import CacheMode, MeasureConfig, TuneConfig
from schedules.errors import EffcompileError

logger = logging.getLogger(__name__)

Report = Callable[[str, Sequence[Row]], None]

ARTIFACT_NAME = "tuned.effc"
CASE_NAMES = "cases.json"
"""Beside an artifact: its entry points and the names of the cases that they serve."""


def bench_kernels(
    cases: Sequence[KernelCase],
    *,
    config: TuneConfig,
    measure: MeasureConfig,
    caches: Sequence[str],
    work: Path,
    n_rounds: int,
    skipped_peers: Sequence[str] = (),
    together: bool = False,
    report: Report,
) -> list[Row]:
    """Tune every case, then measure ours and the peers in turn.

    Args:
        cases: What to compare.
        config: Settings of the tuning.
        measure: Settings of the comparison; its cache mode is ``caches``'s.
        caches: ``hot``, ``cold`` or both.
        work: Folder for run folders, artifacts and rows.
        n_rounds: Interleaved repetitions.
        skipped_peers: Parts of the names of peers that are not run; their rows say so.
        together: Tune all cases in one session, with as many trials and seconds for each; it
            starts once, and builds for one case while it measures another.
        report: Gets a title and rows as soon as they are there.

    Raises:
        DeviceUnavailable: There is no CUDA GPU, or torch cannot use it.
    """
    harness = GpuHarness(measure)
    ceilings = measure_ceilings(harness, n_rounds=min(n_rounds, 3))
    found = _kept(
        "ceilings", [_placed(row, "cold", ceilings) for row in ceilings.rows], work, report
    )
    joint = _joint(cases, config, work) if together else None
    for own_entry, case in _entries(cases).items():
        entry = "main" if joint is None else own_entry
        artifact = joint or tuned({entry: case}, config, work / case.name)
        shown = without_peers(case, skipped_peers)
        rows = [
            _placed(row, cache, ceilings)
            for cache in caches
            for row in _measured(
                shown, artifact, entry=entry, cache=cache, harness=harness, n_rounds=n_rounds
            )
        ]
        found += _kept(case.name, rows, work / case.name, report)
    return found


def _joint(cases: Sequence[KernelCase], config: TuneConfig, work: Path) -> Path | None:
    """The artifact of all cases; ``None``, said in the log, if one of them spoils it."""
    found = tuned(_entries(cases), config, work / "together")
    if isinstance(found, Path):
        return found
    logger.warning("the cases cannot be tuned together, so each is by itself: %s", found)
    return None


def _entries(cases: Sequence[KernelCase]) -> dict[str, KernelCase]:
    """Cases by the entry points of one artifact."""
    return {f"case{index}": case for index, case in enumerate(cases)}


def tuned(cases: Mapping[str, KernelCase], config: TuneConfig, folder: Path) -> Path | str:
    """The built artifact of cases by entry point; the reason if there is none."""
    from effcompile.building import build_artifact
    from effcompile.tuning import tune_models

    artifact = folder / ARTIFACT_NAME
    seconds = config.search.max_seconds
    search = replace(
        config.search,
        n_trials=len(cases) * config.search.n_trials,
        max_seconds=seconds and len(cases) * seconds,
        task_order="even",
    )
    models = {entry: case.model() for entry, case in cases.items()}
    try:
        tune_models(models, folder / "run", target="cuda", config=replace(config, search=search))
        build_artifact([folder / "run"], artifact, measure=False)
    except EffcompileError as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    names = {entry: case.name for entry, case in cases.items()}
    (folder / CASE_NAMES).write_bytes(msgspec.json.encode(names))
    return artifact


def _measured(
    case: KernelCase,
    artifact: Path | str,
    *,
    entry: str,
    cache: str,
    harness: GpuHarness,
    n_rounds: int,
) -> list[Row]:
    import torch

    torch.compiler.reset()
    l2_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    with harness.stream():
        sets = [case.inputs(seed) for seed in range(n_sets(case, cache, l2_bytes))]
        everyone = contenders(case, artifact, sets, entry=entry)
    rows = harness.compare(
        case.name, everyone, n_bytes=case.n_bytes, n_flops=case.n_flops, n_rounds=n_rounds
    )
    del sets, everyone
    torch.cuda.empty_cache()
    return rows


def _placed(row: Row, cache: str, ceilings: Ceilings) -> Row:
    """A row with its cache mode and its share of what this GPU can do."""
    pairs = (
        (row.bytes_per_s, ceilings.bytes_per_s),
        (row.flops_per_s, ceilings.flops_per_s),
    )
    shares = [rate / most for rate, most in pairs if rate and most]
    return replace(row, cache=cache, ceiling_share=max(shares, default=None))


def _kept(name: str, rows: list[Row], folder: Path, report: Report) -> list[Row]:
    folder.mkdir(parents=True, exist_ok=True)
    encoded = msgspec.json.format(msgspec.json.encode(rows), indent=2)
    unfinished = folder / "rows.json.part"
    unfinished.write_bytes(encoded)
    unfinished.replace(folder / "rows.json")
    report(name, rows)
    return rows


def cold_tuning(config: TuneConfig, caches: Iterable[str]) -> TuneConfig:
    """The settings of the tuning: in cold mode unless only the hot one is compared."""
    cache: CacheMode = "hot" if list(caches) == ["hot"] else "cold"
    return replace(config, measure=replace(config.measure, cache=cache))
