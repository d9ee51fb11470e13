"""The bound of a layer belongs to its operators and its dtype."""

from __future__ import annotations

import pytest

from pagdeploy.check.bounds import Operator, cancelled_steps, layer_bound
from pagdeploy.check.compare import EPSILON


@pytest.mark.parametrize("precision", EPSILON)
def test_what_only_moves_or_compares_may_round_once(precision):
    moves = [Operator("Relu"), Operator("Concat"), Operator("MaxPool")]
    assert layer_bound(moves, precision) == EPSILON[precision]


def test_a_sum_grows_with_the_root_of_its_terms_in_float32_alone():
    small, large = ([Operator("Conv", terms)] for terms in (9, 900))
    assert layer_bound(small, "fp32") == 4 * EPSILON["fp32"]
    assert layer_bound(large, "fp32") == 31 * EPSILON["fp32"]
    assert layer_bound(small, "fp16") == layer_bound(large, "fp16") == 3 * EPSILON["fp16"]


def test_steps_add_up():
    both = [Operator("Mul"), Operator("Softmax")]
    assert layer_bound(both, "bf16") == (1 + 1 + 64) * EPSILON["bf16"]


def test_an_addition_that_cancels_rounds_in_units_of_its_operands():
    def steps(larger, smaller):
        operands = [(larger, 0.0), (smaller, 0.0)]
        lost = cancelled_steps(operands, larger - smaller)
        return layer_bound([Operator("Sub")], "bf16", lost) / EPSILON["bf16"]

    assert steps(1.0, 0.0) == 2
    assert steps(8.5, 7.5) == 1 + 16 / 2
    # Half a unit for each operand, and for what they leave: 0.5 - 0.49 in three digits.
    assert steps(0.5, 0.49) >= (0.5 + 0.49 + 0.01) / 0.01 / 2


def test_what_is_lost_counts_as_much_as_what_is_left():
    lost = cancelled_steps([(1.0, 0.0), (1.0, 0.0)], 1e-6)
    assert lost == pytest.approx(1e6, rel=1e-5)
    assert cancelled_steps([(1e-6, lost), (1.0, 0.0)], 1.0) == pytest.approx(1.0, rel=1e-5)
    assert cancelled_steps([(1e-6, lost), (1e-6, 0.0)], 2e-6) == pytest.approx(lost / 2)
