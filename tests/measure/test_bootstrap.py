"""The interval of a ratio: it covers the truth, widens with noise, and survives a drift."""

from __future__ import annotations

import numpy as np
import pytest

from pagdeploy.measure.bootstrap import FEWEST_ROUNDS, ratio_interval


def runs(rng, rounds, scale=1.0, noise=0.1, drift=None):
    state = np.ones(rounds) if drift is None else drift
    times = scale * state[:, None] * rng.lognormal(0, noise, (rounds, 3))
    return times.ravel().tolist()


def test_the_interval_covers_the_truth_about_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        found = ratio_interval(runs(rng, 40, 1.2), runs(rng, 40), 3, seed=trial)
        assert found.low <= found.ratio <= found.high and found.rounds == 40
        covered += found.low <= 1.2 <= found.high
    assert 180 <= covered <= 199


def test_equal_candidates_are_seldom_told_apart_and_different_ones_always():
    rng = np.random.default_rng(1)
    equal = [ratio_interval(runs(rng, 40), runs(rng, 40), 3).decided for _ in range(100)]
    assert sum(equal) <= 12
    assert all(ratio_interval(runs(rng, 40, 1.3), runs(rng, 40), 3).decided for _ in range(20))


def test_a_drift_that_both_meet_cancels():
    rng = np.random.default_rng(2)
    drift = np.repeat([1.0, 2.0], 30)  # another program comes and stays
    found = ratio_interval(runs(rng, 60, 1.1, 0.01, drift), runs(rng, 60, 1, 0.01, drift), 3)
    assert found.ratio == pytest.approx(1.1, abs=0.02) and found.decided


def test_few_rounds_decide_nothing():
    count = FEWEST_ROUNDS - 1
    found = ratio_interval([2.0] * count * 3, [1.0] * count * 3, 3)
    assert (found.ratio, found.low, found.high) == (2, 2, 2) and not found.decided


def test_swapping_the_two_inverts_the_ratio():
    rng = np.random.default_rng(3)
    a, b = runs(rng, 30, 1.5), runs(rng, 30)
    one, other = ratio_interval(a, b, 3), ratio_interval(b, a, 3)
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert (one.low, one.high) == pytest.approx((1 / other.high, 1 / other.low), rel=1e-2)
