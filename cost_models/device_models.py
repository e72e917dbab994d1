"""Power and latency models of one device, learnt from recordings, in one file.

The file is a zip archive: ``models.json`` says what is inside and how it was made, beside it
lie the boosters in XGBoost's own binary format. Every booster has a checksum, so a damaged
file is refused instead of answering something.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cost_models.boosting import BoostedEnsemble, BoostedParts
from cost_models.errors import BadModels
from cost_models.features import FEATURE_NAMES, FEATURES_VERSION
from cost_models.transfer import Quantity, TransferModel, TransferParts

MODELS_VERSION = 2

SpaceKey = tuple[str, int]
"""Name of a design space, and how many features it gives."""

CARD = "models.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every member: equal models make equal files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What models were made from.

    Attributes:
        device: Name of the device as its driver gives it.
        arch: Its architecture.
        n_cores: Its multiprocessors.
        workloads: Names of the workloads.
        n_timed: Rows with a latency.
        n_metered: Rows with an energy.
        recordings: Content hash of the recordings.
    """

    device: str
    arch: str
    n_cores: int
    workloads: tuple[str, ...]
    n_timed: int
    n_metered: int
    recordings: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceModels:
    """What is known of a device before anything is measured on it.

    Attributes:
        training: What they were made from.
        power: Watts of a built candidate whose latency is known.
        latency: Microseconds of a built candidate.
        slowdown: By name of a design space and number of its features: how much slower than
            the best of its task a candidate will be, known before it is built.
        digest: Content hash of the file; empty before it was written.
    """

    training: Training
    power: TransferModel
    latency: TransferModel
    slowdown: Mapping[SpaceKey, BoostedEnsemble] = field(default_factory=dict)
    digest: str = ""

    def label(self) -> str:
        """One phrase for reports and manifests."""
        return (
            f"models of {self.training.device} {self.digest[:12]} "
            f"({len(self.training.workloads)} workloads, {self.training.n_metered} energies)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One booster inside the archive."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredModel:
    """One model without its boosters."""

    quantity: Quantity
    costs: tuple[tuple[float, ...], ...]
    unseen_error: float
    level_error: float
    within_error: float
    limit_w: float | None
    members: tuple[_Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredSlowdown:
    """One model of a design space without its boosters."""

    space: str
    n_features: int
    unseen_error: float
    members: tuple[_Member, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    """What ``models.json`` holds."""

    training: Training
    models: tuple[_StoredModel, ...]
    slowdown: tuple[_StoredSlowdown, ...] = ()
    features_version: int = FEATURES_VERSION
    feature_names: tuple[str, ...] = field(default=FEATURE_NAMES)
    schema_version: int = MODELS_VERSION


def write_models(models: DeviceModels, path: Path) -> None:
    """Write the file whole or not at all; equal models make equal bytes."""
    boosters: dict[str, bytes] = {}

    def keep(name: str, parts: BoostedParts) -> tuple[_Member, ...]:
        names = [f"{name}-{number}.ubj" for number in range(len(parts.members))]
        boosters.update(zip(names, parts.members, strict=True))
        return tuple(
            _Member(name=one, sha256=hashlib.sha256(boosters[one]).hexdigest()) for one in names
        )

    stored, slowdown = [], []
    for model in (models.power, models.latency):
        parts = model.parts()
        stored.append(_stored(parts, keep(parts.quantity, parts.trees)))
    for (space, n_features), ensemble in sorted(models.slowdown.items()):
        trees = ensemble.parts()
        slowdown.append(
            _StoredSlowdown(
                space=space,
                n_features=n_features,
                unseen_error=trees.unseen_error,
                members=keep(f"slowdown-{space}-{n_features}", trees),
            )
        )
    card = _Card(training=models.training, models=tuple(stored), slowdown=tuple(slowdown))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        _add(archive, CARD, msgspec.json.format(msgspec.json.encode(card), indent=1))
        for name, raw in boosters.items():
            _add(archive, name, raw)
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(buffer.getvalue())
    beside.replace(path)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_LZMA
    archive.writestr(entry, data)


def _stored(parts: TransferParts, members: tuple[_Member, ...]) -> _StoredModel:
    return _StoredModel(
        quantity=parts.quantity,
        costs=parts.costs,
        unseen_error=parts.trees.unseen_error,
        level_error=parts.level_error,
        within_error=parts.within_error,
        limit_w=parts.limit_w,
        members=members,
    )


def read_models(path: Path) -> DeviceModels:
    """The models in a file.

    Raises:
        BadModels: Missing, damaged, or made for other features than this version computes.
    """
    try:
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            card = msgspec.json.decode(archive.read(CARD), type=_Card)
            _require_version(card, path)
            models = {one.quantity: _loaded(one, archive, path) for one in card.models}
            slowdown = {
                (one.space, one.n_features): BoostedEnsemble.from_parts(
                    BoostedParts(
                        members=_raws(one.members, archive, path), unseen_error=one.unseen_error
                    )
                )
                for one in card.slowdown
            }
        return DeviceModels(
            training=card.training,
            power=models["power"],
            latency=models["latency"],
            slowdown=slowdown,
            digest=hashlib.sha256(data).hexdigest(),
        )
    except (OSError, KeyError, zipfile.BadZipFile, msgspec.DecodeError) as error:
        raise BadModels(
            f"cannot read models from {path}: {error}. Make the file again with: "
            "effcompile train-models --device replay:NAME --out FILE"
        ) from error


def _require_version(card: _Card, path: Path) -> None:
    found = (card.schema_version, card.features_version, card.feature_names)
    if found != (MODELS_VERSION, FEATURES_VERSION, FEATURE_NAMES):
        raise BadModels(
            f"cannot use the models in {path}: file version {card.schema_version} with features "
            f"{card.features_version} of {len(card.feature_names)} names, this program needs "
            f"{MODELS_VERSION} with {FEATURES_VERSION} of {len(FEATURE_NAMES)}. Make them "
            "again with: effcompile train-models"
        )


def _raws(members: tuple[_Member, ...], archive: zipfile.ZipFile, path: Path) -> tuple[bytes, ...]:
    raws = []
    for member in members:
        raw = archive.read(member.name)
        if hashlib.sha256(raw).hexdigest() != member.sha256:
            raise BadModels(
                f"cannot use the models in {path}: the checksum of {member.name} is off. "
                "Restore the file, or make it again with: effcompile train-models"
            )
        raws.append(raw)
    return tuple(raws)


def _loaded(stored: _StoredModel, archive: zipfile.ZipFile, path: Path) -> TransferModel:
    raws = _raws(stored.members, archive, path)
    return TransferModel.from_parts(
        TransferParts(
            quantity=stored.quantity,
            costs=stored.costs,
            trees=BoostedParts(members=raws, unseen_error=stored.unseen_error),
            level_error=stored.level_error,
            within_error=stored.within_error,
            limit_w=stored.limit_w,
        )
    )
