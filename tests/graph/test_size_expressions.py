"""Expressions of sizes: one form for each, and bounds that hold for every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagdeploy.graph.size_expressions import floor, lowest, never_more, unknown

STEPS = st.lists(
    st.tuples(st.integers(-3, 5), st.integers(-9, 9), st.integers(1, 6)), min_size=1, max_size=4
)


def built(steps, start="h"):
    expression = start
    for a, b, k in steps:
        expression = floor(expression, a, b, k)
    return expression


@given(STEPS)
def test_every_form_stands_for_the_same_number(steps):
    expression = built(steps)
    for size in range(1, 40):
        assert _at(expression, size) == built(steps, size)


def _at(expression, size):
    if expression == "h":
        return size
    if isinstance(expression, int):
        return expression
    _, inner, a, b, k = expression
    return (a * _at(inner, size) + b) // k


@given(STEPS, STEPS)
def test_what_is_never_more_is_less_or_equal_for_every_size(one, other):
    x, y = built(one), built(other)
    wanted = all(_at(x, size) <= _at(y, size) for size in range(1, 3000))
    if never_more(x, y):
        assert wanted
    elif isinstance(x, int) or isinstance(y, int):
        pass  # a bound of a number is not sought among sizes
    else:
        assert not wanted


@given(STEPS)
def test_the_lowest_is_a_bound(steps):
    expression = built(steps)
    if (least := lowest(expression)) is not None:
        assert all(_at(expression, size) >= least for size in range(1, 200))


@pytest.mark.parametrize(
    ("case", "pair"),
    [
        (
            "two strides of 2 are one of 4",
            (floor(floor("h", 1, 1, 2), 1, 1, 2), floor("h", 1, 3, 4)),
        ),
        ("written out", (floor(floor(floor("h", 1, -1), 1, 0, 4), 1, 1), floor("h", 1, 3, 4))),
        ("there and back", (floor(floor("h", 6), 1, 0, 6), "h")),
        ("shared factors", (floor("h", 4, 6, 8), floor("h", 2, 3, 4))),
    ],
)
def test_two_ways_to_one_form(case, pair):
    one, other = pair
    assert one == other, case


def test_a_crop_to_blocks_reaches_the_size():
    """Blocks of 4 rows cover every row."""
    rows = floor("h", 1, 1, 2)
    blocks = floor(floor(rows, 1, 3, 4), 4)
    assert never_more(rows, blocks)
    assert not never_more(blocks, rows)
    assert not never_more(rows, floor(floor("w", 1, 7, 8), 4)), "of another size"


def test_of_what_may_be_negative_there_is_no_bound():
    entry = unknown("value", 0)
    assert lowest(entry) is None and lowest(floor(entry, 1, 4)) is None
    assert not never_more(floor(entry), floor(entry, 1, 1))
    assert not never_more(-1, entry)


def test_floors_of_floors_end():
    expression = "h"
    for _ in range(5000):
        expression = floor(expression, 3, 1, 2)
    assert lowest(expression) is None
