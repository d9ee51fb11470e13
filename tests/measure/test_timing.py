"""Candidates are timed in turn, so that all of them meet the same machine."""

from __future__ import annotations

from collections import Counter

from pagdeploy.measure.timing import time_in_turn


def test_every_candidate_runs_equally_often_and_the_order_rotates():
    calls: list[str] = []
    candidates = {name: lambda name=name: calls.append(name) for name in "abc"}
    timings = time_in_turn(candidates, rounds=6)
    assert Counter(calls) == dict.fromkeys("abc", 2 + 6)
    timed = calls[6:]
    assert [timed[i] for i in range(0, 18, 3)] == ["a", "b", "c"] * 2  # who begins each round
    assert {name: timing.runs for name, timing in timings.items()} == dict.fromkeys("abc", 6)
    assert all(0 <= timing.median_ms <= timing.p95_ms for timing in timings.values())


def test_three_rounds_are_taken_even_without_time():
    assert time_in_turn({"a": lambda: None}, rounds=50, budget_seconds=0.0)["a"].runs == 3


def test_slower_candidates_measure_slower():
    timings = time_in_turn({"fast": lambda: None, "slow": lambda: sum(range(200_000))}, rounds=5)
    assert timings["slow"].median_ms > timings["fast"].median_ms
