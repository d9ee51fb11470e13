"""Flips near a tie are explained; every other flip is a fault."""

from __future__ import annotations

import numpy as np
import pytest

from pagdeploy.check.compare import LOGIT_BOUNDS, NETWORK_BOUNDS
from pagdeploy.check.gates import compare_gate

LOGITS = np.zeros((1, 3, 2, 2), np.float32)
LOGITS[0, 0] = [[5.0, 0.0], [1.0, -10.0]]
LOGITS[0, 1] = [[0.0, 2.0], [1.0 - 1e-5, 0.0]]
LOGITS[0, 2] = -10.0
DECIDED = LOGITS.argmax(1)[:, None].astype(np.int32)  # [[0, 1], [0, 1]]


def flipped(*at: tuple[int, int], to: int = 1) -> np.ndarray:
    """The decisions with some of them changed."""
    other = DECIDED.copy()
    for y, x in at:
        other[0, 0, y, x] = to
    return other


def test_equal_decisions_pass():
    result = compare_gate("g", LOGITS, DECIDED, DECIDED, DECIDED, own_logits=LOGITS)
    assert result.passed
    assert (result.pixels, result.flips, result.forced_flips, result.misread) == (4, 0, 0, 0)
    assert result.density == (0.5, 0.5, 0.0)
    assert result.margin_bound == pytest.approx(NETWORK_BOUNDS["fp32"] * 15, rel=1e-2)


def test_a_flip_near_a_tie_is_explained():
    near = flipped((1, 0))
    result = compare_gate("g", LOGITS, DECIDED, near, near)
    assert result.passed
    assert (result.flips, result.forced_flips, result.unexplained) == (1, 1, 0)
    assert result.worst_margin == pytest.approx(1e-5, rel=0.1)


def test_a_flip_far_from_a_tie_is_a_fault():
    far = flipped((0, 0))
    result = compare_gate("g", LOGITS, DECIDED, far, far)
    assert not result.passed
    assert (result.unexplained, result.worst_margin) == (1, 5.0)
    assert compare_gate("g", LOGITS, DECIDED, DECIDED, far).unexplained == 1


def test_free_flips_behind_an_earlier_flip_are_counted_but_no_fault():
    result = compare_gate("g", LOGITS, DECIDED, flipped((0, 0)), DECIDED)
    assert (result.flips, result.unexplained) == (1, 0)
    assert result.passed


def test_what_is_no_branch_is_a_fault_even_at_a_tie():
    for number in (-1, 3):
        odd = flipped((1, 0), to=number)
        assert compare_gate("g", LOGITS, DECIDED, odd, odd).unexplained == 1


def test_a_selection_of_another_shape_is_a_fault():
    small = DECIDED[:, :, :1]
    assert compare_gate("g", LOGITS, DECIDED, small, small).unexplained == 4


def test_infinite_logits_do_not_explain_everything():
    logits = LOGITS.copy()
    logits[0, 2] = -np.inf
    far = flipped((0, 0))
    result = compare_gate("g", logits, DECIDED, far, far)
    assert result.margin_bound == pytest.approx(NETWORK_BOUNDS["fp32"] * 10, rel=1e-2)
    assert result.unexplained == 1


def test_lower_precision_explains_more():
    logits = LOGITS.copy()
    logits[0, 1, 1, 0] = 0.9
    near = flipped((1, 0))
    assert not compare_gate("g", logits, DECIDED, near, near).passed
    assert compare_gate("g", logits, DECIDED, near, near, "fp16").passed


def test_the_lowest_index_of_a_tie_must_win():
    tied = LOGITS.copy()
    tied[0, 1, 1, 0] = 1.0
    wrong = flipped((1, 0))
    result = compare_gate("g", tied, DECIDED, wrong, wrong, own_logits=tied)
    assert (result.unexplained, result.misread) == (0, 1)
    assert not result.passed


def test_one_branch_is_always_taken():
    logits, decided = LOGITS[:, :1], np.zeros_like(DECIDED)
    assert compare_gate("g", logits, decided, decided, decided).passed
    assert not compare_gate("g", logits, decided, decided + 1, decided + 1).passed


def test_what_all_branches_have_in_common_explains_no_flip():
    offset = LOGITS + np.float32(1000)
    decided = offset.argmax(1)[:, None].astype(np.int32)
    engine = offset.copy()
    engine[0, 0] += 0.04
    own = engine.argmax(1)[:, None].astype(np.int32)
    result = compare_gate("g", offset, decided, own, own, own_logits=engine)
    assert result.logit_error == pytest.approx(0.04, rel=1e-2)
    assert not result.passed


def test_logits_that_differ_are_a_fault_even_if_no_decision_flips():
    engine = LOGITS * np.float32(1.01)
    result = compare_gate("g", LOGITS, DECIDED, DECIDED, DECIDED, own_logits=engine)
    assert (result.forced_flips, result.misread) == (0, 0)
    assert result.logit_error == pytest.approx(0.1, rel=1e-3)
    assert not result.passed


def test_a_distance_to_a_threshold_is_as_wrong_as_the_number_that_it_is_taken_from():
    """p - 0.5 of a p that is wrong by its own scale, however near to the threshold it is."""
    logits = np.array([1e-3, -1e-3], np.float32).reshape(1, 2, 1, 1)
    decided = np.zeros((1, 1, 1, 1), np.int32)
    away = np.array([1, -1], np.float32).reshape(1, 2, 1, 1)
    bound = 0.5 * LOGIT_BOUNDS["fp32"]
    near, far = logits + away * np.float32(0.9 * bound), logits + away * np.float32(1.5 * bound)
    assert not compare_gate("g", logits, decided, decided, decided, "fp32", near).passed
    assert compare_gate("g", logits, decided, decided, decided, "fp32", near, 0.5).passed
    assert not compare_gate("g", logits, decided, decided, decided, "fp32", far, 0.5).passed
