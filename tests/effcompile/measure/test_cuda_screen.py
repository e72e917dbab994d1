"""What a look in device memory must find: each kind of mistake, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pytest

from effcompile.measure import cuda_screen
from effcompile.measure.arguments import GUARD_BYTES, Arguments, as_bytes, place
from effcompile.measure.cuda_compiler import CudaCompiler
from effcompile.measure.cuda_device import CudaDevice
from effcompile.measure.cuda_screen import CudaScreen, open_screen
from effcompile.measure.memory import HostDevice
from effcompile.measure.prepared import Prepared, expectation_of
from effcompile.measure.screen_source import FLOAT_KERNELS, INTEGER_KERNELS, SOURCE
from schedules.dtypes import is_float, numpy_dtype
from schedules.expected import Reference
from schedules.reference import Tolerance
from schedules.workload import TensorSpec, Workload
from tests.effcompile.measure.screen_emulation import EmulatedDevice, EmulatedFunctions

TOLERANCE = Tolerance(rtol=1e-2, atol=1e-2)
DTYPES = [*FLOAT_KERNELS, "int8", "int32", "bool"]
# One element; less than a block; no multiple of anything.
SHAPES = [(1,), (3, 31), (7, 4099)]
# Every thread of a GPU has more than one element.
LARGE = (1031, 1277)


@dataclass
class Place:
    """A device with the kernels of a screen: a GPU, or this computer in its place."""

    device: Any
    functions: Any
    large: tuple[int, ...]


@pytest.fixture(scope="module", params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "emulated":
        folder = tmp_path_factory.mktemp("screen")
        return Place(EmulatedDevice(), EmulatedFunctions(folder), SHAPES[-1])
    from effcompile.measure.environment import detect_target

    device = CudaDevice()
    compiler = CudaCompiler(arch=detect_target("cuda").arch, cache=None, fast_math=False)
    return Place(device, device.load_functions(compiler.machine_code(SOURCE)), LARGE)


@dataclass
class Case:
    """A workload of one input and one output, with a right result in place."""

    workload: Workload
    prepared: Prepared
    screen: CudaScreen
    arguments: Arguments
    right: np.ndarray

    @property
    def is_right(self) -> bool:
        return self.screen.outputs_are_right(self.arguments)

    def write(self, values: np.ndarray) -> None:
        self.arguments.outputs[0].memory.write(GUARD_BYTES, as_bytes(values))

    def accepts(self, position: int, value: float) -> bool:
        """Whether a result is accepted with one element changed; it is mended afterwards."""
        wrong = self.right.copy()
        wrong.reshape(-1)[position] = value
        self.write(wrong)
        accepted = self.is_right
        self.write(self.right)
        return accepted


def make_case(
    opened: Place, shape: tuple[int, ...], dtype: str, rows: list[int] | None = None
) -> Case:
    specs = [TensorSpec(name=name, shape=shape, dtype=dtype) for name in "xy"]
    workload = Workload(
        op="generic",
        name="w",
        inputs=(specs[0],),
        outputs=(specs[1],),
        program="",
        program_hash="0",
    )
    values = np.random.default_rng(0).integers(0, 2, shape)
    exact = values.astype(np.float64) if is_float(dtype) else values.astype(dtype)
    right = values.astype(numpy_dtype(dtype))
    reference = Reference(values=exact)
    if rows is not None:
        known = exact.reshape(-1, shape[-1])[rows]
        reference = Reference(values=known, rows=np.array(rows), limits=(0.0, 1.0))
    prepared = Prepared(
        inputs=[right],
        outputs=[expectation_of(reference, TOLERANCE, dtype=dtype)],
        tolerance=TOLERANCE,
    )
    arguments = place(opened.device, workload, prepared.inputs)
    arguments.outputs[0].poison(0xFF)
    screen = open_screen(opened.device, opened.functions, prepared, arguments)
    assert screen is not None
    case = Case(workload, prepared, screen, arguments, right)
    case.write(right)
    return case


def positions(shape: tuple[int, ...]) -> list[int]:
    """The ends, around a block's edge, in the tail of 16 bytes, and some anywhere."""
    size = prod(shape)
    chosen = {0, 1, 15, 16, 255, 256, 257, size // 2, size - 17, size - 16, size - 2, size - 1}
    return sorted(one for one in chosen if 0 <= one < size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_wrong_element_is_found_wherever_it_is(opened: Place, dtype: str) -> None:
    for shape in {*SHAPES, opened.large}:
        case = make_case(opened, shape, dtype)
        assert case.is_right, f"a right result of shape {shape} is refused"
        for position in positions(shape):
            value = 1 - float(case.right.reshape(-1)[position])
            assert not case.accepts(position, value), f"element {position} of {shape}"
        assert case.is_right, f"the mended result of shape {shape} is refused"


@pytest.mark.parametrize("dtype", list(FLOAT_KERNELS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_found(opened: Place, dtype: str, value: float) -> None:
    case = make_case(opened, (7, 4099), dtype)
    for position in positions((7, 4099)):
        assert not case.accepts(position, value), f"element {position}"


@pytest.mark.parametrize("dtype", list(FLOAT_KERNELS))
def test_what_is_near_enough_is_accepted_and_what_is_just_not_is_left_to_the_host(
    opened: Place, dtype: str
) -> None:
    case = make_case(opened, (3, 31), dtype)
    position = int(np.flatnonzero(case.right.reshape(-1))[0])
    # Allowed: a hundredth of the element, and of the root mean square, about 0.7.
    assert case.accepts(position, 1.015625)
    assert case.accepts(position, 0.984375)
    assert not case.accepts(position, 1.03125)
    assert not case.accepts(position, 0.96875)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_element_that_was_never_written_is_found(opened: Place, dtype: str) -> None:
    case = make_case(opened, opened.large, dtype)
    output = case.arguments.outputs[0]
    itemsize = case.right.dtype.itemsize
    output.poison(0xFF)
    output.memory.write(GUARD_BYTES, as_bytes(case.right)[:-itemsize])
    assert not case.is_right
    output.memory.write(GUARD_BYTES, as_bytes(case.right))
    assert case.is_right


BEYOND_LIMITS = {
    **dict.fromkeys(FLOAT_KERNELS, (1.25, -0.25, np.nan)),
    **dict.fromkeys(INTEGER_KERNELS, (2,)),
}


@pytest.mark.parametrize("dtype", BEYOND_LIMITS)
def test_of_a_sample_known_rows_are_compared_and_others_keep_their_limits(
    opened: Place, dtype: str
) -> None:
    shape, rows = (2, 53, 301), [0, 17, 52, 53, 105]
    case = make_case(opened, shape, dtype, rows)
    assert case.is_right
    for row in range(106):
        for column in (0, 255, 256, 300):
            position = row * 301 + column
            flipped = 1 - case.right.reshape(-1)[position].item()
            what = f"row {row}, column {column}"
            assert case.accepts(position, flipped) == (row not in rows), what
            for value in BEYOND_LIMITS[dtype]:
                assert not case.accepts(position, value), what
    assert case.is_right


@pytest.mark.parametrize("dtype", list(INTEGER_KERNELS))
def test_outputs_that_differ_from_those_before_are_found(opened: Place, dtype: str) -> None:
    case = make_case(opened, (7, 4099), dtype, [0, 6])
    case.screen.keep(case.arguments)
    assert case.screen.are_as_kept(case.arguments)
    for position in positions((7, 4099)):
        other = case.right.copy()
        other.reshape(-1)[position] ^= 1
        case.write(other)
        assert not case.screen.are_as_kept(case.arguments), f"element {position}"
    case.write(case.right)
    assert case.screen.are_as_kept(case.arguments)


def test_a_changed_input_is_found(opened: Place) -> None:
    for dtype in ("float16", "int8"):
        case = make_case(opened, (7, 4099), dtype)
        assert case.screen.rest_is_untouched(case.arguments)
        memory = case.arguments.inputs[0].memory
        size = case.arguments.inputs[0].size_bytes
        held = as_bytes(case.right)
        for offset in (0, 15, 16, 4096, size - 13, size - 1):
            old = held[offset : offset + 1]
            memory.write(GUARD_BYTES + offset, old ^ 1)
            found = case.screen.rest_is_untouched(case.arguments)
            assert not found, f"byte {offset} of {size}, {dtype}"
            memory.write(GUARD_BYTES + offset, old.copy())
        assert case.screen.rest_is_untouched(case.arguments)


def test_a_stray_write_is_found(opened: Place) -> None:
    case = make_case(opened, (3, 31), "float16")
    for argument in (*case.arguments.inputs, *case.arguments.outputs):
        last = argument.memory.size_bytes - 1
        behind = GUARD_BYTES + argument.size_bytes
        for offset in (0, GUARD_BYTES - 1, behind, last):
            argument.memory.write(offset, np.zeros(1, np.uint8))
            found = case.screen.rest_is_untouched(case.arguments)
            assert not found, f"byte {offset} around {argument.spec.name}"
            argument.memory.fill(0xA5, offset, 1)
            assert case.screen.rest_is_untouched(case.arguments)


def test_without_room_the_host_compares(opened: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(opened, (7, 4099), "float32")
    monkeypatch.setattr(cuda_screen, "MOST_SHARE_OF_FREE_MEMORY", 1e-12)
    assert open_screen(opened.device, opened.functions, case.prepared, case.arguments) is None


def test_doubles_and_sampled_wide_integers_are_left_to_the_host() -> None:
    for dtype, reference in (
        ("float64", Reference(values=np.ones((4, 2)))),
        ("int32", Reference(values=np.ones((1, 2), np.int32), rows=np.array([0]))),
    ):
        spec = TensorSpec(name="y", shape=(4, 2), dtype=dtype)
        workload = Workload(
            op="generic", name="w", inputs=(), outputs=(spec,), program="", program_hash="0"
        )
        expected = expectation_of(reference, TOLERANCE, dtype=dtype)
        prepared = Prepared(inputs=[], outputs=[expected], tolerance=TOLERANCE)
        arguments = place(HostDevice(), workload, [])
        # Decided before the device is asked for anything.
        assert open_screen(None, None, prepared, arguments) is None  # type: ignore[arg-type]


def test_every_architecture_has_the_kernels() -> None:
    from effcompile.measure import nvrtc, toolkit

    if not toolkit.include_dirs() or nvrtc.in_process() is None:
        pytest.skip("no CUDA compiler")
    for arch in ("sm_80", "sm_90"):
        compiler = CudaCompiler(arch=arch, cache=None, fast_math=False)
        compiler.machine_code(SOURCE)
        reports = compiler.compiled[0].reports
        looks = ("bounds", "rows", "limits")
        expected = {f"outside_{look}_{kind}" for look in looks for kind in FLOAT_KERNELS.values()}
        expected |= {f"outside_limits_{kind}" for kind in INTEGER_KERNELS.values()}
        expected |= {"bytes_differ", "bytes_unlike", "rows_differ"}
        assert {one.name for one in reports} == expected
        assert all(one.spill_bytes == 0 for one in reports)
