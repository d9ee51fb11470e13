"""The bound of a layer belongs to its operators and its dtype."""

from __future__ import annotations

import pytest

from pagdeploy.check.bounds import Operator, layer_bound
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
    def bound(cancellation):
        return layer_bound([Operator("Sub", cancellation=cancellation)], "bf16") / EPSILON["bf16"]

    assert bound(1.0) == bound(2.0) == 2
    assert bound(16.0) == 9
    # Half a unit for each operand, and for what they leave: 0.5 - 0.49 in three digits.
    assert bound(99.0) >= (0.5 + 0.49 + 0.01) / 0.01 / 2
