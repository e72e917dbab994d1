"""From run folders to one artifact, and the whole model's gain measured on the device."""

from __future__ import annotations

import datetime
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import effcompile
from effcompile.artifact import replace_manifest, write_artifact
from effcompile.config import MeasureConfig
from effcompile.errors import BadModel, DeviceUnavailable, MeterUnavailable, UsageError
from effcompile.gains import gain_of
from effcompile.manifest import MODEL_NOTE, Gain, Manifest, MeasuredEntry, TunedWorkload
from effcompile.outcome import RunOutcome, TaskOutcome, read_outcome
from effcompile.output_files import check_output
from effcompile.signature import EntryPoint
from schedules.candidate import Candidate
from schedules.target import Target
from search.database import Database
from search.default_trials import DEFAULT_CANDIDATE
from search.final import Finalist
from search.identity import PREDICTED_BY, REPLAYED

logger = logging.getLogger(__name__)


def build_artifact(
    runs: Sequence[Path],
    out: Path,
    *,
    measure: bool = True,
    choices: Mapping[str, Candidate] | None = None,
) -> Manifest:
    """Compile the chosen schedules of one or several runs into one artifact.

    Args:
        runs: Run folders of one target. Their models become entry points of the artifact
            and share parameters and kernels; a run with the single entry ``main`` among
            several lends it the folder's name.
        out: File to write.
        measure: Measure the default module and this one in turn, if the device is here.
        choices: Task id to candidate, instead of what the runs chose.

    Raises:
        UsageError: Not a run folder, a run on a recording, different targets, or equal entry names.
    """
    check_output(out)
    outcomes = [read_outcome(path) for path in runs]
    _refuse_replayed(outcomes)
    target = _common_target(outcomes)
    lowered, extracted = _lowered(outcomes, target)
    tasks = _best_of_each_task(outcomes)
    _require_tuned_models(outcomes, tasks, extracted)
    if choices is None:
        choices = {task_id: one.chosen for task_id, one in tasks.items()}
    manifest = Manifest(
        target=target,
        entries=lowered.entries,
        fingerprint=outcomes[0].identity.device,
        workloads=tuple(
            _workload(each, choices.get(each.task.task_id), tasks) for each in extracted
        ),
        predicted_by=", ".join(_predicted_by(outcomes)),
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        seed=int(outcomes[0].identity.settings["search.seed"]),
        effcompile_version=effcompile.__version__,
        tvm_version=version("apache-tvm"),
        ffi_version=version("apache-tvm-ffi"),
    )
    fast_math = outcomes[0].config.build.fast_math
    manifest = _compile(lowered, choices, target, manifest, out, fast_math=fast_math)
    if measure:
        manifest = _with_gain(lowered, target, manifest, out, outcomes)
    return manifest


def _predicted_by(outcomes: Sequence[RunOutcome]) -> list[str]:
    """The models behind runs that measured nothing."""
    found = [one.identity.versions.get(PREDICTED_BY, "") for one in outcomes]
    return [one for one in dict.fromkeys(found) if one]


def _refuse_replayed(outcomes: Sequence[RunOutcome]) -> None:
    """A recording holds workloads and no model: there is nothing to compile."""
    for outcome in outcomes:
        if outcome.identity.device.get(REPLAYED):
            raise UsageError(
                f"cannot build {outcome.folder.path}: it was tuned on a recording, which holds no "
                "model. Tune the model itself: effcompile tune MODEL --out ANOTHER_FOLDER"
            )


def _require_tuned_models(
    outcomes: Sequence[RunOutcome], tasks: Mapping[str, TaskOutcome], extracted: Any
) -> None:
    """Refuse models that were exchanged after tuning: their kernels are others."""
    found = {each.task.task_id for each in extracted}
    # A run that was stopped before its first trial has no tasks yet, and is built as it is.
    if tasks and found != set(tasks):
        folders = ", ".join(str(one.folder.models) for one in outcomes)
        raise UsageError(
            f"the models in {folders} are not those that were tuned: {len(tasks)} tasks are "
            f"recorded, {len(found)} found, {len(found & set(tasks))} of them the same. Give the "
            "command that tuned there again, which writes them anew, or tune in another folder."
        )


def _best_of_each_task(outcomes: Sequence[RunOutcome]) -> dict[str, TaskOutcome]:
    """Task id to outcome; of several runs with the same workload, the one that gained most."""
    best: dict[str, TaskOutcome] = {}
    for one in (one for outcome in outcomes for one in outcome.tasks):
        before = best.get(one.task.task_id)
        if before is None or _remaining_share(one) < _remaining_share(before):
            best[one.task.task_id] = one
    return best


def _remaining_share(outcome: TaskOutcome) -> float:
    """Energy, or else latency, of the chosen schedule as a share of the default's."""
    winner = outcome.winner
    if winner is None or (outcome.final is not None and outcome.final.is_tie):
        return 1.0
    ratio = winner.energy_ratio or winner.judged_ratio
    return ratio.median if ratio is not None else 1.0


def _common_target(outcomes: Sequence[RunOutcome]) -> Target:
    targets = {outcome.identity.target for outcome in outcomes}
    if len(targets) != 1:
        names = ", ".join(f"{one.folder.path}: {one.identity.target.name}" for one in outcomes)
        raise UsageError(
            f"cannot build one artifact for several targets: {names}. "
            "Tune every model for the same target."
        )
    return targets.pop()


def _lowered(outcomes: Sequence[RunOutcome], target: Target) -> tuple[Any, Any]:
    from effcompile.extract import extract_tasks
    from effcompile.lower import lower

    models: dict[str, Any] = {}
    for outcome in outcomes:
        paths = outcome.folder.model_paths()
        for name, path in paths.items():
            lent = outcome.folder.path.name if len(outcomes) > 1 and name == "main" else name
            if lent in models:
                raise UsageError(
                    f"two runs have an entry point named {lent}: give each model a name of its "
                    "own when tuning, as in NAME=FILE.onnx."
                )
            models[lent] = _kept_model(path)
    lowered = lower(models, target, allow_open=True)
    return lowered, extract_tasks(lowered, target)


def _kept_model(path: Path) -> Any:
    from effcompile.frontend.checking import load_model

    try:
        return load_model(path)
    except BadModel as error:
        raise BadModel(
            f"{error} Of a run folder it is a copy: the command that tuned there, given again, "
            "writes it anew and keeps every trial."
        ) from error


def _workload(
    extracted: Any, choice: Candidate | None, tasks: Mapping[str, TaskOutcome]
) -> TunedWorkload:
    task = extracted.task
    outcome = tasks.get(task.task_id)
    chosen = choice or DEFAULT_CANDIDATE
    use_final = outcome is not None and outcome.chosen == chosen
    return TunedWorkload(
        task_id=task.task_id,
        name=task.workload.name,
        op=task.workload.op,
        n_calls=extracted.n_calls,
        space=chosen.space,
        decisions=chosen.decisions,
        gain=_gain(outcome.default, outcome.winner) if outcome and use_final else Gain(),
    )


def _gain(default: Finalist | None, winner: Finalist | None) -> Gain:
    before = default.measurement if default else None
    after = winner.measurement if winner else None
    return Gain(
        default_latency=before.latency if before else None,
        default_energy=before.energy if before else None,
        latency=after.latency if after else None,
        energy=after.energy if after else None,
        latency_ratio=winner.latency_ratio if winner else None,
        energy_ratio=winner.energy_ratio if winner else None,
        sustained_ratio=winner.sustained_ratio if winner else None,
    )


def _compile(
    lowered: Any,
    choices: Mapping[str, Candidate],
    target: Target,
    manifest: Manifest,
    out: Path,
    *,
    fast_math: bool,
) -> Manifest:
    from effcompile.apply import apply, compile_program

    with tempfile.TemporaryDirectory(prefix="effcompile-build-") as folder:
        library = compile_program(
            apply(lowered, choices, target),
            target,
            Path(folder) / "module.so",
            fast_math=fast_math,
        )
        return write_artifact(out, manifest, library, lowered.parameters)


def _with_gain(
    lowered: Any,
    target: Target,
    manifest: Manifest,
    out: Path,
    outcomes: Sequence[RunOutcome],
) -> Manifest:
    """Measure every static entry point, default and tuned in turn; note it in run and artifact.

    The artifact is whole without it: what cannot be measured is said, and left out.
    """
    bare = replace(manifest, workloads=(), measured=())
    with tempfile.TemporaryDirectory(prefix="effcompile-default-") as folder:
        default_path = Path(folder) / "default.effc"
        config = outcomes[0].config
        _compile(lowered, {}, target, bare, default_path, fast_math=config.build.fast_math)
        try:
            measured = measured_entries(default_path, out, manifest.entries, config.measure)
        except (DeviceUnavailable, MeterUnavailable) as error:
            logger.warning("the whole model was not measured: %s", error)
            return manifest
    for outcome in outcomes:
        with Database(outcome.folder.database_path) as database:
            database.add_note(MODEL_NOTE, measured)
    return replace_manifest(out, replace(manifest, measured=tuple(measured)))


def measured_entries(
    default: Path, tuned: Path, entries: Sequence[EntryPoint], config: MeasureConfig
) -> list[MeasuredEntry]:
    """The gain of every entry point without open dimensions that could be measured.

    Args:
        default: Artifact with the schedules before any search.
        tuned: Artifact with the chosen ones.
        entries: Of both.
        config: How to measure.

    Raises:
        DeviceUnavailable: The device is not here.
        MeterUnavailable: The meter named in ``config`` is not here, or may not be read.
    """
    from effcompile.measuring import measure_artifacts

    found = []
    for entry in entries:
        if any(isinstance(extent, str) for spec in entry.inputs for extent in spec.shape):
            continue
        pair = measure_artifacts([default, tuned], entry=entry.name, config=config)
        before, after = (one.measurement for one in pair)
        if before is None or after is None:
            told = "; ".join(one.text() for one in pair if one.measurement is None)
            logger.warning("the whole model was not measured: %s", told)
        else:
            found.append(MeasuredEntry(entry=entry.name, gain=gain_of(before, after)))
    return found
