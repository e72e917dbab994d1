"""Ours and the peers of a case, checked against its reference before they are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effcompile.bench.harness import Contender
from effcompile.bench.kernels.case import KernelCase, Peer, Tensors
from effcompile.errors import PeerNotInstalled

OURS = "effcompile"
MOST_SETS = 64


def n_sets(case: KernelCase, cache: str, l2_bytes: int) -> int:
    """Sets of buffers: one for a hot cache, enough to pass twice the cache for a cold one."""
    return 1 if cache == "hot" else min(MOST_SETS, max(2, -(-2 * l2_bytes // case.n_bytes)))


def contenders(
    case: KernelCase, artifact: Path | str, sets: Sequence[Tensors], *, entry: str = "main"
) -> list[Contender]:
    """Everyone on the same tensors, wrong and failing ones with their reason.

    Args:
        case: Names the peers and knows the reference.
        artifact: The tuned artifact, or the reason why there is none.
        sets: Inputs, one list for each set of buffers.
        entry: The case's entry point in the artifact.
    """
    reference = [_to_numpy(one) for one in case.reference(sets[0])]
    found = [_ours(case, artifact, entry, sets, reference)]
    for name, peer in case.peers.items():
        found.append(_peer(case, name, peer, sets, reference))
    return found


def _ours(
    case: KernelCase,
    artifact: Path | str,
    entry: str,
    sets: Sequence[Tensors],
    reference: Sequence[Any],
) -> Contender:
    if isinstance(artifact, str):
        return Contender(name=OURS, error=artifact)
    from effcompile.runtime import load

    try:
        # A set of its own for parameters too, else packed weights would stay in the cache.
        modules = [load(artifact)]
        if modules[0].manifest.parameters:
            modules += [load(artifact, verify=False) for _ in sets[1:]]
        module_of = [modules[index % len(modules)] for index in range(len(sets))]
        error = _error_of(case, modules[0].function(entry)(*sets[0]), reference)
        launches = [
            module.device_call(entry, list(inputs))
            for module, inputs in zip(module_of, sets, strict=True)
        ]
    except Exception as failure:
        return Contender(name=OURS, error=_one_line(failure))
    return Contender(name=OURS, launches=() if error else launches, error=error)


def _peer(
    case: KernelCase, name: str, peer: Peer, sets: Sequence[Tensors], reference: Sequence[Any]
) -> Contender:
    try:
        launches = [peer(inputs) for inputs in sets]
        error = _error_of(case, launches[0](), reference)
    except PeerNotInstalled as missing:
        return Contender(name=name, error=str(missing))
    except Exception as failure:  # a peer that does not run here is a row that says so
        return Contender(name=name, error=_one_line(failure))
    return Contender(
        name=name, launches=() if error else [_quiet(one) for one in launches], error=error
    )


def _quiet(launch: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        launch()

    return run


def _one_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:200]}"


def _error_of(case: KernelCase, outputs: Any, reference: Sequence[Any]) -> str:
    """Where and by how much the first wrong output differs; empty if all are right."""
    several = outputs if isinstance(outputs, (list, tuple)) else (outputs,)
    sampled = list(case.sample(several))
    if len(sampled) < len(reference):
        return f"wrong result: {len(sampled)} outputs, expected {len(reference)}"
    for index, (found, expected) in enumerate(zip(sampled, reference, strict=False)):
        if problem := difference(_to_numpy(found), expected, case.tolerance):
            return f"wrong result: output {index}: {problem}"
    return ""


def difference(found: Any, expected: Any, tolerance: float) -> str:
    """Where ``found`` differs from ``expected``; empty within the tolerance.

    Args:
        found: Float64 array, or integers.
        expected: Same shape.
        tolerance: Largest difference as a share of the root mean square of ``expected``, or of
            the element itself where that is larger: rounding errors grow with what is rounded.
    """
    if found.shape != expected.shape:
        return f"shape {list(found.shape)}, expected {list(expected.shape)}"
    finite = np.isfinite(expected)
    scale = float(np.sqrt(np.mean(np.square(expected[finite])))) if finite.any() else 0.0
    apart = np.where(
        finite, np.abs(np.where(finite, found, 0.0) - np.where(finite, expected, 0.0)), 0.0
    )
    apart = np.where(
        finite | (found == expected) | (np.isnan(found) & np.isnan(expected)), apart, np.inf
    )
    size = np.maximum(np.where(finite, np.abs(expected), 0.0), scale or 1.0)
    wrong = ~(apart <= tolerance * size)
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {list(place)}: "
        f"{found[place]:.6g}, expected {expected[place]:.6g}"
    )


def _to_numpy(tensor: Any) -> Any:
    return tensor.detach().double().cpu().numpy()
