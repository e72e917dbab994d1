"""What a kernel benchmark is made of: a model, tensors, a reference, and peers.

Every module ``<family>_cases.py`` of this package offers ``cases() -> list[KernelCase]``.
Cases are plain descriptions: nothing heavy happens before a function of one is called.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from effcompile.errors import UsageError

Tensors = Sequence[Any]
Peer = Callable[[Tensors], Callable[[], Any]]
"""From the tensors of one set of inputs to a function that queues one launch and returns
what it computes: one tensor or several. Packing of weights, plans and compilations happen
before that function is returned, so they are not timed."""

SUFFIX = "_cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCase:
    """One workload on which ours and the peers are compared.

    Attributes:
        name: Distinct; stands in file names: letters, digits, dots, dashes, underscores.
        family: The family that should serve it.
        model: Builds the ONNX model that a user would have.
        inputs: From a seed to the model's inputs, in order, on torch's current GPU.
        reference: From one set of inputs to the first outputs in float64 (or integers), each
            as ``sample`` leaves it. ``effcompile`` and every peer are compared with it.
        peers: Name to peer; a peer that raises becomes a row that says so.
        n_bytes: Bytes that must move, each counted once.
        n_flops: Operations that must be done; 0 where only bytes matter.
        tolerance: Largest difference, as a share of the root mean square of the reference or of
            the element, whichever is larger.
        sample: What of the outputs is compared, for outputs too large to compare whole.
    """

    name: str
    family: str
    model: Callable[[], Any]
    inputs: Callable[[int], list[Any]]
    reference: Callable[[Tensors], Tensors]
    n_bytes: int
    n_flops: int = 0
    tolerance: float
    peers: Mapping[str, Peer] = field(default_factory=dict)
    sample: Callable[[Tensors], Tensors] = tuple


def direct(function: Callable[..., Any]) -> Peer:
    """A peer that calls ``function`` with the inputs."""

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        return lambda: function(*inputs)

    return prepare


def inductor(function: Callable[..., Any]) -> Peer:
    """A peer that calls ``function`` as ``torch.compile`` with ``max-autotune`` makes it."""
    compiled: list[Any] = []

    def prepare(inputs: Tensors) -> Callable[[], Any]:
        import torch

        if not compiled:
            mode = "max-autotune-no-cudagraphs"
            compiled.append(torch.compile(function, mode=mode, dynamic=False))
        compiled[0](*inputs)
        return lambda: compiled[0](*inputs)

    return prepare


def without_peers(case: KernelCase, parts: Sequence[str]) -> KernelCase:
    """The case with the peers that are not wanted replaced by ones that say so.

    Args:
        case: With all its peers.
        parts: Each a part of a peer's name, or ``CASE:PEER``, parts of a case's and a peer's.
    """

    def left_out(inputs: Tensors) -> Callable[[], Any]:
        raise UsageError("left out by --skip-peer")

    peers = {
        name: left_out if any(_is_meant(part, case.name, name) for part in parts) else peer
        for name, peer in case.peers.items()
    }
    return replace(case, peers=peers)


def _is_meant(part: str, case: str, peer: str) -> bool:
    of_case, _, of_peer = part.rpartition(":")
    return of_case in case and of_peer in peer


def all_cases() -> list[KernelCase]:
    """Every case of every family, families in alphabetical order."""
    import effcompile.bench.kernels as package

    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [
        import_module(f"{package.__name__}.{name}") for name in names if name.endswith(SUFFIX)
    ]
    return [case for module in modules for case in module.cases()]


def chosen_cases(families: Sequence[str], names: Sequence[str]) -> list[KernelCase]:
    """The cases of some families, or of those names in their order; all if neither is given.

    Raises:
        UsageError: A family or a name is unknown, or nothing is left.
    """
    known = all_cases()
    _require("--family", families, {case.family for case in known})
    _require("--case", names, {case.name for case in known})
    chosen = [
        case
        for case in known
        if (not families or case.family in families) and (not names or case.name in names)
    ]
    if names:
        chosen.sort(key=lambda case: list(names).index(case.name))
    if not chosen:
        raise UsageError(
            f"no case of --family {' '.join(families)} is named {' '.join(names)}: "
            "give one of the two."
        )
    return chosen


def _require(option: str, given: Sequence[str], known: set[str]) -> None:
    if unknown := sorted(set(given) - known):
        raise UsageError(
            f"unknown {option} {', '.join(unknown)}: expected one of {', '.join(sorted(known))}."
        )
