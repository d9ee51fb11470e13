"""The comparison that all other tests rely on finds differences and names the first."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.compare import assert_close, scale_free_error

EXPECTED = np.full((1, 2, 3, 4), 8.0, np.float32)


def test_first_bad_coordinate_and_its_selection_are_named():
    actual = EXPECTED.copy()
    actual[0, 1, 2, 3] = 9.0
    selection = np.zeros((1, 1, 3, 4), np.int32)
    selection[0, 0, 2, 3] = 5
    text = "1 of 24 values differ by more than 0.1 of 8; first at (0, 1, 2, 3): "
    with pytest.raises(AssertionError, match=re.escape(text)) as caught:
        assert_close(actual, EXPECTED, 0.1, selection)
    assert str(caught.value).endswith("selection there: 5")
    assert scale_free_error(actual, EXPECTED) == 0.125
    assert_close(actual, EXPECTED, 0.125)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_must_be_in_the_same_places(bad):
    other = EXPECTED.copy()
    other[0, 0, 0, 0] = bad
    assert_close(other, other.copy(), 0.0)
    with pytest.raises(AssertionError, match="1 of 24 values"):
        assert_close(other, EXPECTED, 1.0)
    with pytest.raises(AssertionError, match="1 of 24 values"):
        assert_close(EXPECTED, other, 1.0)


def test_shape_and_dtype_must_be_equal():
    with pytest.raises(AssertionError, match="dtype float16, expected float32"):
        assert_close(EXPECTED.astype(np.float16), EXPECTED, 1.0)
    with pytest.raises(AssertionError, match=re.escape("shape (2, 3, 4), expected (1, 2, 3, 4)")):
        assert_close(EXPECTED[0], EXPECTED, 1.0)
