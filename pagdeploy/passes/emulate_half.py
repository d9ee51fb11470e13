"""Compute what is of 16 bits in float32, rounding every result: half precision for any runtime.

Before, where 15360 and 16384 are the bits of 1 and 2 in float16:
    <ir_version: 8, opset_import: ["" : 17]>
    emulate (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float16[1, 1, 1, 1] w = {15360}, float16[1] b = {16384}>
    {
        x16 = Cast <to = 10> (x)
        c16 = Conv (x16, w, b)
        y16 = Relu (c16)
        y = Cast <to = 1> (y16)
    }

After:
    <ir_version: 8, opset_import: ["" : 17]>
    emulate (float[n, 1, h, w] x) => (float[n, 1, h, w] y)
    <float[1, 1, 1, 1] w = {1}, float[1] b = {2}>
    {
        x16 = Cast <to = 10> (x)
        xr = Cast <to = 1> (x16)
        c = Conv (xr, w, b)
        c16 = Cast <to = 10> (c)
        cr = Cast <to = 1> (c16)
        yr = Relu (cr)
        y = Cast <to = 1> (yr)
    }

Sums are accumulated in float32 and rounded once, as tensor cores do. This is how half precision
is verified without a GPU: onnxruntime's CPU kernels know no bfloat16, and it computes chains of
float16 operators in float32 without rounding in between, so that 300 * 300 would not overflow.
Its optimizer leaves a pair of casts alone that the graph itself asks for, from version 1.18 on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pagdeploy.graph.edit import FreshNames, constant_of, insert_cast, skip
from pagdeploy.graph.types import infer_missing_types

_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# What only moves, compares or keeps values: rounded operands give rounded results.
_EXACT = frozenset(
    "Abs Clip Concat DepthToSpace Expand Flatten Gather GatherND Identity Max MaxPool Min Neg Pad "
    "Relu Reshape ScatterND Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze Where".split()
)
_MAKES_ITS_TYPE = frozenset({"Cast", "Constant", "ConstantOfShape", "EyeLike"})


def run(model: ir.Model) -> int:
    """Emulate every 16-bit value of the main graph; returns how many."""
    infer_missing_types(model)
    if any(_is_half(value) for value in _inner_values(model)):
        for node in model.graph:
            if any(isinstance(a.value, ir.Graph) for a in node.attributes.values()):
                skip(node, "half precision inside of a subgraph is not emulated")
        return 0
    constants = [v for v in model.graph.initializers.values() if _is_half(v)]
    inputs = [value for value in model.graph.inputs if _is_half(value)]
    made = [v for node in model.graph for v in node.outputs if _is_half(v)]
    for value in constants:
        array = constant_of(value)
        if array is not None:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    names = FreshNames(model.graph)
    return len(constants) + sum(_emulate(model.graph, names, v) for v in (*inputs, *made))


def _inner_values(model: ir.Model) -> Iterator[ir.Value]:
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.graph is not model.graph:
            yield from node.outputs


def _is_half(value: ir.Value) -> bool:
    return value.dtype in _HALVES


def _emulate(graph: ir.Graph, names: FreshNames, value: ir.Value) -> bool:
    """Let the readers of a 16-bit value read a float32 one that holds the same numbers."""
    producer, half = value.producer(), value.dtype
    assert half is not None, "the caller asked"
    readers = [use for use in value.uses() if use.node.op_type != "Cast"]
    positions = [i for i, output in enumerate(graph.outputs) if output is value]
    if producer is None or producer.op_type in _MAKES_ITS_TYPE:
        if readers:  # else its casts already hand out what they should
            name = names.like(f"{value.name}.widened")
            wide = insert_cast(graph, value, ir.DataType.FLOAT, name)
            for node, index in readers:
                node.replace_input_with(index, wide)
        return bool(readers)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    if producer.op_type in _EXACT and not positions:
        return True
    everyone = list(value.uses())
    rounded = insert_cast(graph, value, half, names.like(f"{value.name}.rounded"))
    name = names.like(f"{value.name}.widened")
    wide = insert_cast(graph, rounded, ir.DataType.FLOAT, name)
    for node, index in everyone:
        node.replace_input_with(index, wide)
    if positions:  # the name belongs to the interface, and so does the type
        rounded.name, value.name = value.name, names.like(f"{value.name}.unrounded")
    for index in positions:
        graph.outputs[index] = rounded
    return True
