from __future__ import annotations

import numpy as np
import pytest

from effcompile.errors import OpenDimensions
from effcompile.model_inputs import make_model_inputs
from effcompile.signature import ArgumentSpec, EntryPoint


def entry(*inputs: ArgumentSpec) -> EntryPoint:
    return EntryPoint(name="main", inputs=inputs, outputs=())


def spec(name: str, shape: tuple[int | str, ...], dtype: str) -> ArgumentSpec:
    return ArgumentSpec(name=name, shape=shape, dtype=dtype)


X = spec("x", (2, "T"), "bfloat16")
IDS = spec("input_ids", (1, "T"), "int64")
MASK = spec("attention_mask", (1, "T"), "int64")
TYPES = spec("token_type_ids", (8, "T"), "int64")
POSITIONS = spec("position_ids", (2, "T"), "int32")


def test_shapes_and_dtypes_follow_the_signature() -> None:
    arrays = make_model_inputs(entry(X, IDS), 0, {"T": 64})
    assert [(array.shape, array.dtype.name) for array in arrays] == [
        ((2, 64), "bfloat16"),
        ((1, 64), "int64"),
    ]


def test_integers_mean_what_their_names_say() -> None:
    ids, mask, positions, types = make_model_inputs(entry(IDS, MASK, POSITIONS, TYPES), 0, {"T": 4})
    assert set(types.flat) == {0, 1}
    assert ids.min() >= 0 and ids.max() < 16
    assert mask.tolist() == [[1, 1, 1, 1]]
    assert positions.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_same_seed_same_arrays_whatever_the_order() -> None:
    first, second = (
        make_model_inputs(entry(X, IDS), 5, {"T": 9}),
        make_model_inputs(entry(IDS, X), 5, {"T": 9})[::-1],
    )
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first[0], make_model_inputs(entry(X), 6, {"T": 9})[0])


def test_open_dimensions_need_values() -> None:
    with pytest.raises(OpenDimensions, match="dimensions T are open"):
        make_model_inputs(entry(X), 0)
