"""A model into a tuned run folder: lower, extract, then hand everything to the loop."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

import effcompile
from cost_models.device_models import DeviceModels
from effcompile.config import TuneConfig, checked
from effcompile.errors import UsageError
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.runner import DeviceRunner
from effcompile.measure.session_energy import SessionEnergy
from effcompile.models import models_of as models_of_device
from effcompile.models import require_models
from effcompile.run_folder import RunFolder
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from search.database import Database
from search.events import Event, Events, RoundStarted, ignore
from search.identity import PREDICTED_BY, Identity, search_settings
from search.learner import ModelFactory, models_of
from search.meter_facts import METER_NOTE, MeterFacts
from search.predicting import PredictingRunner
from search.stopping import StopRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A tuning run on disk; what ``build`` and ``report`` take.

    Attributes:
        path: The run folder.
        stopped_by: Why the search ended: ``budget``, ``seconds``, ``request``, ``exhausted``.
        predicted_by: The models that every number comes from, if nothing was run.
    """

    path: Path
    stopped_by: str
    predicted_by: str = ""


def named_models(texts: Sequence[str]) -> dict[str, Path]:
    """``["block.onnx"]`` as ``{"main": ...}``, ``["a=x.onnx", "b=y.onnx"]`` by name.

    Raises:
        UsageError: None, several files without names, or a name given twice.
    """
    if not texts:
        raise UsageError("no model is given: name an ONNX file, or --device replay:NAME.")
    if len(texts) == 1 and "=" not in texts[0]:
        return {"main": Path(texts[0])}
    models: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.isidentifier() or name in models:
            raise UsageError(
                f"cannot read the model argument {text!r}: several models need distinct names, "
                "as in prefill=prefill.onnx decode=decode.onnx."
            )
        models[name] = Path(path)
    return models


def tune_models(
    models: Mapping[str, Any],
    out: Path,
    *,
    target: str = "auto",
    config: TuneConfig | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    keep_dynamic: bool = False,
    wanted: Callable[[Workload], bool] = lambda workload: True,
    events: Events = ignore,
    stop: StopRequest | None = None,
) -> Run:
    """Tune models in a run folder, or continue the run that is there.

    Args:
        models: Entry-point name to ONNX file or ``onnx.ModelProto``.
        out: Run folder.
        target: ``auto``, ``cpu``, ``cuda``, or the name of a known GPU.
        config: Settings; defaults of :class:`~effcompile.config.TuneConfig`.
        shapes: Input name to extents, for open dimensions.
        keep_dynamic: Leave open dimensions open; kernels that see them are not tuned.
        wanted: Says which workloads are tuned; the others keep their default schedules.
        events: Receives what happens.
        stop: Asked between trials whether to stop.

    Raises:
        BadModel: A model is missing, damaged, open, or holds unknown operators.
        DeviceUnavailable: The target's device is not here.
        MeterUnavailable: The meter named in ``config`` is not here, or may not be read.
        IdentityMismatch: The folder belongs to another run.
        UnknownSpace: The design spaces named in ``config`` serve no task.
    """
    from effcompile.measure.environment import detect_target, require_device, require_meter_for

    config = checked(config or TuneConfig())
    prepared = _prepare(models, shapes or {}, keep_dynamic)
    device = detect_target(target)
    if config.measure.source == "none":
        config = predicting(config)
    else:
        require_device(device)
        require_meter_for(device, config.measure)
    known = _known_of(device, config)
    folder = RunFolder(out)
    # Child processes start while this one lowers the models.
    with folder.created(), _processes(device, folder, config, known) as (builder, runner):
        lowered, tasks = _tasks(prepared, device, config, wanted, keep_dynamic=keep_dynamic)
        with Database(folder.database_path) as database:
            database.claim(
                _identity(lowered, device, config, known),
                config_json=msgspec.json.encode(config).decode(),
            )
            _keep_models(prepared, folder)
            # The weights are on the disk, and nothing below needs them.
            del lowered
            prepared.clear()
            stopped_by = _search(
                tasks,
                models_of(config.search, known),
                builder=builder,
                runner=runner,
                database=database,
                config=config,
                device=device,
                events=events,
                stop=stop,
            )
    return Run(
        path=folder.path,
        stopped_by=stopped_by,
        predicted_by=_origin(known, config).get(PREDICTED_BY, ""),
    )


def _tasks(
    models: Mapping[str, Any],
    device: Target,
    config: TuneConfig,
    wanted: Callable[[Workload], bool],
    *,
    keep_dynamic: bool,
) -> tuple[Any, list[Task]]:
    """The lowered models, and what of them is tuned."""
    from effcompile.extract import extract_tasks
    from effcompile.lower import lower
    from schedules.spaces import require_spaces

    lowered = lower(models, device, allow_open=keep_dynamic)
    every = [extracted.task for extracted in extract_tasks(lowered, device)]
    tasks = [task for task in every if wanted(task.workload)]
    require_spaces(tasks, config.search.spaces)
    if not tasks:
        logger.warning(
            "nothing to tune: every kernel keeps its default schedule; the model can be built"
        )
    return lowered, tasks


def _identity(
    lowered: Any, device: Target, config: TuneConfig, known: DeviceModels | None
) -> Identity:
    """What a run must share with the one it continues."""
    from effcompile.measure.environment import fingerprint

    return Identity(
        model_hash=_content_hash(lowered),
        target=device,
        device=fingerprint(device),
        settings={
            **search_settings(config.search),
            **{f"measure.{name}": value for name, value in asdict(config.measure).items()},
            "build.fast_math": config.build.fast_math,
        },
        versions={"effcompile": effcompile.__version__, **_origin(known, config)},
    )


def _search(
    tasks: Sequence[Task],
    models: ModelFactory,
    *,
    builder: ProcessBuilder,
    runner: DeviceRunner | PredictingRunner,
    database: Database,
    config: TuneConfig,
    device: Target,
    events: Events,
    stop: StopRequest | None,
) -> str:
    """Run the loop with the device ready; says why it stopped."""
    from effcompile.measure.shared_space import shared_spaces
    from search.tuner import tune as search_schedules

    meter = "none"
    if isinstance(runner, DeviceRunner):
        _get_ready(runner, tasks, database)
        meter = config.measure.meter
    spaces, space_names = shared_spaces(builder, only=config.search.spaces)
    with _metered(database, SessionEnergy(device, meter), events) as watch:
        return search_schedules(
            tasks,
            spaces=spaces,
            space_names=space_names,
            builder=builder,
            runner=runner,
            database=database,
            config=config.search,
            events=watch,
            models=models,
            stop=stop,
        )


def predicting(config: TuneConfig) -> TuneConfig:
    """Settings of a run that measures nothing: every prediction is free, so all are taken.

    Raises:
        UsageError: Something is asked for that no shipped model knows of.
    """
    if config.measure.cache != "hot":
        raise UsageError(
            "cannot predict for a cold cache: the shipped models were measured with the same "
            "buffers again and again. Leave --cache out, or measure on the device."
        )
    return replace(config, search=replace(config.search, energy_policy="measure_all"))


def _known_of(target: Target, config: TuneConfig) -> DeviceModels | None:
    """Shipped models for a target: needed to predict, and where a search may start from."""
    if config.measure.source == "none":
        return require_models(target)
    wanted = config.search.warm_start and config.measure.cache == "hot"
    return models_of_device(target, same_device=True) if wanted else None


def _origin(known: DeviceModels | None, config: TuneConfig) -> dict[str, str]:
    """What the identity says of the models a run begins with."""
    if known is None:
        return {}
    return {PREDICTED_BY if config.measure.source == "none" else "warm_start": known.label()}


def _get_ready(runner: DeviceRunner, tasks: Sequence[Task], database: Database) -> None:
    """References are prepared in the background; the meter continues where it was."""
    runner.warm_up(tasks)
    calibrations = database.notes(METER_NOTE, MeterFacts)
    runner.meter.on_learnt = partial(database.add_note, METER_NOTE)
    runner.meter.continue_from(calibrations[0] if calibrations else None)


@contextmanager
def _metered(database: Database, energy: SessionEnergy, events: Events) -> Iterator[Events]:
    """Store the joules that the device draws during the body with the session it starts.

    Gives the events that the body shall use: counters that wrap are read between.
    """

    def watch(event: Event) -> None:
        if isinstance(event, RoundStarted):
            energy.spent_j()
        events(event)

    n_before = len(database.sessions())
    try:
        yield watch
    finally:
        started = database.sessions()[n_before:]
        if started:
            database.update_session(replace(started[-1], device_energy_j=energy.spent_j()))


@contextmanager
def _processes(
    target: Target, folder: RunFolder, config: TuneConfig, known: DeviceModels | None
) -> Iterator[tuple[ProcessBuilder, DeviceRunner | PredictingRunner]]:
    """Build processes and the device process, starting in the background; closed at the end.

    A run that predicts starts no device process.
    """
    builder = ProcessBuilder(config.build, work_dir=folder.work)
    try:
        if config.measure.source == "none" and known is not None:
            builder.warm_up(target)
            yield builder, PredictingRunner(known, cache=config.measure.cache)
            return
        runner = DeviceRunner(
            target, config.measure, work_dir=folder.work, build_config=config.build
        )
        try:
            builder.warm_up(target)
            runner.warm_up(())
            yield builder, runner
        finally:
            runner.close()
    finally:
        builder.close()


def _prepare(
    models: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], keep_dynamic: bool
) -> dict[str, Any]:
    from effcompile.frontend.checking import load_model, prepare_model
    from effcompile.frontend.dimensions import check_dimensions, data_inputs, fix_shapes

    prepared = {}
    used: set[str] = set()
    for name, model in models.items():
        is_file = isinstance(model, (str, os.PathLike))
        loaded = load_model(model) if is_file else prepare_model(model)
        names = {value.name for value in data_inputs(loaded)}
        # With several models, a shape belongs to those that have an input of that name.
        own = shapes if len(models) == 1 else {k: v for k, v in shapes.items() if k in names}
        used |= set(own)
        loaded = fix_shapes(loaded, own)
        check_dimensions(loaded, allow_open=keep_dynamic)
        prepared[name] = loaded
    if unknown := sorted(set(shapes) - used):
        raise UsageError(
            f"no model has an input named {', '.join(unknown)}: mend the name given with --shape."
        )
    return prepared


def _content_hash(lowered: Any) -> str:
    """Hash of program and weights, equal in every process for the same model file.

    Taken over serialised functions: the structural hash of a function that calls others
    depends on where in memory their names lie.
    """
    from schedules import _tvm

    tvm = _tvm.load()
    digest = hashlib.sha256(repr(lowered.entries).encode())
    for variable, function in sorted(
        lowered.module.functions_items(), key=lambda item: str(item[0].name_hint)
    ):
        digest.update(f"{variable.name_hint}:{tvm.ir.save_json(function)}".encode())
    return digest.hexdigest()[:32]


def _keep_models(models: Mapping[str, Any], folder: RunFolder) -> None:
    from effcompile.export import write_onnx

    for name, model in models.items():
        path = folder.model_path(name)
        if not path.is_file():
            write_onnx(model, path)
