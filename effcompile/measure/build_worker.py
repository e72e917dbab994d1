"""Build process: realises candidates and compiles them. Never touches the device.

Run as ``python -m effcompile.measure.build_worker``, or forked from a template that has called
:func:`load`. It also prepares what the device
process needs and cannot make without a compiler: inputs and references of a workload.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effcompile.errors import CompilerUnavailable
from effcompile.measure import serving
from schedules.candidate import Candidate
from schedules.target import Target
from schedules.task import Task
from schedules.workload import Workload
from search.trial import Build

if TYPE_CHECKING:
    from schedules.generic import TvmSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One candidate to build.

    Attributes:
        task: Workload and target.
        candidate: What to realise.
        library_dir: Folder of the run that receives libraries.
        cache_dir: Folder of the shared cache.
        fast_math: See ``BuildConfig``.
    """

    task: Task
    candidate: Candidate
    library_dir: str
    cache_dir: str
    fast_math: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeRequest:
    """Candidates of TVM's space are wanted.

    Attributes:
        task: Whose space.
        seeds: One per candidate; equal seeds give equal candidates in every process.
        parents: One per seed to change, or none to draw at random.
    """

    task: Task
    seeds: tuple[int, ...] = ()
    parents: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A candidate with its features."""

    candidate: Candidate
    features: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRequest:
    """Features of known candidates of TVM's space are wanted."""

    task: Task
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUpRequest:
    """Builds will come for a target of this kind."""

    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequest:
    """Inputs and reference to write for a workload."""

    workload: Workload
    seed: int
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsRequest:
    """What the device process of a target needs.

    Attributes:
        target: What to compile for.
        library_dir: Folder of the run that receives libraries.
        cache_dir: Folder of the shared cache.
    """

    target: Target
    library_dir: str
    cache_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the device process works with.

    Attributes:
        known_library: Library of the kernel whose answer is known.
        screen_path: Machine code of the kernels that compare outputs; ``None`` on CPUs.
    """

    known_library: str
    screen_path: str | None


@lru_cache(maxsize=8)
def _maker(target: Target, library_dir: str, cache_dir: str, fast_math: bool) -> Any:
    from effcompile.measure.cache import DiskCache
    from effcompile.measure.libraries import LibraryMaker

    return LibraryMaker(
        target=target,
        cache=DiskCache(Path(cache_dir)),
        folder=Path(library_dir),
        fast_math=fast_math,
    )


def build(request: BuildRequest) -> Build:
    """Realise a candidate and compile it."""
    from schedules.counts import flops_of, unique_bytes_of
    from schedules.limits import require_launchable
    from schedules.spaces import open_space

    task = request.task
    program = open_space(task, request.candidate.space).realise(request.candidate)
    maker = _maker(task.target, request.library_dir, request.cache_dir, request.fast_math)
    made: Build = maker.make(
        program,
        flops=flops_of(task.workload),
        unique_bytes=unique_bytes_of(task.workload),
    )
    require_launchable(made.stats, task.target)
    return made


def prepare(request: PrepareRequest) -> None:
    """Write inputs and reference of a workload."""
    from effcompile.measure.prepared import write_prepared

    write_prepared(request.workload, seed=request.seed, folder=Path(request.folder))


def build_tools(request: ToolsRequest) -> Tools:
    """Compile the kernel whose answer is known, and those that compare outputs."""
    from effcompile.measure.known_kernel import known_program

    maker = _maker(request.target, request.library_dir, request.cache_dir, False)
    known: Build = maker.make(known_program(request.target), flops=None, unique_bytes=None)
    return Tools(known_library=known.library_path, screen_path=_build_screen(request))


def _build_screen(request: ToolsRequest) -> str | None:
    if request.target.kind != "cuda":
        return None
    from effcompile.measure.cache import DiskCache, write_beside
    from effcompile.measure.cuda_compiler import CudaCompiler
    from effcompile.measure.screen_source import SOURCE

    cache = DiskCache(Path(request.cache_dir))
    # Comparisons must see every float as it is, also those that fast math takes for zero.
    compiler = CudaCompiler(arch=request.target.arch, cache=cache, fast_math=False)
    path = Path(request.library_dir) / "screen.cubin"
    write_beside(path, compiler.machine_code(SOURCE))
    return str(path)


def build_anchor(request: ToolsRequest) -> Build:
    """Compile the kernel that shows how a device drifts."""
    from effcompile.measure.anchor import anchor_program

    maker = _maker(request.target, request.library_dir, request.cache_dir, False)
    made: Build = maker.make(anchor_program(request.target), flops=None, unique_bytes=None)
    return made


def propose(request: ProposeRequest) -> list[Proposed | None]:
    """Draw or change candidates of TVM's space, with the features of what came of it."""
    space = _tvm_space(request.task)
    if request.parents:
        jobs = zip(request.parents, request.seeds, strict=True)
        found = [space.change(parent, seed) for parent, seed in jobs]
    else:
        found = [space.draw(seed) for seed in request.seeds]
    return [
        None
        if candidate is None
        else Proposed(candidate=candidate, features=space.feature_row(candidate).tolist())
        for candidate in found
    ]


def features(request: FeatureRequest) -> list[list[float]]:
    """Feature rows in the given order."""
    space = _tvm_space(request.task)
    return [space.feature_row(candidate).tolist() for candidate in request.candidates]


def is_searchable(request: ProposeRequest) -> bool:
    """Whether TVM's space holds anything for a task."""
    return _tvm_space(request.task).is_searchable


def _tvm_space(task: Task) -> TvmSpace:
    from schedules.generic import TvmSpace
    from schedules.spaces import open_space

    space = open_space(task, TvmSpace.name)
    assert isinstance(space, TvmSpace)
    return space


def warm_up(request: WarmUpRequest) -> None:
    """Import now what the first build would import."""
    from effcompile.measure.nvrtc import best_front_end
    from schedules import _tvm

    if request.kind == "cuda":
        _tvm.load_intrinsics("cuda")
        # The first build says it better if there is none.
        with contextlib.suppress(CompilerUnavailable):
            best_front_end()


ENDPOINTS = {
    "propose": serving.Endpoint(request=ProposeRequest, function=propose),
    "features": serving.Endpoint(request=FeatureRequest, function=features),
    "is_searchable": serving.Endpoint(request=ProposeRequest, function=is_searchable),
    "warm_up": serving.Endpoint(request=WarmUpRequest, function=warm_up),
    "build_tools": serving.Endpoint(request=ToolsRequest, function=build_tools),
    "build_anchor": serving.Endpoint(request=ToolsRequest, function=build_anchor),
    "build": serving.Endpoint(request=BuildRequest, function=build),
    "prepare": serving.Endpoint(request=PrepareRequest, function=prepare),
}


def load() -> None:
    """Import the compiler; opens no device and leaves no thread behind."""
    from effcompile.measure.driver_stub import prepare_driver
    from schedules import _tvm

    _tvm.hide_torch()
    prepare_driver()
    _tvm.load()


def main() -> None:
    """Serve builds until the parent is gone."""
    wiring = serving.join_parent(sys.argv[1:])
    load()
    serving.serve(wiring, ENDPOINTS)


if __name__ == "__main__":
    main()
