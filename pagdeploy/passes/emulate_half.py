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
The branches of an If are emulated, too: what they give out is float32, and so is what it says.
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
    "Abs Clip Concat DepthToSpace Expand Flatten Gather GatherND Identity If Max MaxPool Min Neg "
    "Pad Relu Reshape ScatterND Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze "
    "Where".split()
)
_MAKES_ITS_TYPE = frozenset({"Cast", "Constant", "ConstantOfShape", "EyeLike"})


def run(model: ir.Model) -> int:
    """Emulate every 16-bit value, in the branches of an If too; returns how many."""
    infer_missing_types(model)
    if strange := _strange_holders(model):
        for node in strange:
            skip(node, "half precision inside of its subgraph is not emulated")
        return 0
    graphs = (model.graph, *model.graph.subgraphs())
    constants = [v for g in graphs for v in g.initializers.values() if _is_half(v)]
    inputs = [value for value in model.graph.inputs if _is_half(value)]
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    made = [value for node in nodes for value in node.outputs if _is_half(value)]
    for value in constants:
        array = constant_of(value)
        if array is not None:
            value.const_value = ir.tensor(array.astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)
    names = FreshNames(model.graph)
    return len(constants) + sum(_emulate(model.graph, names, v) for v in (*inputs, *made))


def _strange_holders(model: ir.Model) -> list[ir.Node]:
    """Nodes with 16-bit values in a subgraph that also takes some, as the body of a loop does."""
    found = []
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type == "If" and not node.domain:
            continue
        inner = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        values = [
            value
            for graph in inner
            for scope in (graph, *graph.subgraphs())
            for value in (*scope.inputs, *scope.initializers.values(), *_made(scope))
        ]
        if any(map(_is_half, values)):
            found.append(node)
    return found


def _made(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _is_half(value: ir.Value) -> bool:
    return value.dtype in _HALVES


def _emulate(main: ir.Graph, names: FreshNames, value: ir.Value) -> bool:
    """Let the readers of a 16-bit value read a float32 one that holds the same numbers.

    What a branch gives out becomes float32, and so does what its If says; the outputs of the main
    graph keep their type.
    """
    producer, half = value.producer(), value.dtype
    assert half is not None, "the caller asked"
    graph = main if producer is None or producer.graph is None else producer.graph
    assert isinstance(graph, ir.Graph)
    positions = [i for i, output in enumerate(graph.outputs) if output is value]
    promised = positions if graph is main else []
    if producer is None or producer.op_type in _MAKES_ITS_TYPE:
        readers = [use for use in value.uses() if use.node.op_type != "Cast"]
        given = positions if graph is not main else []
        if readers or given:  # else its casts already hand out what they should
            name = names.like(f"{value.name}.widened")
            wide = insert_cast(graph, value, ir.DataType.FLOAT, name)
            for node, index in readers:
                node.replace_input_with(index, wide)
            for index in given:
                graph.outputs[index] = wide
        return bool(readers or given)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    if producer.op_type in _EXACT and not promised:
        return True
    everyone = list(value.uses())
    rounded = insert_cast(graph, value, half, names.like(f"{value.name}.rounded"))
    name = names.like(f"{value.name}.widened")
    wide = insert_cast(graph, rounded, ir.DataType.FLOAT, name)
    for node, index in everyone:
        node.replace_input_with(index, wide)
    for index in positions:
        graph.outputs[index] = rounded if promised else wide
    if promised:  # the name belongs to the interface, and so does the type
        rounded.name, value.name = value.name, names.like(f"{value.name}.unrounded")
    return True
