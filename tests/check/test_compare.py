"""Numbers are compared without scale, and nothing odd passes as equal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pagdeploy.check.compare import NETWORK_BOUNDS, compare

REFERENCE = np.array([[1.0, -8.0], [0.0, 4.0]], np.float32)


def changed(value: float, at: tuple[int, int] = (1, 0)) -> np.ndarray:
    """The reference with one value planted."""
    array = REFERENCE.copy()
    array[at] = value
    return array


def test_equal_arrays_pass_at_a_bound_of_zero():
    assert compare("y", REFERENCE.copy(), REFERENCE, 0.0).passed


def test_error_is_relative_to_the_largest_value_and_names_the_worst():
    result = compare("y", changed(2.0), REFERENCE, 0.2)
    assert (result.error, result.worst) == (0.25, (1, 0))
    assert (result.engine_value, result.reference_value) == (2.0, 0.0)
    assert not result.passed
    assert compare("y", changed(2.0), REFERENCE, 0.25).passed
    scaled = compare("y", changed(2.0) * 1e6, REFERENCE * 1e6, 0.2)
    assert scaled.error == pytest.approx(0.25)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_odd_values_must_stand_in_both(bad):
    odd = changed(bad)
    assert compare("y", odd.copy(), odd, 0.0).passed
    for engine, reference in ((odd, REFERENCE), (REFERENCE, odd)):
        result = compare("y", engine, reference, 1e9)
        assert not result.passed and math.isinf(result.error) and math.isinf(result.rms)
        assert result.worst == (1, 0)
    assert not compare("y", odd, changed(-math.inf if bad != -math.inf else math.inf), 1e9).passed


def test_many_small_errors_are_found_where_one_large_one_is_allowed():
    reference = np.ones(100, np.float32)
    odd, shifted = reference.copy(), reference + np.float32(0.25)
    odd[3] = 1.5
    assert compare("y", odd, reference, 0.5, 0.1).passed
    result = compare("y", shifted * 1e6, reference * 1e6, 0.5, 0.1)
    assert (result.error, result.rms, result.passed) == (0.25, 0.25, False)
    assert result.describe() == "differs by 0.25 of its root mean square (the bound is 0.1)"
    assert compare("y", shifted, reference, 0.2, 0.1).describe(" here") == (
        "differs by 0.25 of its scale here (the bound is 0.2), most at (0,)"
    )


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_the_root_mean_square_neither_overflows_nor_vanishes(size):
    result = compare("y", changed(2.0).astype("f8") * size, REFERENCE.astype("f8") * size, 1, 1)
    assert result.rms == pytest.approx(2 / 9)


def test_zeros_are_held_to_zeros():
    zeros = np.zeros((2, 2), np.float32)
    assert compare("y", zeros, zeros, 0.0).passed
    assert not compare("y", zeros + 1e-30, zeros, 1.0).passed


def test_shapes_must_be_equal():
    assert not compare("y", REFERENCE[None], REFERENCE, 1e9).passed
    empty = np.zeros((0, 3), np.float32)
    assert compare("y", empty, empty, 0.0).passed
    assert not compare("y", empty, REFERENCE, 1e9).passed


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool, np.float16])
def test_other_types_are_compared_too(dtype):
    one, other = np.array([0, 1]).astype(dtype), np.array([1, 1]).astype(dtype)
    assert compare("y", one, one.copy(), 0.0).passed
    assert not compare("y", one, other, 0.5).passed


def test_lower_precision_is_granted_more():
    assert NETWORK_BOUNDS["fp32"] < NETWORK_BOUNDS["fp16"] < NETWORK_BOUNDS["bf16"] < 1
