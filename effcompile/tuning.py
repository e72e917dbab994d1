"""A model into a tuned run folder: lower, extract, then hand everything to the loop."""

from __future__ import annotations

import logging
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
from effcompile.given_models import content_hash, keep_models, prepared
from effcompile.measure.builder import ProcessBuilder
from effcompile.measure.runner import DeviceRunner
from effcompile.measure.session_energy import SessionEnergy
from effcompile.prior_models import known_models, origin_of, predicting
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
    ready = prepared(models, shapes or {}, keep_dynamic=keep_dynamic)
    device = detect_target(target)
    if config.measure.source == "none":
        config = predicting(config)
    else:
        require_device(device)
        require_meter_for(device, config.measure)
    known = known_models(device, config)
    folder = RunFolder(out)
    # Child processes start while this one lowers the models.
    with folder.created(), _processes(device, folder, config, known) as (builder, runner):
        lowered, tasks = _tasks(ready, device, config, wanted, keep_dynamic=keep_dynamic)
        with Database(folder.database_path) as database:
            database.claim(
                _identity(lowered, device, config, known),
                config_json=msgspec.json.encode(config).decode(),
            )
            keep_models(ready, folder)
            # The weights are on the disk, and nothing below needs them.
            del lowered
            ready.clear()
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
        predicted_by=origin_of(known, config).get(PREDICTED_BY, ""),
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
        model_hash=content_hash(lowered),
        target=device,
        device=fingerprint(device),
        settings={
            **search_settings(config.search),
            **{f"measure.{name}": value for name, value in asdict(config.measure).items()},
            "build.fast_math": config.build.fast_math,
        },
        versions={"effcompile": effcompile.__version__, **origin_of(known, config)},
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
    from schedules.generic import TvmSpace
    from search.tuner import tune as search_schedules

    meter = "none"
    if isinstance(runner, DeviceRunner):
        _get_ready(runner, tasks, database)
        meter = config.measure.meter
    spaces, space_names = shared_spaces(builder, only=config.search.spaces)
    for task in tasks:  # build processes look for sketches while the device is opened
        spaces(task, TvmSpace.name)
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
