"""Ranges are what the values held, clips lose least, and files that lie are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pagdeploy.errors import IncompatibleArtifact
from pagdeploy.measure.ranges import (
    RangeCollector,
    ValueRange,
    exact_pattern,
    float16_warnings,
    least_squares_clip,
    read_ranges,
    write_ranges,
)


def collected(*arrays: np.ndarray) -> ValueRange:
    """The range of one value that held these arrays."""
    collector = RangeCollector()
    for array in arrays:
        collector.add("x", array)
    return collector.ranges()["x"]


def test_ranges_span_all_arrays():
    seen = collected(np.array([[1, -2]], "f4"), np.array([0, 5], "f4"), np.empty(0, "f4"))
    assert (seen.low, seen.high) == (-2, 5)
    assert seen.interval[0] == -2 and 4 < seen.interval[1] <= 5


def test_nan_and_infinities_do_not_count():
    seen = collected(np.array([np.nan, np.inf, -np.inf, 3, 1], "f4"))
    assert (seen.low, seen.high) == (1, 3)
    collector = RangeCollector()
    collector.add("x", np.full(3, np.nan, "f4"))
    assert collector.ranges() == {}


def test_a_value_of_zeros_has_no_width():
    assert collected(np.zeros((2, 3), "f4")) == ValueRange(0.0, 0.0, 0.0, 0.0)


def test_numbers_below_the_smallest_normal_one_are_counted():
    assert collected(np.array([0, 1e-6, 1e-5, 1, -1e-7], "f4")).tiny == 0.75


def squared_error(x: np.ndarray, clip: float) -> float:
    """Of symmetric quantization to 8 bits."""
    step = clip / 127
    return float(np.square(np.clip(np.round(x / step), -127, 127) * step - x).mean())


@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace"])
def test_no_other_clip_loses_less(kind):
    rng = np.random.default_rng(0)
    x = np.abs(getattr(rng, kind)(size=20000)).astype("f4")
    clip = least_squares_clip(x, float(x.max()))
    best = min(squared_error(x, c) for c in np.linspace(0.05, 1, 200) * x.max())
    assert squared_error(x, clip) <= 1.02 * best
    assert clip < 0.95 * x.max() if kind == "laplace" else clip > 0.5 * x.max()


def test_large_arrays_are_sampled_but_their_ends_are_not():
    x = np.zeros(2_000_001, "f4")
    x[1] = 7
    seen = collected(x)
    assert seen.high == 7 and seen.clip <= 7


RANGES = {
    "far": ValueRange(-1e5, 2.0, 1e5, 0.0),
    "farther": ValueRange(0.0, 2e5, 1e5, 0.0),
    "near": ValueRange(0.0, 9000.0, 9000.0, 0.0),
    "faint": ValueRange(0.0, 1.0, 1.0, 0.6),
    "fine": ValueRange(-8000.0, 8000.0, 1.0, 0.5),
}


def test_warnings_name_the_worst_first_and_the_option_that_mends():
    neighbours = {name: [f"{name}.conv", "reader"] for name in (*RANGES, "unseen")}
    warnings = float16_warnings(RANGES, neighbours)
    assert [(w.value, w.kind) for w in warnings] == [
        ("farther", "overflow"),
        ("far", "overflow"),
        ("near", "near overflow"),
        ("faint", "underflow"),
    ]
    assert warnings[0].nodes == ("farther.conv", "reader")
    assert warnings[1].message == (
        "The value 'far' reaches 1e+05, and float16 ends at 65504:"
        r" --keep-fp32 '^(far\.conv|reader)$'."
    )
    assert "is below 6e-05 in 60% of its nonzero numbers" in warnings[3].message


def test_patterns_match_these_names_only():
    assert exact_pattern(["a.b"]) == r"^a\.b$"
    assert exact_pattern(["a", "b", "a"]) == "^(a|b)$"


def test_ranges_are_read_as_they_were_written(tmp_path):
    write_ranges(tmp_path / "c.json", RANGES)
    assert read_ranges(tmp_path / "c.json") == RANGES


GOOD = {"low": 0.0, "high": 1.0, "clip": 1.0, "tiny": 0.0}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"version": 2, "values": {}}',
        '{"version": 1}',
        '{"version": 1, "values": []}',
        *(
            json.dumps({"version": 1, "values": {"x": {**GOOD, **bad}}})
            for bad in (
                {"low": 2.0},
                {"low": float("nan")},
                {"high": float("inf")},
                {"clip": -1.0},
                {"tiny": 1.5},
                {"low": "0"},
                {"low": True},
                {"more": 1.0},
                {"low": None},
                {"high": [1.0]},
            )
        ),
    ],
)
def test_ranges_that_cannot_be_right_are_refused(tmp_path, content):
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(IncompatibleArtifact, match="does not hold the ranges of a calibration"):
        read_ranges(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(IncompatibleArtifact, match="does not hold the ranges"):
        read_ranges(tmp_path / "none.json")
