"""Noise by its quantiles: what operators make of uniform draws, and whether that is a gate's noise.

A draw is followed as an array, its value at each of some quantiles, and goes through the graph's
own operators, so that no list of ways to write a distribution is needed. A sum of independent draws
is kept as its terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.mask_tables import ELEMENTWISE, uniform

Array = npt.NDArray[Any]
Terms = Mapping[ir.Node, Array]
"""What each draw adds, at each of the quantiles; by the node that draws."""

QUANTILES = np.linspace(0.05, 0.95, 37)  # as many on either side of 1/2
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_GUMBEL = -np.log(-np.log(QUANTILES))
_LOGISTIC = np.log(QUANTILES) - np.log1p(-QUANTILES)
_TOLERANCE = 1e-3  # relative: what is added to keep logarithms finite is far smaller
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    **ELEMENTWISE,
    "Exp": np.exp,
    "Log": np.log,
    "Reciprocal": np.reciprocal,
}
_LINEAR = frozenset({"Cast", "Div", "Mul", "Neg"})
_MOVES = frozenset("Flatten Identity Reshape Squeeze Transpose Unsqueeze".split())


def drawn_by(node: ir.Node) -> Array:
    """What a RandomUniform or RandomUniformLike draws."""
    low = node.attributes.get_float("low", 0.0)
    high = node.attributes.get_float("high", 1.0)
    return low + (high - low) * QUANTILES


def made_of_draws(node: ir.Node, known: Mapping[ir.Value, Terms]) -> Terms | None:
    """What a node makes of draws and numbers alone; None if it reads something else."""
    draws = [known[value] for value in node.inputs if value is not None and value in known]
    sources = {source for terms in draws for source in terms}
    if node.op_type in _MOVES:
        return draws[0]
    if len(draws) == 2 and len(sources) == sum(map(len, draws)):
        return summed(node, *draws)
    if node.op_type not in _FUNCTIONS:
        return None
    if len(sources) > 1:  # a sum, of which only what is linear can be said term by term
        linear = node.op_type in _LINEAR and len(draws) == 1
        if not linear or (node.op_type == "Div" and node.inputs[0] not in known):
            return None
    if node.op_type == "Cast" and node.outputs[0].dtype not in FLOATS:
        return None
    made: dict[ir.Node, Array] = {}
    for source in sources:
        arguments: list[Array] = []
        for index, value in enumerate(node.inputs):
            if value is not None and value in known:
                arguments.append(known[value][source])
                continue
            number = _absent(node, index) if value is None else number_of(value)
            if number is None:
                return None
            arguments.append(np.asarray(number))
        with np.errstate(all="ignore"):
            result = np.asarray(_FUNCTIONS[node.op_type](*arguments))
        made[source] = np.broadcast_to(result, QUANTILES.shape)
    return made


def summed(node: ir.Node, left: Terms, right: Terms) -> Terms | None:
    """What an Add or a Sub makes of independent noise; None of noise that shares a draw."""
    if node.op_type not in ("Add", "Sub") or left.keys() & right.keys():
        return None
    sign = -1 if node.op_type == "Sub" else 1
    return {**left, **{source: sign * term for source, term in right.items()}}


def number_of(value: ir.Value) -> Array | None:
    """The number that a value holds everywhere, of shape ()."""
    array, node = constant_of(value), value.producer()
    if array is not None:
        return uniform(array)
    if node is None or node.domain:
        return None
    if node.op_type == "ConstantOfShape":
        tensor = node.attributes.get("value")
        return np.zeros((), np.float32) if tensor is None else tensor.as_tensor().numpy()[0]
    first = node.inputs[0] if node.op_type in ("Expand", "Identity") else None
    return None if first is None else number_of(first)


def is_gate_noise(term: Array) -> bool:
    """Whether noise is Gumbel's, or logistic, whatever its scale and its mean."""
    if term.dtype.kind != "f" or not np.isfinite(term).all() or not np.ptp(term):
        return False
    for shape in (_GUMBEL, _LOGISTIC):
        basis = np.stack([shape, np.ones_like(shape)], 1)
        fit = np.linalg.lstsq(basis, term, rcond=None)[0]
        if np.abs(basis @ fit - term).max() <= _TOLERANCE * abs(fit[0]):
            return True
    return False


def is_even(terms: Sequence[Array]) -> bool:
    """Whether a sum of noise is as often above zero as below.

    It is if each term is, or stands beside its own negative from a draw of its own.
    """
    scale = max(float(np.ptp(term)) for term in terms) * _TOLERANCE
    uneven = [term for term in terms if np.abs(term + term[::-1]).max() > scale]
    while uneven:
        term = uneven.pop()
        twin = next((n for n, t in enumerate(uneven) if np.abs(term + t).max() <= scale), None)
        if twin is None:
            return False
        uneven.pop(twin)
    return True


def _absent(node: ir.Node, index: int) -> Array | None:
    """What an operand that is left out stands for."""
    return np.asarray((0, -np.inf, np.inf)[index]) if node.op_type == "Clip" else None
