"""How much one layer may round: a bound on its error when it is given the reference's own inputs.

    bound = unit x (1 + sum over its operators of their steps)

The unit is the distance between neighbouring numbers at 1, of what the layer computes in. An
operator that only moves or compares takes no step; one that rounds its result takes one; a sum of K
products takes sqrt(K), by which independent roundings grow (Higham, Accuracy and Stability of
Numerical Algorithms, section 2.8); one that divides by, or raises, what it is given takes 64.
Errors are of the layer's scale, its largest magnitude.

Where an addition cancels, its operands were rounded in units of their own magnitude, which is
larger than what is left: each by half a unit at most (section 1.7). Of the result's scale that is

    unit / 2 x (1 + sum of the operands' largest magnitudes / the result's)

and so an addition takes half of that quotient in steps, and one at least. What it takes beyond one
reaches the layer's end only as far as its result counts in the additions behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from pagdeploy.check.compare import EPSILON

_EXACT = frozenset(
    "Abs ArgMax Cast Ceil Clip Concat DepthToSpace Equal Expand Flatten Floor Gather GatherND "
    "Greater GreaterOrEqual Identity LeakyRelu Less LessOrEqual Max MaxPool Min Neg NonZero "
    "Not OneHot Pad PAGGate Relu Reshape Round ScatterElements ScatterND Shape Sign Slice "
    "SpaceToDepth Split Squeeze Tile TopK Transpose Unsqueeze Where".split()
)
_STEEP = frozenset(
    "BatchNormalization Div Erf Exp GroupNormalization InstanceNormalization "
    "LayerNormalization Log LogSoftmax LpNormalization Pow Reciprocal ReduceL2 Resize "
    "SegAwareConv Softmax Sqrt".split()
)
_SUMS = frozenset("Conv ConvTranspose Gemm MatMul PerforatedConv".split())
_STEEP_STEPS = 64.0
ADDITIONS = frozenset("Add Sub Sum".split())
UNKNOWN_TERMS = 4096  # of a sum or a reduction whose size is not known


class Operator(NamedTuple):
    """One operator of a layer.

    Attributes:
        name: Its ONNX name, such as Conv.
        terms: Products in one of its sums, where it is a convolution or a matrix product.
    """

    name: str
    terms: int = UNKNOWN_TERMS


def cancelled_steps(operands: Sequence[tuple[float, float]], result: float) -> float:
    """Steps, of a sum's own scale, that cancelling costs beyond the one of each addition.

    Args:
        operands: Of each the largest magnitude, and the steps that it brings of this kind.
        result: The largest magnitude of the sum; not 0.
    """
    own = max(0.0, sum(magnitude for magnitude, _ in operands) / result / 2 - 1)
    return own + sum(magnitude / result * steps for magnitude, steps in operands)


def layer_bound(operators: Sequence[Operator], precision: str, cancelled: float = 0.0) -> float:
    """The largest error, of its scale, that a layer may have on the reference's inputs.

    Args:
        operators: That make up the layer.
        precision: What the layer computes in: a key of `compare.EPSILON`.
        cancelled: `cancelled_steps` at its end.
    """
    steps = sum(_steps(each, precision) for each in operators)
    return EPSILON[precision] * (1.0 + steps + cancelled)


def _steps(operator: Operator, precision: str) -> float:
    if operator.name in _EXACT:
        return 0.0
    if operator.name in _STEEP:
        return _STEEP_STEPS
    if operator.name in _SUMS:
        # The formats of 16 and 8 bits add up in more; what they round are the operands.
        return sqrt(operator.terms) if precision == "fp32" else 2.0
    if operator.name.startswith(("Reduce", "Average", "Global", "CumSum")):
        return sqrt(UNKNOWN_TERMS)
    return 1.0
