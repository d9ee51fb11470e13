"""Candidates take turns, and their runs are summed up as trtexec does."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagdeploy.measure.latency import Effort, Run, run_in_turn, summarize

LITTLE = Effort(iterations=7, warm_up_ms=0, duration_s=0)


def test_candidates_take_turns_of_one_untimed_and_three_timed_runs():
    calls: list[str] = []
    found = run_in_turn({name: lambda name=name: calls.append(name) for name in "abc"}, LITTLE)
    assert "".join(calls) == "abc" + "aaaabbbbcccc" + "bbbbccccaaaa" + "ccccaaaabbbb"
    assert {name: len(runs) for name, runs in found.items()} == dict.fromkeys("abc", 9)


def test_runs_do_not_overlap_and_lie_in_order():
    found = run_in_turn({name: lambda: sum(range(500)) for name in "ab"}, LITTLE)
    runs = sorted((run for each in found.values() for run in each), key=lambda run: run.start_ms)
    assert all(run.latency_ms == run.end_ms - run.start_ms >= 0 for run in runs)
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(runs))


def test_the_warm_up_and_the_duration_are_kept():
    start = time.perf_counter()
    found = run_in_turn({"a": lambda: time.sleep(0.001)}, Effort(1, 20, 0.05))
    assert time.perf_counter() - start >= 0.07
    assert len(found["a"]) > 3 and found["a"][0].start_ms < 20, "times begin after the warm-up"


TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=50)


@given(TIMES)
def test_statistics_are_ordered(times):
    latency = summarize([Run(0, t) for t in times], [99, 50, 90, 100])
    assert list(latency.percentiles_ms) == ["50", "90", "99", "100"]
    assert latency.runs == len(times)
    ordered = [latency.min_ms, *latency.percentiles_ms.values(), latency.max_ms]
    # Interpolation rounds.
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(ordered))
    assert ordered[-2] == pytest.approx(latency.max_ms)
    assert ordered[1] == pytest.approx(latency.median_ms) == pytest.approx(np.median(times))
    assert latency.mean_ms == pytest.approx(np.mean(times))
