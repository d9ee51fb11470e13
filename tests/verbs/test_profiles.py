"""Optimization profiles from what a user writes, and from what the model says."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagdeploy.errors import UsageError
from pagdeploy.verbs.profiles import make_profiles, shapes_by_profile

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 3, h, w] x, float[m] k, float[2] fixed) => (float[n, 3, h, w] y)
    { y = Relu (x) }"""
)
TYPICAL = {"x": [1, 3, 8, 8], "k": [4], "fixed": [2]}


def shape(profiles, name="x"):
    return [(p[name].min, p[name].opt, p[name].max) for p in profiles]


def test_an_input_that_comes_again_begins_the_next_profile():
    assert shapes_by_profile([]) == []
    assert shapes_by_profile(["x:1x2,k:3", "x:4x5"]) == [{"x": [1, 2], "k": [3]}, {"x": [4, 5]}]
    assert shapes_by_profile(["x:[1,2]", "k:3", "k:4"]) == [{"x": [1, 2], "k": [3]}, {"k": [4]}]


def test_without_a_word_the_typical_shape_is_the_only_one():
    (profile,) = make_profiles(MODEL, TYPICAL)
    assert set(profile) == {"x", "k"}, "a fixed size needs no profile"
    assert profile["x"].min == profile["x"].opt == profile["x"].max == [1, 3, 8, 8]


def test_a_model_of_fixed_sizes_has_no_profile():
    fixed = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    )
    assert make_profiles(fixed, {"x": [2]}) == []


def test_what_is_missing_is_filled_in():
    low, mid, high = [1, 3, 4, 4], [1, 3, 6, 6], [2, 3, 9, 9]
    assert shape(make_profiles(MODEL, TYPICAL, [{"x": low}])) == [(low, TYPICAL["x"], TYPICAL["x"])]
    assert shape(make_profiles(MODEL, TYPICAL, (), (), [{"x": high}])) == [
        (TYPICAL["x"], high, high)
    ]
    assert shape(make_profiles(MODEL, TYPICAL, [{"x": low}], [{"x": mid}], [{"x": high}])) == [
        (low, mid, high)
    ]
    two = make_profiles(MODEL, TYPICAL, [{"x": low}, {"x": mid}], (), [{"x": mid}, {"x": high}])
    assert shape(two) == [(low, mid, mid), (mid, high, high)]
    assert shape(two, "k") == [([4], [4], [4])] * 2


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"z": [1]}, "given for 'z', which is not an input. The inputs are x, k, fixed."),
        ({"fixed": [2]}, "The input 'fixed' has fixed sizes, so it has no profile."),
        ({"x": [1, 3, 8]}, "The min shape 1x3x8 does not fit the input 'x'. The model wants ?x3x"),
        ({"x": [1, 4, 8, 8]}, "The min shape 1x4x8x8 does not fit the input 'x'."),
        ({"x": [1, 3, 9, 8]}, "is not in order: 1x3x9x8, 1x3x8x8, 1x3x8x8. No size may be below"),
    ],
)
def test_what_cannot_be_gets_a_sentence(asked, text):
    with pytest.raises(UsageError) as problem:
        make_profiles(MODEL, TYPICAL, [asked])
    assert text in str(problem.value)


@given(sizes=st.lists(st.lists(st.integers(1, 99), min_size=3, max_size=3), min_size=1, max_size=4))
def test_profiles_are_in_order_whatever_is_asked(sizes):
    ordered = [sorted(each) for each in sizes]
    profiles = make_profiles(
        MODEL,
        TYPICAL,
        *([{"x": [1, 3, each[k], each[k]], "k": [each[k]]} for each in ordered] for k in range(3)),
    )
    assert [p["k"].min + p["k"].opt + p["k"].max for p in profiles] == ordered
