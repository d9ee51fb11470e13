"""Which axes of a graph have the same size for sure, also where no size is known.

Shape inference leaves dynamic sizes behind a convolution unnamed. Here a size is an expression of
the sizes of the model's inputs, so that two values computed in different ways can be seen to fit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import onnx_ir as ir

from pagdeploy.graph.edit import constant_of
from pagdeploy.graph.sizes import (
    ONE,
    REARRANGED,
    Size,
    Sizes,
    broadcast,
    picked,
    reduced,
    scaled,
    windows_along,
)
from pagdeploy.ops import DOMAIN

_LIKE_FIRST = frozenset(
    "BatchNormalization Clip Dropout HardSigmoid HardSwish Identity InstanceNormalization"
    " LayerNormalization LeakyRelu Elu Selu Celu Gelu Mish LogSoftmax Softmax Softplus Softsign"
    " Relu Sigmoid Tanh Cast CastLike Neg Abs Exp Log Sqrt Sign Round Floor Ceil Not Erf"
    " CumSum Hardmax ScatterElements RandomUniformLike RandomNormalLike QuantizeLinear"
    " DequantizeLinear".split()
)
_BROADCAST = frozenset(
    "Add Sub Mul Div Pow Max Min Sum Mean PRelu Where And Or Xor Equal Greater GreaterOrEqual Less"
    " LessOrEqual".split()
)
_WINDOWS = frozenset({"Conv", "MaxPool", "AveragePool", "PerforatedConv", "SegAwareConv"})
_REDUCTIONS = frozenset(
    "ArgMax ArgMin ReduceMax ReduceMean ReduceMin ReduceSum ReduceL1 ReduceL2 ReduceProd".split()
)


class ShapeBook:
    """The sizes of every value of the main graph, as it is now."""

    def __init__(self, model: ir.Model) -> None:
        self._sizes: dict[ir.Value, Sizes] = {}
        self._vectors: dict[ir.Value, Sizes] = {}  # what one-dimensional shape arithmetic holds
        for node in model.graph:
            derived = self._derived(node)
            for value in node.outputs:
                if (sizes := _declared(value, derived)) is not None:
                    self._sizes[value] = sizes
                derived = derived if node.op_type == "Split" else None
            self._note_vector(node)

    def of(self, value: ir.Value | None) -> Sizes | None:
        """The sizes of a value; None if not even its rank is known."""
        if value is None:
            return None
        if value not in self._sizes:
            array = constant_of(value)
            if array is not None:
                return tuple(Size(size) for size in array.shape)
            declared = _declared(value, None)
            if declared is None:
                return None
            self._sizes[value] = declared
        return self._sizes[value]

    def number(self, value: ir.Value | None) -> int | None:
        """The number that shape arithmetic comes to, if it is one and known."""
        vector = self._vector(value) or ()
        number = vector[0].expression if len(vector) == 1 else None
        return number if isinstance(number, int) else None

    def _derived(self, node: ir.Node) -> Sizes | None:
        if node.domain not in ("", DOMAIN):
            return None
        first = self.of(node.inputs[0]) if node.inputs else None
        if node.op_type in _BROADCAST:
            return broadcast([self.of(value) for value in node.inputs])
        if node.op_type == "ConstantOfShape":
            return self._vector(node.inputs[0])
        if node.op_type == "Expand":
            return broadcast([first, self._vector(node.inputs[1])])
        if node.op_type == "Reshape" and (target := self._vector(node.inputs[1])) is not None:
            return target
        if first is None:
            return None
        if node.op_type in _LIKE_FIRST:
            return first
        if node.op_type == "OneHot":
            axis = node.attributes.get_int("axis", -1) % (len(first) + 1)
            depth = self.number(node.inputs[1])
            one_hot = Size(("axis", node.outputs[0].name, axis) if depth is None else depth)
            return (*first[:axis], one_hot, *first[axis:])
        if node.op_type == "PAGGate" and len(first) == 4:
            return (first[0], ONE, *first[2:])
        if node.op_type in _WINDOWS and len(first) == 4:
            return self._window(node, first)
        if node.op_type == "GlobalAveragePool":
            return (*first[:2], *[ONE] * (len(first) - 2))
        if node.op_type in _REDUCTIONS:
            return reduced(node, first)
        if rearrange := REARRANGED.get(node.op_type):
            return rearrange(node, first)
        if node.op_type == "Gemm":
            w = self.of(node.inputs[1])
            turned: int = node.attributes.get_int("transB", 0)
            return None if w is None else (first[0], w[0 if turned else 1])
        if node.op_type == "Resize":
            return self._resized(node, first)
        return self._concatenated(node, first) if node.op_type == "Concat" else None

    def _concatenated(self, node: ir.Node, first: Sizes) -> Sizes | None:
        axis = node.attributes.get_int("axis") % len(first)
        parts = [self.of(value) for value in node.inputs]
        sizes = [part[axis].expression for part in parts if part is not None]
        numbers = [size for size in sizes if isinstance(size, int)]
        known = len(numbers) == len(parts)
        total = Size(sum(numbers) if known else (node.outputs[0].name, axis))
        return (*first[:axis], total, *first[axis + 1 :])

    def _window(self, node: ir.Node, x: Sizes) -> Sizes | None:
        weights = {"Conv": 1, "PerforatedConv": 2, "SegAwareConv": 2}.get(node.op_type)
        kernel: Sequence[Hashable] = node.attributes.get_ints("kernel_shape", [])
        channels = x[1]
        if weights is not None:
            w = self.of(node.inputs[weights])
            if w is None:
                return None
            channels, kernel = w[0], [size.expression for size in w[2:]]
        strides = node.attributes.get_ints("strides", [1, 1])
        automatic = node.attributes.get_string("auto_pad", "NOTSET")
        if automatic.startswith("SAME") and list(strides) == [1, 1]:
            return (x[0], channels, *x[2:])
        if automatic != "NOTSET" or len(kernel) != 2:
            return None
        pads = node.attributes.get_ints("pads", [0, 0, 0, 0])
        dilations = node.attributes.get_ints("dilations", [1, 1])
        if node.attributes.get_int("ceil_mode", 0) and list(strides) != [1, 1]:
            return None
        taps = [size for size in kernel if isinstance(size, int)]
        if len(taps) != 2:
            return None
        grown = [pads[a] + pads[a + 2] - dilations[a] * (taps[a] - 1) for a in range(2)]
        spatial = (windows_along(x[2 + a], grown[a], strides[a]) for a in range(2))
        return (x[0], channels, *spatial)

    def _resized(self, node: ir.Node, x: Sizes) -> Sizes | None:
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return self._vector(node.inputs[3])
        scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
        if scales is None or scales.size != len(x):
            return None
        return tuple(scaled(size, float(s)) for size, s in zip(x, scales.ravel(), strict=True))

    def _vector(self, value: ir.Value | None) -> Sizes | None:
        if value in self._vectors:
            return self._vectors[value]
        array = constant_of(value)
        if array is None or array.ndim > 1 or array.dtype.kind != "i":
            return None
        numbers = [int(number) for number in array.ravel()]
        return tuple(Size(n) for n in numbers) if min(numbers, default=0) > 0 else None

    def _note_vector(self, node: ir.Node) -> None:
        parts = [self._vector(value) for value in node.inputs]
        held: Sizes | None = None
        if node.op_type == "Shape":
            sizes = self.of(node.inputs[0])
            end = node.attributes["end"].as_int() if "end" in node.attributes else None
            held = None if sizes is None else sizes[node.attributes.get_int("start", 0) : end]
        elif node.op_type in ("Cast", "Squeeze", "Unsqueeze", "Identity"):
            held = parts[0]
        elif node.op_type == "Concat" and None not in parts:
            held = tuple(size for part in parts if part is not None for size in part)
        elif node.op_type in ("Gather", "Slice") and parts[0] is not None:
            chosen = [constant_of(value) for value in node.inputs[1:]]
            if all(array is not None and array.size for array in chosen):
                numbers = [int(number) for array in chosen for number in array.ravel()]  # type: ignore[union-attr]
                held = picked(node.op_type, parts[0], numbers)
        if held is not None:
            self._vectors[node.outputs[0]] = held


def _declared(value: ir.Value, derived: Sizes | None) -> Sizes | None:
    """What the model says of a value's sizes, filled in by what follows from its producer."""
    if value.shape is None:
        return derived
    sizes = []
    for axis, dim in enumerate(value.shape):
        known = derived[axis] if derived is not None and len(derived) == len(value.shape) else None
        if isinstance(dim, int):
            sizes.append(Size(dim))
        elif known is not None:
            sizes.append(Size(known.expression, known.name or dim.value))
        else:
            origin = ("axis", value.name, axis) if dim.value is None else ("named", dim.value)
            sizes.append(Size(origin, dim.value))
    return tuple(sizes)
