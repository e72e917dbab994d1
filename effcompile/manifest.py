"""What an artifact says of itself: plain records, no files and no devices."""

from __future__ import annotations

from dataclasses import dataclass, field

from effcompile.signature import EntryPoint
from schedules.target import Target
from search.final import Ratio
from search.trial import EnergyMeasurement, LatencyMeasurement

FORMAT_VERSION = 1

MODEL_NOTE = "model"
"""Kind of the database notes that hold ``list[MeasuredEntry]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLibrary:
    """The one shared library of an artifact.

    Attributes:
        member: Name inside the file.
        size_bytes: Length.
        sha256: Checksum of the bytes, hexadecimal.
    """

    member: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredParameter:
    """One constant tensor, stored once however many entry points use it.

    Attributes:
        parameter_id: Id that entry points refer to.
        member: Name inside the file.
        shape: Extents.
        dtype: NumPy-style dtype name, ``bfloat16`` included.
        size_bytes: Length of the little-endian, C-ordered payload.
        sha256: Checksum of the payload, hexadecimal.
    """

    parameter_id: str
    member: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Default beside tuned, measured in turn in one session.

    A field that is ``None`` was not measured.

    Attributes:
        default_latency: With the default schedule.
        default_energy: With the default schedule.
        latency: As shipped.
        energy: As shipped.
        latency_ratio: As shipped over default in short bursts, from interleaved rounds.
        energy_ratio: Likewise.
        sustained_ratio: Likewise for latency under lasting load.
    """

    default_latency: LatencyMeasurement | None = None
    default_energy: EnergyMeasurement | None = None
    latency: LatencyMeasurement | None = None
    energy: EnergyMeasurement | None = None
    latency_ratio: Ratio | None = None
    energy_ratio: Ratio | None = None
    sustained_ratio: Ratio | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedWorkload:
    """One workload of the module and the schedule it was compiled with.

    Attributes:
        task_id: Id of the workload.
        name: For people.
        op: Operator family.
        n_calls: Calls in one run of all entry points.
        space: Design space of the chosen candidate.
        decisions: Its decisions, canonical JSON text.
        gain: What the search measured for it.
    """

    task_id: str
    name: str
    op: str
    n_calls: int
    space: str
    decisions: str
    gain: Gain = field(default_factory=Gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEntry:
    """Latency and energy of one whole entry point.

    Attributes:
        entry: Name of the entry point.
        dims: Values that open dimensions had.
        gain: Default beside tuned.
    """

    entry: str
    dims: dict[str, int] = field(default_factory=dict)
    gain: Gain = field(default_factory=Gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything an artifact says of itself.

    Attributes:
        target: What the library was compiled for.
        entries: Callable functions, in the library under the same names.
        fingerprint: Device, driver and versions that the numbers were taken with.
        workloads: Chosen schedules.
        measured: Whole entry points, where measured.
        predicted_by: The models that the numbers of ``workloads`` come from, if nothing was run
            while tuning; empty where they were measured.
        effcompile_version: Version that wrote the file.
        tvm_version: TVM that compiled the library.
        ffi_version: Its foreign-function layer.
        created_utc: ISO 8601, for people.
        seed: Seed of the search; ``None`` if nothing was searched.
        library: Filled in when the file is written.
        parameters: Filled in when the file is written.
        format_version: Layout of the file and of this record.
    """

    target: Target
    entries: tuple[EntryPoint, ...]
    fingerprint: dict[str, str] = field(default_factory=dict)
    workloads: tuple[TunedWorkload, ...] = ()
    measured: tuple[MeasuredEntry, ...] = ()
    predicted_by: str = ""
    effcompile_version: str = ""
    tvm_version: str = ""
    ffi_version: str = ""
    created_utc: str = ""
    seed: int | None = None
    library: StoredLibrary | None = None
    parameters: tuple[StoredParameter, ...] = ()
    format_version: int = FORMAT_VERSION
